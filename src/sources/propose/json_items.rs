//! Finds the items of orders in a JSON column whose name does not say so, by what the newest rows hold.

use super::columns::{Columns, is_json, is_text, may_list};
use super::{Draft, item_synonyms};
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};
use crate::sources::items::recognise::{ListedItems, is_empty, recognise};
use crate::sources::sql::ident;

/// Maximum number of the newest rows that are examined.
const NEWEST_ROWS: usize = 20;
/// Maximum number of columns that are examined.
const EXAMINED_COLUMNS: usize = 40;
/// Maximum size of a value that is examined, bytes as Postgres stores it.
const VALUE_BYTES: usize = 64 * 1024;

/// A column whose newest values are lists of items.
pub(super) struct FoundItems<'a> {
    pub column: &'a TableColumn,
    pub listed: ListedItems,
    /// Whether the column's name says that it holds items.
    pub is_named: bool,
}

/// Finds a column of `table` whose newest values are lists of items. `None`: there is no such column.
pub(super) async fn find<'a>(
    client: &impl GenericClient,
    table: &'a Table,
    columns: &Columns<'a>,
    draft: &Draft,
) -> Result<Option<FoundItems<'a>>, catalog::Error> {
    let unused = columns.rest();
    let may = |column: &&TableColumn| may_list(column) && column.references.is_empty() && unused.contains(&column.name);
    let examined: Vec<&TableColumn> = table.columns.iter().filter(may).take(EXAMINED_COLUMNS).collect();
    if examined.is_empty() {
        return Ok(None);
    }
    let created = draft.times.iter().find(|(key, ..)| *key == "created_at");
    let newest = created.map(|(_, column, _)| column).or(draft.key.as_ref());
    let order = newest.map_or_else(String::new, |column| {
        format!("order by {} desc nulls last", ident(column))
    });
    let names: Vec<String> = examined.iter().map(|column| ident(&column.name)).collect();
    let values: Vec<String> = examined.iter().map(|column| value(column)).collect();
    let sql = format!(
        "select {} from (select {} from {} {order} limit {NEWEST_ROWS}) newest",
        values.join(", "),
        names.join(", "),
        table.quoted
    );
    let rows = client.query(&sql, &[]).await?;
    let mut found = Vec::new();
    for (at, column) in examined.into_iter().enumerate() {
        let mut values = Vec::new();
        for row in &rows {
            values.extend(row.try_get::<_, Option<String>>(at)?.filter(|value| !is_empty(value)));
        }
        let listed: Vec<ListedItems> = values.iter().filter_map(|value| recognise(value)).collect();
        let count = listed.len();
        // A mapping may reach into JSON and into these texts only.
        let may_reach = is_json(column) || matches!(column.base.as_str(), "text" | "character varying");
        let is_usable = |listed: &ListedItems| count * 2 > values.len() && (listed.path.is_none() || may_reach);
        if let Some(listed) = listed.into_iter().next().filter(is_usable) {
            let is_named = says_items(column);
            found.push(FoundItems {
                column,
                listed,
                is_named,
            });
        }
    }
    found.sort_by_key(|found| !found.is_named);
    Ok(found.into_iter().next())
}

/// Whether the column's name says that it holds items.
fn says_items(column: &TableColumn) -> bool {
    let name = column.name.to_lowercase();
    item_synonyms::ITEM_TABLES
        .iter()
        .chain(&["order", "cart"])
        .any(|part| name.contains(part))
}

/// An SQL expression for the column's value as JSON text. A value that is too long is null, and so is a text that is no
/// JSON.
fn value(column: &TableColumn) -> String {
    let name = ident(&column.name);
    let is_list = match is_text(column) {
        true => format!(" and {name} ~ '^\\s*[\\[{{]'"),
        false => String::new(),
    };
    format!("case when pg_column_size({name}) <= {VALUE_BYTES}{is_list} then to_json({name})::text end")
}
