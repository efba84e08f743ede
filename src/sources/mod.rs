//! Sources: the shop's attached tables, the meaning of their columns, and the translation of their rows.

mod access;
#[cfg(test)]
mod any_row;
pub mod attach;
mod attach_error;
pub mod canary;
pub mod catalog;
pub mod changes;
pub mod derived;
pub mod health;
mod install;
mod items;
pub mod json;
pub mod list;
pub mod lookup;
pub mod mapping;
pub mod overwritten;
pub mod overwritten_answer;
pub mod preview;
pub mod propose;
pub mod reconciler;
mod recorder;
mod redact;
pub mod registry;
mod repair;
pub mod sql;
pub mod status_change;
mod translate;
mod trigger;
pub mod validate;
mod yes_no;
pub mod zone;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::Subject;
use crate::domain::event::{SourceId, StoreId};
use crate::domain::money::{Currency, Unit};
use crate::domain::status::Status;
use mapping::{Column, Items, ItemsRef, Mapping, MoneyColumn};
pub use translate::Beside;

/// An attached table with its mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its id.
    pub id: SourceId,
    /// Its name on the wire and in commands.
    pub name: Arc<str>,
    /// Its table with the schema, as SQL writes it.
    pub table: String,
    /// The meaning of its columns.
    pub mapping: Mapping,
    /// The recorded columns, as they were when the table was attached.
    pub columns: Vec<RecordedColumn>,
}

/// A column that the trigger records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedColumn {
    /// Its name.
    pub name: String,
    /// Its type as SQL writes it, with its precision: `numeric(10,2)`.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Source {
    /// Translates a recorded row into an order or booking: `data` are its columns, a JSON object.
    pub fn translate(&self, key: &str, data: &str, beside: Beside<'_>) -> Subject {
        translate::translate(self, key, data, beside)
    }

    /// The status that people see in a recorded row; `None`: they do not see the order, or its word is not mapped.
    pub fn status_of(&self, data: &str) -> Option<Status> {
        translate::status_of(self, data)
    }

    /// The type of a whole column, as it was when the table was attached.
    fn type_of(&self, column: &Column) -> Option<&str> {
        let recorded = self.columns.iter().find(|recorded| recorded.name == column.name)?;
        column.path.is_empty().then_some(recorded.kind.as_str())
    }

    /// The unit of an amount: from the mapping; otherwise a column with a scale holds major units.
    fn unit_of(&self, money: &MoneyColumn) -> Unit {
        money
            .unit
            .unwrap_or_else(|| usual_unit(self.type_of(&money.column).unwrap_or_default()))
    }

    /// The unit of item prices; `None`: each price shows its unit by its fraction.
    fn unit_of_items(&self) -> Option<Unit> {
        let of_total = || self.mapping.fields.total.as_ref().map(|total| self.unit_of(total));
        self.mapping
            .items
            .as_ref()
            .and_then(|items| items.unit)
            .or_else(of_total)
    }

    /// The unit of a total from the mapping's own query.
    fn unit_of_details(&self, text: &str) -> Unit {
        let mapped = self.mapping.fields.total.as_ref().and_then(|total| total.unit);
        mapped.unwrap_or_else(|| items::unit_of_text(text))
    }

    fn has_items_table(&self) -> bool {
        matches!(
            &self.mapping.items,
            Some(Items {
                from: ItemsRef::Table { .. },
                ..
            })
        )
    }
}

/// The default unit of a number of this type: a type with a fraction holds major units, a whole number minor
/// units.
pub fn usual_unit(kind: &str) -> Unit {
    let scale_zero = kind.starts_with("numeric(") && (kind.ends_with(",0)") || !kind.contains(','));
    match kind {
        "smallint" | "integer" | "bigint" => Unit::Minor,
        _ if scale_zero => Unit::Minor,
        _ => Unit::Major,
    }
}

/// All sources of a database, with the settings of its stores, in one version.
#[derive(Debug, Default)]
pub struct Sources {
    /// Number of changes of sources and store settings; 0: nothing has been loaded yet.
    pub version: i64,
    by_id: HashMap<SourceId, Arc<Source>>,
    currencies: HashMap<StoreId, Currency>,
}

/// What must be translated again after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// The rows of all stores: a source was changed.
    All,
    /// The rows of these stores: their settings were changed.
    Stores(Vec<StoreId>),
}

impl Sources {
    /// Builds the sources from the rows of the database.
    pub fn new(version: i64, sources: Vec<Source>, currencies: HashMap<StoreId, Currency>) -> Self {
        let by_id = sources
            .into_iter()
            .map(|source| (source.id, Arc::new(source)))
            .collect();
        Self {
            version,
            by_id,
            currencies,
        }
    }

    /// The source with this id. That of the canaries is not among [`Sources::all`].
    pub fn get(&self, id: SourceId) -> Option<&Arc<Source>> {
        let canary = || (id == SourceId::CANARY).then(|| &*canary::SOURCE);
        self.by_id.get(&id).or_else(canary)
    }

    /// The source with this name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Source>> {
        self.by_id.values().find(|source| source.name.as_ref() == name)
    }

    /// All sources, by name.
    pub fn all(&self) -> Vec<&Arc<Source>> {
        let mut all: Vec<&Arc<Source>> = self.by_id.values().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// What must be translated again after a change from the other version.
    pub fn changes_since(&self, before: &Self) -> Changes {
        if self.by_id != before.by_id {
            return Changes::All;
        }
        let stores: HashSet<&StoreId> = self.currencies.keys().chain(before.currencies.keys()).collect();
        let changed = stores
            .into_iter()
            .filter(|store| self.currency_of(store) != before.currency_of(store));
        Changes::Stores(changed.cloned().collect())
    }

    /// The currency of each store that is set up.
    pub fn currencies(&self) -> &HashMap<StoreId, Currency> {
        &self.currencies
    }

    /// The currency of a store.
    pub fn currency_of(&self, store: &StoreId) -> Currency {
        self.currencies.get(store).copied().unwrap_or(Currency::DEFAULT)
    }
}

#[cfg(test)]
pub mod fixtures {
    //! Sources for unit tests.

    use super::*;

    /// A source with this mapping. All columns have the given types, or `text`.
    pub fn source(mapping: &str, types: &[(&str, &str)]) -> Source {
        let mapping = Mapping::from_toml(mapping).unwrap();
        let kind = |name: &str| {
            types
                .iter()
                .find(|(known, _)| *known == name)
                .map_or("text", |(_, kind)| kind)
        };
        let columns = mapping.recorded_columns().into_iter().map(|name| RecordedColumn {
            name: name.to_owned(),
            kind: kind(name).to_owned(),
        });
        Source {
            id: SourceId(1),
            name: "orders".into(),
            table: mapping.table.clone(),
            columns: columns.collect(),
            mapping,
        }
    }

    /// The mapping of the reference shop's orders.
    pub const REFERENCE: &str = r#"
        table = "public.orders"
        kind = "order"
        key = "id"
        store = "store_id"
        [status]
        column = "status"
        pending = ["pending", "new"]
        preparing = ["preparing", "confirmed"]
        ready = ["ready"]
        delivering = ["delivering"]
        completed = ["completed"]
        rejected = ["rejected"]
        cancelled = ["cancelled"]
        hidden = ["cart"]
        [fields]
        customer_name = "customer_name"
        phone = "customer_phone"
        type = "order_type"
        total = { column = "total", unit = "minor" }
        created_at = "created_at"
        [items]
        column = "items"
        [answer]
        reason = "reason"
        updated_at = "updated_at"
    "#;
}
