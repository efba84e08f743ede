//! Derived sources: their orders follow from SQL expressions over several tables. A projector runs the expressions for
//! the written keys, saves the results in a table of the engine's own, and appends the changes to the journal. From
//! there an order takes the same path as all others: lists read the engine's table as they read a shop's.

mod answer;
mod batch;
mod check;
mod function;
mod install;
pub mod preset;
mod preview;
mod project;
pub mod projector;
mod reader;
mod state;
mod watch;
mod write;

use std::time::Duration;

use super::mapping::{
    Answer, Column, CurrencyRef, Fields, Items, ItemsRef, Mapping, MoneyColumn, PaidWords, StatusWords, StoreRef,
    TimeColumn, TypeWords,
};
use super::sql::ident;
use super::{RecordedColumn, usual_unit};
use crate::domain::event::SourceId;
use crate::domain::money::Unit;
use crate::domain::status::{Status, SubjectKind};

pub(super) use answer::{answer, taken};
pub use check::{Checked, check};
pub(super) use install::{drop_sql, install, install_sql};
pub use preview::newest;
pub(super) use state::troubles;

/// The word for hidden orders.
const HIDDEN: &str = "hidden";

/// The values that an expression may define, except `store`, `status` and the items.
pub(super) const FIELDS: [&str; 16] = [
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
/// The columns that an items query may return.
pub(super) const ITEM_COLUMNS: [&str; 5] = ["name", "quantity", "price", "options", "note"];

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
fn extra_name(number: usize) -> String {
    format!("extra_{number}")
}

/// The engine's own table of a source, as SQL writes it.
pub fn projection(source: SourceId) -> String {
    format!("vestnik.vst_projection_{}", source.0)
}

/// The mapping as it is in force: where it names no unit, the types decide what amounts count. `columns` are the types
/// of the expressions, by name.
pub fn with_units(mut mapping: Mapping, columns: &[RecordedColumn]) -> Mapping {
    let unit = |name: &str| {
        columns
            .iter()
            .find(|column| column.name == name)
            .map(|column| usual_unit(&column.kind))
    };
    for (money, name) in [
        (&mut mapping.fields.total, "total"),
        (&mut mapping.fields.change_from, "change_from"),
    ] {
        if let Some(money) = money {
            money.unit = money.unit.or_else(|| unit(name));
        }
    }
    if let Some(items) = &mut mapping.items {
        items.unit = items.unit.or_else(|| unit("items.price"));
    }
    mapping
}

/// The shop's table with the mapping's joins.
fn from_clause(table: &str, derived: &Derived) -> String {
    format!("{table} o\n{}", derived.from)
}

/// The key of the row `o` as text.
fn key_text(derived: &Derived) -> String {
    format!("(o.{})::pg_catalog.text", ident(&derived.key))
}
