//! Finds the orders of a direct source (one without SQL expressions) that have no store, so that nobody sees them.

use super::Context;
use super::attach::{Kept, unattached};
use super::catalog::Table;
use super::derived;
use super::incomplete_events::Incomplete;
use super::lookup_results::LookupResult;
use super::mapping::{Mapping, StoreRef};
use super::repair::store_sql;
use super::sql::ident;
use crate::domain::money::Currency;
use crate::domain::status::Status;
use crate::infra::db::GenericClient;

/// Maximum number of rows without a store that are read. The rows of the newest events are read.
const READ_ROWS: usize = 1000;

/// The line of the health report about open orders that have no store: the store's column is null, empty, or longer
/// than a store's id may be. `None`: there are no such orders among the newest events without a store.
pub(super) async fn trouble(
    client: &impl GenericClient,
    incomplete: &Incomplete,
    kept: &Kept,
    table: &Table,
    mapping: &Mapping,
) -> Result<Option<String>, tokio_postgres::Error> {
    let (StoreRef::Column(store), Some(key)) = (&mapping.store, table.column(&mapping.key)) else {
        return Ok(None);
    };
    let newest = incomplete.keys_without_store(kept.id, READ_ROWS);
    // The report names a missing column of the store on another line.
    if newest.is_empty() || table.column(store).is_none() {
        return Ok(None);
    }
    let sql = format!(
        "select l.key, {columns}::text from unnest($1::text[]) with ordinality l (key, at) join {table} t on t.{key} = l.key::{kind} \
         where {store} is null order by l.at",
        columns = table.columns_json(mapping.recorded_columns()),
        table = table.quoted,
        key = ident(&key.name),
        kind = key.kind,
        store = store_sql(mapping),
    );
    let rows = match client.query(&sql, &[&newest]).await {
        Ok(rows) => rows,
        // A key that does not fit the column's present type belongs to no row.
        Err(error) if error.as_db_error().is_some() => return Ok(None),
        Err(error) => return Err(error),
    };
    let source = unattached(table, mapping);
    let context = Context {
        currency: Currency::DEFAULT,
        lookup: LookupResult::Nothing,
    };
    let mut open = Vec::new();
    for row in &rows {
        let (key, data): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let order = source.translate(key, data, context);
        if order.visible_status().is_some_and(Status::is_open) {
            open.push(key);
        }
    }
    Ok(open.first().map(|newest| {
        let (count, orders) = (open.len(), if open.len() == 1 { "order" } else { "orders" });
        format!(
            "open orders have no store, so nobody sees them: {store} is null, empty, or longer than 200 bytes. Give them a store, and \
             they ring; or put the word of their status under `hidden`: `vestnik source edit {}`{}{count} {orders}, the newest with key {newest}",
            kept.name,
            derived::COUNTED
        )
    }))
}
