//! The SQL part of a mapping, and the ordinary mapping of the engine's own table that it leads to.

use std::time::Duration;

use super::{
    Answer, Column, CurrencyRef, Fields, Items, ItemsRef, Mapping, MoneyColumn, PaidWords, StatusWords, StoreRef,
    TimeColumn, TypeWords,
};
use crate::domain::money::Unit;
use crate::domain::status::{Status, SubjectKind};

/// The word for hidden orders.
pub(in crate::sources) const HIDDEN: &str = "hidden";

/// The values that an expression may define, except `store`, `status` and the items.
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
/// The SQL part of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// The column of the row's key in the shop's table.
    pub key: String,
    /// Joins to the row, whose alias is `o`; may be empty.
    pub from: String,
    /// The store's id; several rows for a key mean an order of several stores.
    pub store: String,
    /// One of the canonical statuses, or `hidden`.
    pub status: String,
    /// The expression of each defined value, by its name in `FIELDS`.
    pub fields: Vec<(&'static str, String)>,
    /// Extra fields to show, by their labels.
    pub extra: Vec<(String, String)>,
    /// A query for the items of a row: `name`, `quantity`, `price`, `options`, `note`.
    pub items: Option<String>,
    /// The unit of amounts; `None`: derived from their types.
    pub unit: Option<Unit>,
    /// The IANA zone of timestamps without a zone.
    pub zone: String,
    /// How long the projector waits for the items of an order, because applications write items after the order.
    pub wait_for_items: Duration,
    /// Other tables whose rows affect an order.
    pub watch: Vec<Watch>,
    /// The statements that an answer runs, by status. For any other status the engine keeps the answer.
    pub answers: Vec<(Status, Vec<String>)>,
}

/// A table whose rows affect an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The table, as SQL writes it.
    pub table: String,
    /// The column that leads to the order's key.
    pub column: String,
    /// A query from a text array `$1` of the column's values to order keys; `None`: the column is the key itself.
    pub keys: Option<String>,
}

impl Derived {
    /// The meaning of the columns of the engine's own table, as an ordinary mapping.
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

/// The path of a value in the engine's own table.
fn value(name: &str) -> Column {
    Column {
        name: "data".into(),
        path: vec![name.to_owned()],
    }
}

/// The name of the value of an extra field, by its index.
pub(in crate::sources) fn extra_name(number: usize) -> String {
    format!("extra_{number}")
}
