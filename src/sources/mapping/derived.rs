//! The SQL part of a derived mapping. The projector writes its results to the engine's own table, which has an ordinary
//! mapping.

use std::time::Duration;

use super::{
    Answer, Column, CurrencyRef, Fields, Items, ItemsRef, Mapping, MoneyColumn, PaidWords, StatusWords, StoreRef,
    TimeColumn, TypeWords,
};
use crate::domain::money::Unit;
use crate::domain::status::{Status, SubjectKind};

/// The value of the expression `status` for hidden orders.
pub(in crate::sources) const HIDDEN: &str = "hidden";

/// The fields that a derived mapping may define by an expression, besides `store`, `status`, `items` and the extra
/// fields.
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
/// The SQL part of a derived mapping. Its expressions refer to a row of the shop's table by the alias `o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// The column of the row's key in the shop's table.
    pub key: String,
    /// SQL with joins to the row `o`; may be empty.
    pub from: String,
    /// An expression for the store's id. If the joins give several rows for a key, the order belongs to several stores.
    pub store: String,
    /// An expression for the canonical status or `hidden`. Any other result is shown as it is and counts as `pending`.
    pub status: String,
    /// The expression of each defined field, by its name in `FIELDS`.
    pub fields: Vec<(&'static str, String)>,
    /// The expression of each extra field, by its label.
    pub extra: Vec<(String, String)>,
    /// A query for the items of a row, with the columns `name`, `quantity`, `price`, `options` and `note`.
    pub items: Option<String>,
    /// The unit of all amounts; `None`: the type of each expression decides.
    pub unit: Option<Unit>,
    /// The IANA name of the zone for times without a zone.
    pub zone: String,
    /// Maximum wait for the items of a new order, because many applications write items after the order.
    pub wait_for_items: Duration,
    /// Other tables whose rows affect an order. Their triggers tell the projector which orders to compute again.
    pub watch: Vec<Watch>,
    /// The SQL statements that an answer runs, by its status. For any other status the engine keeps the answer itself.
    pub answers: Vec<(Status, Vec<String>)>,
}

/// A table, other than the shop's table of orders, whose rows affect an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The table, quoted and with its schema, as in `public."order"`.
    pub table: String,
    /// The column from which the order's key follows.
    pub column: String,
    /// A query for the keys of the orders that belong to values of the column. `$1` is a text array of the values.
    /// `None`: the column holds the key.
    pub keys: Option<String>,
}

impl Derived {
    /// Whether a person may take an answer back: from the status `from` to the status `to` before it. An answer that
    /// statements have written into the shop's tables is taken back by statements for `to` only; the engine cannot undo
    /// it.
    pub fn can_take_back(&self, from: Status, to: Status) -> bool {
        let has_statements = |status: Status| self.answers.iter().any(|(known, _)| *known == status);
        has_statements(to) || !has_statements(from)
    }

    /// The mapping of the engine's own table, in which the projector keeps the orders of this source. `table` is the
    /// shop's table, and `url` the address of the shop's API.
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
            }),
            created_at: Some(TimeColumn {
                column: Column::whole("created_at"),
                zone: "UTC".into(),
            }),
            deleted_at: None,
            reason: column("reason"),
            minutes: column("minutes"),
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
            derived: Some(Box::new(self)),
        }
    }
}

/// The reference to a value in the column `data` of the engine's own table.
fn value(name: &str) -> Column {
    Column {
        name: "data".into(),
        path: vec![name.to_owned()],
    }
}

/// The name under which the column `data` holds the extra field with this index.
pub(in crate::sources) fn extra_name(number: usize) -> String {
    format!("extra_{number}")
}
