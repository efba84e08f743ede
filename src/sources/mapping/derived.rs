//! The SQL part of a derived mapping: SQL expressions that define an order's values, instead of columns of one table.
//! The projector, a background task, writes the results to the source's projection table. [`Derived::mapping`] gives
//! the ordinary mapping of that table.

use std::time::Duration;

use super::{
    Answer, Column, CurrencyRef, Fields, Items, ItemsRef, Mapping, MoneyColumn, PaidWords, StatusWords, StoreRef,
    TimeColumn, TypeWords,
};
use crate::domain::money::Unit;
use crate::domain::status::{Status, SubjectKind};

/// The result of the mapping's expression `status` for a hidden order.
pub(in crate::sources) const HIDDEN: &str = "hidden";

/// The names of the fields that a derived mapping may define by an SQL expression, besides `store`, `status`, `items`
/// and the extra fields.
pub(in crate::sources) const FIELDS: [&str; 16] = [
    "number",
    "customer_name",
    "phone",
    "address",
    "comment",
    "persons",
    "payment_method",
    "paid",
    "change_from",
    "order_type",
    "total",
    "currency",
    "due_at",
    "created_at",
    "reason",
    "minutes",
];
/// The SQL part of a derived mapping, which defines an order's values by SQL expressions instead of columns. In the
/// expressions, `o` is the alias of the row of the shop's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// The column of the row's key in the shop's table.
    pub key: String,
    /// SQL joins from the row `o` to other tables; may be empty.
    pub from: String,
    /// An SQL expression for the store's id. If the joins give rows with several store ids for one key, the order
    /// belongs to all these stores.
    pub store: String,
    /// An SQL expression that gives Vestnik's status, such as `pending`, or `hidden` for a hidden order. Any other
    /// result counts as `pending`, and panels show the result as text.
    pub status: String,
    /// Each field that the mapping defines: the field's name from `FIELDS`, and its SQL expression.
    pub fields: Vec<(&'static str, String)>,
    /// The label and the SQL expression of each extra field.
    pub extra: Vec<(String, String)>,
    /// An SQL query for the items of a row, with the columns `name`, `quantity`, `price`, `options`, `note` and
    /// `category`. All columns but `name` are optional. `None`: the orders have no items.
    pub items: Option<String>,
    /// The unit of all amounts; `None`: the SQL type of each amount's expression decides.
    pub unit: Option<Unit>,
    /// The IANA name of the zone for times without a zone.
    pub zone: String,
    /// Whether the mapping names the zone. Otherwise the zone is only assumed.
    pub is_zone_named: bool,
    /// Maximum wait for the items of a new order. Many applications write the items after the order.
    pub wait_for_items: Duration,
    /// Other tables whose rows affect an order. Triggers on these tables tell the projector, a background task, which
    /// orders to compute again.
    pub watch: Vec<Watch>,
    /// For each status: the SQL statements that Vestnik runs when a person sets this status. If a status has no
    /// statements, Vestnik keeps the answer in its own table. Clients then see the answer's status instead of the
    /// shop's.
    pub answers: Vec<(Status, Vec<String>)>,
}

/// A table, other than the shop's table of orders, whose rows affect an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The table's name as the TOML has it, such as `public."order"`.
    pub table: String,
    /// The column whose values tell which orders a row affects. The values are keys of orders, or the query `keys`
    /// turns them into keys of orders.
    pub column: String,
    /// An SQL query that finds the keys of the affected orders. `$1` is a text array of values of `column`. `None`:
    /// `column` itself holds the order's key.
    pub keys: Option<String>,
}

impl Derived {
    /// Whether a person may undo an answer, so that the order returns from the status `from` to the earlier status
    /// `to`. If SQL statements wrote the answer into the shop's tables, the mapping must also have statements for `to`.
    pub fn can_take_back(&self, from: Status, to: Status) -> bool {
        let has_statements = |status: Status| self.answers.iter().any(|(known, _)| *known == status);
        has_statements(to) || !has_statements(from)
    }

    /// The ordinary mapping of the source's projection table, in which Vestnik saves the computed orders and from which
    /// it reads them. `table` is the shop's table. `url` is the address of the shop's API; `None`: the shop has no API.
    pub fn mapping(self, table: String, kind: SubjectKind, name: Option<String>, url: Option<String>) -> Mapping {
        let has = |field: &str| self.fields.iter().any(|(known, _)| *known == field);
        let column = |field: &str| has(field).then(|| value(field));
        let columns = |field: &str| column(field).into_iter().collect::<Vec<_>>();
        let money = |field: &str| {
            column(field).map(|column| MoneyColumn {
                column,
                unit: self.unit,
            })
        };
        let words = Status::ALL
            .iter()
            .map(|status| (*status, vec![status.as_str().to_owned()]));
        let fields = Fields {
            customer_name: columns("customer_name"),
            phone: columns("phone"),
            address: columns("address"),
            comment: columns("comment"),
            persons: column("persons"),
            payment_method: column("payment_method"),
            paid: column("paid").map(|column| PaidWords {
                column,
                words: Vec::new(),
            }),
            change_from: money("change_from"),
            order_type: column("order_type").map(|column| TypeWords {
                column,
                delivery: Vec::new(),
                pickup: Vec::new(),
                dine_in: Vec::new(),
            }),
            total: money("total"),
            due_at: column("due_at").map(|column| TimeColumn {
                column,
                zone: self.zone.clone(),
                is_zone_named: self.is_zone_named,
            }),
            created_at: Some(TimeColumn {
                column: Column::whole("created_at"),
                zone: "UTC".into(),
                is_zone_named: false,
            }),
            deleted_at: None,
            // Vestnik keeps a person's reason and promise here if the shop has no place for them.
            reason: Some(value("reason")),
            minutes: Some(value("minutes")),
        };
        let item = |name: &str| Some(Column::whole(name));
        let items = self.items.is_some().then(|| Items {
            from: ItemsRef::Column(value("items")),
            name: item("name"),
            quantity: item("quantity"),
            price: item("price"),
            unit: self.unit,
            note: item("note"),
            options: item("options"),
            category: item("category"),
            deleted_at: None,
        });
        let extra = (0..self.extra.len()).map(|number| (self.extra[number].0.clone(), value(&extra_name(number))));
        Mapping {
            table,
            kind,
            name,
            key: "key".into(),
            store: StoreRef::Column("store_id".into()),
            number: column("number"),
            status: StatusWords {
                column: Column::whole("status"),
                words: words.collect(),
                hidden: vec![HIDDEN.into()],
            },
            fields,
            currency: column("currency").map_or(CurrencyRef::Store, CurrencyRef::Column),
            items,
            extra: extra.collect(),
            answer: Answer {
                zone: self.zone.clone(),
                url,
                ..Answer::default()
            },
            details: None,
            details_zone: self.zone.clone(),
            derived: Some(Box::new(self)),
        }
    }
}

/// A reference to the member `name` in the JSON column `data` of the projection table, which holds the computed orders.
pub(in crate::sources) fn value(name: &str) -> Column {
    Column {
        name: "data".into(),
        path: vec![name.to_owned()],
    }
}

/// The name of an extra field in the JSON column `data` of the projection table, which holds the computed orders.
/// `number` is the field's index in the mapping.
pub(in crate::sources) fn extra_name(number: usize) -> String {
    format!("extra_{number}")
}
