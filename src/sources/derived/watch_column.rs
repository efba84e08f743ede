//! Checks the column of a watched table (a table whose rows affect orders) that leads to the orders.

use super::super::catalog::Table;
use super::super::sql::ident;
use super::rights::named_table;
use crate::infra::db::GenericClient;

/// A warning that the column may not hold keys of orders, if the catalog gives a reason for doubt. `key` is the key of the
/// shop's table of orders, `orders`.
pub(super) fn doubt(watched: &Table, column: &str, orders: &Table, key: &str) -> Option<String> {
    let is_proved = watched.refers(column, orders, key) || orders.refers(key, watched, column);
    if is_proved || watched.oid == orders.oid {
        return None;
    }
    if let Some(other) = watched.other_column_with_key(column, orders, key) {
        return Some(format!(
            "column {column} has no foreign key to {}, and column {} has one: if that holds the order's key, write column = \"{}\"",
            orders.quoted, other.name, other.name
        ));
    }
    column.eq_ignore_ascii_case("id").then(|| {
        format!(
            "without `keys`, its column {column} must hold the order's key itself; otherwise a query in `keys` finds the keys"
        )
    })
}

/// Whether the watched table exists and has no such column. `table` is the name in the mapping, and `schema` the schema of
/// the shop's table of orders.
pub(super) async fn is_gone(
    client: &impl GenericClient,
    table: &str,
    column: &str,
    schema: &str,
) -> Result<bool, tokio_postgres::Error> {
    let gone = format!(
        "select not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = $3 and not a.attisdropped) \
         from pg_class c where c.oid = {}",
        named_table("$1", "$2")
    );
    let row = client.query_opt(&gone, &[&table, &ident(schema), &column]).await?;
    row.map_or(Ok(false), |row| row.try_get(0))
}
