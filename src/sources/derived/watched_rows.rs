//! Runs the mapping's `keys` queries for the newest rows of the watched tables, as the projector does. A query that
//! gives something else than keys of orders causes no error: the projector then finds no order for a written row.

use std::collections::HashSet;

use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::super::catalog::Table;
use super::super::sql::ident;
use super::check::{function_path, place};
use super::savepoint_query::{Attempt, attempt};
use super::trial::Trial;
use super::watch::Watched;
use super::{Derived, function, remedy};
use crate::infra::db;

/// Number of the newest rows of a watched table for which `keys` is run.
const NEWEST_ROWS: i64 = 20;
/// Maximum number of keys that are compared with the keys of the orders.
const COMPARED_KEYS: usize = 200;
/// Maximum number of rows that are read from a `keys` query. It may give the same key several times.
const READ_KEYS: usize = 2000;
/// Time limit of the query for the newest rows of a watched table, milliseconds.
const NEWEST_MS: u32 = 1000;

/// The values of the watched column in the newest rows of a watched table.
#[derive(Debug)]
pub(super) struct Newest {
    /// The position of the watched table in the mapping, counted from 0.
    at: usize,
    /// The values as texts, without null.
    values: Vec<String>,
}

/// Reads the newest rows of each watched table, with the rights of the current role: the role that runs the expressions
/// need not read these tables. A table that the role may not read, or that takes too long, is left out.
pub(super) async fn newest(
    transaction: &mut Transaction<'_>,
    watched: &[Watched],
) -> Result<Vec<Newest>, tokio_postgres::Error> {
    // The newest rows are those with the highest primary key. In a table without one, any rows are taken, because
    // sorting a large table by another column takes long.
    const ORDER: &str = "select quote_ident(a.attname) from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] \
         where i.indrelid = $1 and i.indisprimary";
    let mut newest = Vec::new();
    for Watched {
        number, table, column, ..
    } in watched.iter().filter(|watched| watched.number > 0)
    {
        let order = transaction.query_opt(ORDER, &[&table.oid]).await?;
        let order = order.map(|row| row.try_get::<_, String>(0)).transpose()?;
        let column = ident(column);
        let sql = format!(
            "select ({column})::pg_catalog.text from {} where {column} is not null {} limit {NEWEST_ROWS}",
            table.quoted,
            order.map_or_else(String::new, |order| format!("order by {order} desc"))
        );
        transaction
            .batch_execute(&format!("set local statement_timeout = {NEWEST_MS}"))
            .await?;
        if let Attempt::Done(rows) = attempt(transaction, &sql, &[]).await? {
            let values = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            let at = number - 1;
            newest.push(Newest { at, values });
        }
    }
    Ok(newest)
}

/// One warning for each watched table whose newest rows lead to no order. The transaction must have the rights of the
/// role that runs the expressions.
pub(super) async fn warnings(
    transaction: &mut Transaction<'_>,
    trial: &Trial,
    table: &Table,
    derived: &Derived,
    newest: &[Newest],
) -> Result<Vec<String>, tokio_postgres::Error> {
    let mut warnings = Vec::new();
    for Newest { at, values } in newest.iter().filter(|newest| !newest.values.is_empty()) {
        let watch = &derived.watch[*at];
        let place = place(&watch.table);
        let keys = match &watch.keys {
            None => values.clone(),
            Some(sql) => match keys_of(transaction, table, &trial.keys(at + 1, sql), values).await? {
                Keys::Found(keys) => keys,
                Keys::Failed(reason) => {
                    warnings.push(format!("{place}: keys: {reason}"));
                    continue;
                }
            },
        };
        if has_order(transaction, table, derived, &keys).await? {
            continue;
        }
        let (id, orders) = (&derived.key, &table.quoted);
        warnings.push(match (keys.first(), &watch.keys) {
            (None, _) => {
                let rows = match values.len() {
                    1 => "row".to_owned(),
                    count => format!("{count} rows"),
                };
                format!("{place}: keys: finds no order for the newest {rows}")
            }
            (Some(key), Some(_)) => {
                format!("{place}: keys: gives `{key}` for the newest rows, and {orders} has no row with that {id}")
            }
            (Some(key), None) => format!(
                "{place}: its column {} has `{key}` in the newest rows, and {orders} has no row with that {id}: \
                 a query in `keys` finds the keys of the orders",
                watch.column
            ),
        });
    }
    Ok(warnings)
}

/// The result of a `keys` query: the keys, each once, or the reason why the query fails.
enum Keys {
    Found(Vec<String>),
    Failed(String),
}

/// Runs a `keys` query for these values of the watched column.
async fn keys_of(
    transaction: &mut Transaction<'_>,
    table: &Table,
    sql: &str,
    values: &[String],
) -> Result<Keys, tokio_postgres::Error> {
    let query = format!(
        "select (vst_k.key)::pg_catalog.text from (\n{sql}\n) vst_k (key) where vst_k.key is not null limit {READ_KEYS}"
    );
    let savepoint = db::savepoint(transaction).await?;
    savepoint.batch_execute(&function_path(table)).await?;
    let found = savepoint.query_typed(&query, &[(&values, Type::TEXT_ARRAY)]).await;
    db::roll_back(savepoint).await?;
    let rows = match found {
        Ok(rows) => rows,
        Err(error) if error.as_db_error().is_some() => return Ok(Keys::Failed(remedy::reason(&error, sql))),
        Err(error) => return Err(error),
    };
    let (mut seen, mut keys) = (HashSet::new(), Vec::new());
    for row in &rows {
        let key: String = row.try_get(0)?;
        if keys.len() < COMPARED_KEYS && seen.insert(key.clone()) {
            keys.push(key);
        }
    }
    Ok(Keys::Found(keys))
}

/// Whether the shop's table has a row with one of these keys.
async fn has_order(
    transaction: &mut Transaction<'_>,
    table: &Table,
    derived: &Derived,
    keys: &[String],
) -> Result<bool, tokio_postgres::Error> {
    let sql = format!(
        "select 1 from {} o where {} limit 1",
        table.quoted,
        function::has_key(table, derived, "$1::text[]")
    );
    if let Attempt::Done(rows) = attempt(transaction, &sql, &[&keys]).await? {
        return Ok(!rows.is_empty());
    }
    // One of the values is no value of the key's type, so no row has it. The others may be keys.
    for key in keys {
        if let Attempt::Done(rows) = attempt(transaction, &sql, &[&std::slice::from_ref(key)]).await?
            && !rows.is_empty()
        {
            return Ok(true);
        }
    }
    Ok(false)
}
