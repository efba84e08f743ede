//! Sources: the shop's attached tables, the meaning of their columns, and the translation of their rows. This module
//! installs the triggers that record rows in the journal, and translates recorded rows into orders for the feed.

mod access;
mod address;
#[cfg(test)]
mod any_row;
pub mod assumptions;
pub mod attach;
mod attach_error;
pub mod canary;
pub mod catalog;
pub mod changes;
mod check_lists;
pub mod derived;
pub mod health;
pub mod incomplete_events;
pub mod incomplete_orders;
mod install;
mod items;
mod items_table;
pub mod json;
mod keyless_orders;
pub mod list;
pub mod lookup;
pub mod lookup_failure;
pub mod lookup_parts;
pub mod lookup_query;
pub mod lookup_results;
pub mod mapping;
mod missed_writes;
mod missing_items;
mod missing_right;
pub mod newest_rows;
mod orders_without_store;
pub mod overwrite_finder;
pub mod overwritten_answer;
pub mod preview;
pub mod propose;
pub mod reconciler;
mod recorder;
mod redact;
pub mod registry;
mod repair;
mod replaced_table;
mod row_policy;
pub mod shifted_defaults;
pub mod sql;
mod statement_uses;
pub mod status_change;
mod status_words;
mod table_name;
mod translate;
mod trigger;
mod trigger_form;
mod unknown_words;
mod unused_currency;
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
use lookup_parts::{Part, Parts};
use mapping::{Column, Items, ItemsRef, Mapping, MoneyColumn};
pub use translate::Context;

/// A source: an attached table of a shop, with its mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The source's id in the database.
    pub id: SourceId,
    /// The source's name, as clients receive it and as commands accept it.
    pub name: Arc<str>,
    /// The table with its schema, quoted for SQL. For a derived source (one with SQL expressions), it is the source's
    /// projection table, `vestnik.vst_projection_N`, from which lists are read.
    pub table: String,
    /// The source's mapping: the meaning of the table's columns.
    pub mapping: Mapping,
    /// The columns that the trigger records, with their SQL types when the table was attached. For a derived source,
    /// whose values are SQL expressions: the names and types of the expressions.
    pub columns: Vec<RecordedColumn>,
    /// The source as it was while its mapping had the other kind, direct or derived. The events of that time have
    /// another form. `None`: the source was never of the other kind.
    pub former: Option<Arc<Source>>,
}

/// A column of a shop's table that the trigger records in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedColumn {
    /// The column's name, unquoted.
    pub name: String,
    /// The column's type in SQL, with its precision: `numeric(10,2)`.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Source {
    /// Translates a row of the journal into an order or booking. `key` is the row's key, `data` its columns as a JSON
    /// object.
    pub fn translate(&self, key: &str, data: &str, context: Context<'_>) -> Subject {
        translate::translate(self, key, data, context)
    }

    /// The canonical status of a row of the journal; `data` is a JSON object. `None`: the order is hidden or deleted,
    /// or the mapping has no meaning for its status word.
    pub fn status_of(&self, data: &str) -> Option<Status> {
        translate::status_of(self, data)
    }

    /// The source that translates a row of the journal: this one, or its former self if the row `data` is of that time.
    pub fn at_the_time_of(&self, data: &str) -> &Source {
        let is_other = |_: &&Source| derived::has_form(data) != self.mapping.derived.is_some();
        self.former.as_deref().filter(is_other).unwrap_or(self)
    }

    /// The SQL type of a column when the table was attached. `None`: the column is unknown, or the mapping refers to a
    /// value inside the column's JSON.
    fn type_of(&self, column: &Column) -> Option<&str> {
        let recorded = self.columns.iter().find(|recorded| recorded.name == column.name)?;
        column.path.is_empty().then_some(recorded.kind.as_str())
    }

    /// The unit of an amount. If the mapping has no unit, the column's type decides.
    fn unit_of(&self, money: &MoneyColumn) -> Unit {
        money
            .unit
            .unwrap_or_else(|| usual_unit(self.type_of(&money.column).unwrap_or_default()))
    }

    /// The unit of item prices: the mapping's unit for items, otherwise the unit of the total. `None`: the mapping has
    /// no unit for items and no total, so the form of each price decides (`items::unit_of_text`).
    fn unit_of_items(&self) -> Option<Unit> {
        let of_total = || self.mapping.fields.total.as_ref().map(|total| self.unit_of(total));
        self.mapping
            .items
            .as_ref()
            .and_then(|items| items.unit)
            .or_else(of_total)
    }

    /// The unit of a total that the mapping's `[details]` query returned. If the mapping has no unit, the form of the
    /// amount `text` decides.
    fn unit_of_details(&self, text: &str) -> Unit {
        let mapped = self.mapping.fields.total.as_ref().and_then(|total| total.unit);
        mapped.unwrap_or_else(|| items::unit_of_text(text))
    }

    /// The parts of the look-ups in other tables that the source's orders need. Empty: the orders need none.
    pub fn parts(&self) -> Parts {
        let items = self.has_items_table().then_some(Part::Items);
        let details = self.mapping.details.as_ref().map(|_| Part::Details);
        items.into_iter().chain(details).collect()
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

/// The unit of amounts in a column of the SQL type `kind`, if the mapping names no unit. A type of whole numbers counts
/// minor units, such as cents; a type with fractions counts major units.
pub fn usual_unit(kind: &str) -> Unit {
    let scale_zero = kind.starts_with("numeric(") && (kind.ends_with(",0)") || !kind.contains(','));
    match kind {
        "smallint" | "integer" | "bigint" => Unit::Minor,
        _ if scale_zero => Unit::Minor,
        _ => Unit::Major,
    }
}

/// All sources of a database and the currencies of its stores, as read from the database at one version.
#[derive(Debug, Default)]
pub struct Sources {
    /// The version in the database, which rises with each change of a source or of a store's settings. 0: nothing is
    /// loaded yet.
    pub version: i64,
    by_id: HashMap<SourceId, Arc<Source>>,
    currencies: HashMap<StoreId, Currency>,
}

/// The stores whose rows must be translated again after a change of sources or store settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// All stores, because a source changed.
    All,
    /// These stores, because their currency changed.
    Stores(Vec<StoreId>),
}

impl Sources {
    /// Combines the sources and the currency of each store, all read from the database at this version.
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

    /// The source with this id; `None`: no attached source has this id.
    pub fn get(&self, id: SourceId) -> Option<&Arc<Source>> {
        let canary = || (id == SourceId::CANARY).then(|| &*canary::SOURCE);
        self.by_id.get(&id).or_else(canary)
    }

    /// The source with this name; `None`: no attached source has this name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Source>> {
        self.by_id.values().find(|source| source.name.as_ref() == name)
    }

    /// All sources, sorted by name.
    pub fn all(&self) -> Vec<&Arc<Source>> {
        let mut all: Vec<&Arc<Source>> = self.by_id.values().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Compares these sources with the earlier sources `before`, and returns the stores whose rows must be translated
    /// again.
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

    /// The currency of each store that has a row in `vst_store`.
    pub fn currencies(&self) -> &HashMap<StoreId, Currency> {
        &self.currencies
    }

    /// The currency of a store; the default currency if the store has no row in `vst_store`.
    pub fn currency_of(&self, store: &StoreId) -> Currency {
        self.currencies.get(store).copied().unwrap_or(Currency::DEFAULT)
    }
}

#[cfg(test)]
pub mod fixtures {
    //! Sources for unit tests.

    use super::*;

    /// A source with this mapping. `types` gives the types of columns by name; every other column is `text`.
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
            former: None,
        }
    }

    /// A mapping, for unit tests, of the table `public.orders` that `sql/shop` creates.
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
