//! Finds what keeps the look-up from reading the items in a separate table: the table or a column has another name now,
//! or the query fails.

use super::catalog::{self, NoTable, Table};
use super::lookup_failure;
use super::lookup_query::items_sql;
use super::mapping::{Items, ItemsRef, Mapping};
use crate::infra::db::{GenericClient, QueryError};

/// What the mapping names of the items table, and the database lacks.
pub(super) enum Missing {
    /// The table itself, with the reason.
    Table(NoTable),
    /// Columns, each with its key in the TOML table `[items]`. Empty: the table has every column.
    Columns(Table, Vec<(&'static str, String)>),
}

/// Finds out what the items table `name` lacks of the mapping's columns.
pub(super) async fn missing(
    client: &impl GenericClient,
    items: &Items,
    name: &str,
    order_key: &str,
) -> Result<Missing, QueryError> {
    let found = match Table::find(client, name).await {
        Ok(found) => found,
        Err(catalog::Error::NoTable(problem)) => return Ok(Missing::Table(problem)),
        Err(catalog::Error::Failed(error)) => return Err(error),
    };
    let named = items.named_columns().map(|(key, column)| (key, column.name.as_str()));
    let lacking = named
        .chain([("order_key", order_key)])
        .filter(|(_, column)| found.column(column).is_none())
        .map(|(key, column)| (key, column.to_owned()))
        .collect();
    Ok(Missing::Columns(found, lacking))
}

/// The problems for which the look-up of the items fails, one line each, with what to do. `source` is the source's name.
/// A right that is missing is not among them. Empty: the items can be read, or the mapping has no items table.
pub(super) async fn troubles(
    client: &impl GenericClient,
    source: &str,
    mapping: &Mapping,
) -> Result<Vec<String>, QueryError> {
    const CONSEQUENCE: &str = "so orders come without items";
    let Some(items) = &mapping.items else {
        return Ok(Vec::new());
    };
    let ItemsRef::Table { table: name, order_key } = &items.from else {
        return Ok(Vec::new());
    };
    let (found, lacking) = match missing(client, items, name, order_key).await? {
        Missing::Table(NoTable::Missing { .. }) => {
            return Ok(vec![format!(
                "its table of items {name} is not there any more, {CONSEQUENCE}: `vestnik source edit {source}` says which one stands for it"
            )]);
        }
        // The shop has put a view in the place of the table. Whether its query works is checked below.
        Missing::Table(_) => (name.clone(), Vec::new()),
        Missing::Columns(found, lacking) => (found.quoted, lacking),
    };
    if !lacking.is_empty() {
        let line = |(key, column): (&str, String)| {
            format!(
                "its table of items {found} has no column {column} any more (items.{key}), {CONSEQUENCE}: `vestnik source edit {source}` \
                 says which one stands for it"
            )
        };
        return Ok(lacking.into_iter().map(line).collect());
    }
    let sql = items_sql(client, items, name, order_key).await?;
    Ok(match lookup_failure::of_query(client, &sql).await? {
        Some(error) if !lookup_failure::is_denied(&error) && !lookup_failure::is_delayed(&error) => vec![format!(
            "the query for its items in {found} fails, {CONSEQUENCE}: {}; `vestnik source edit {source}` changes the mapping",
            lookup_failure::reason(client, &error).await?
        )],
        // The report on rights names a right that is missing.
        Some(_) | None => Vec::new(),
    })
}
