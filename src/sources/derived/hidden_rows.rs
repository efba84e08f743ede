//! Finds orders that the shop wrote but whose rows are hidden by row level security. The role that runs the mapping's
//! SQL expressions cannot read these rows. An order that clients have received keeps its last values. A new policy may
//! show the rows later, without a write. So the projector, the background task that computes orders, retries the
//! orders.

use std::collections::HashSet;

use super::super::Source;
use super::super::row_policy;
use super::compute::Computed;
use super::failure::{Failure, ROW_SECURITY};
use super::project::PublishedResults;
use super::reader;
use super::savepoint_query::{Attempt, end};
use super::written_rows::WrittenRows;
use super::{Derived, function};
use crate::infra::db::Transaction;

/// Finds the orders among `keys` that could not be computed because row level security hides their rows, and adds them
/// to `computed`: a failure for each, and the last values of each order that clients have received.
pub(super) async fn find(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    keys: &[String],
    computed: &mut Computed,
    published: &PublishedResults,
    rows: &WrittenRows,
) -> Result<(), tokio_postgres::Error> {
    let found: HashSet<&String> = computed.orders.iter().map(|order| &order.key).collect();
    let was_there = |key: &String| match rows.is_gone(key) {
        Some(is_gone) => !is_gone,
        None => rows.retried.contains(key) || published.is_known(key),
    };
    let is_missing = |key: &&String| !found.contains(key) && !computed.without_store.contains(*key) && was_there(key);
    let mut missing: Vec<&String> = keys.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let Some(security) = row_security(transaction, source).await? else {
        return Ok(());
    };
    // The policies now let the role read every row. Somebody may have created them only after the batch computed its
    // orders. So an order that was not retried in this batch still counts as hidden, and a later batch tries it again.
    if security.is_open {
        missing.retain(|key| !rows.retried.contains(*key));
    }
    let readable: HashSet<String> = readable(transaction, source, &missing).await?.into_iter().collect();
    // If the role can read a row, row level security does not hide it. The row's order has no result because the
    // mapping's joins leave the row out.
    missing.retain(|key| !readable.contains(*key));
    for key in missing.into_iter().cloned().collect::<Vec<String>>() {
        let kept = published.kept(&key, derived);
        let reason = security.reason(&source.mapping.table, !kept.is_empty());
        computed.failures.push(Failure::hidden_row(&key, &reason));
        match kept.is_empty() {
            true => computed.hidden.push(key),
            false => computed.orders.extend(kept),
        }
    }
    Ok(())
}

/// Finds hidden orders whose rows can be read again, at most `most`. A policy may hide carts for ever, and show the
/// orders among them later. So all hidden orders are asked for in one query.
pub(super) async fn readable_again(
    transaction: &mut Transaction<'_>,
    source: &Source,
    most: i64,
) -> Result<Vec<String>, tokio_postgres::Error> {
    const HIDDEN: &str = "select vestnik.vst_readable(key) from vestnik.vst_projection_failure \
         where source = $1 and place = $2 and is_unseen";
    let rows = transaction.query(HIDDEN, &[&source.id.0, &ROW_SECURITY]).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let hidden: Vec<&str> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let savepoint = transaction.savepoint().await?;
    let readable = format!("select {}($1::text[], $2) limit $3", function::name(source.id));
    let found = savepoint.query(&readable, &[&hidden, &function::KEY, &most]).await;
    // An error of the query is found and reported when the orders are computed.
    let Attempt::Done(found) = end(savepoint, found).await? else {
        return Ok(Vec::new());
    };
    function::keys_of(&found)
}

/// The keys among `keys` of the rows that the role that runs the mapping's expressions can read.
pub(super) async fn readable(
    transaction: &Transaction<'_>,
    source: &Source,
    keys: &[&String],
) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = format!("select {}($1::text[], $2)", function::name(source.id));
    function::keys_of(&transaction.query(&sql, &[&keys, &function::KEY]).await?)
}

/// Row level security of a table, if Postgres applies it to the role that runs the mapping's expressions.
struct RowSecurity {
    /// The role that runs the mapping's expressions, as an SQL name.
    role: String,
    /// What to do so that the role can read every row.
    advice: String,
    /// Whether the table's policies let the role that runs the mapping's expressions read every row.
    is_open: bool,
}

impl RowSecurity {
    /// The text for the health report. It says which rows of `table` are hidden from which role, and what to do.
    fn reason(&self, table: &str, is_kept: bool) -> String {
        let Self { role, advice, .. } = self;
        let (orders, end) = match is_kept {
            true => ("orders that people see", "so they keep their last values"),
            false => ("written orders", "so nobody sees them"),
        };
        format!(
            "row level security of {table} hides {orders} from role {role}, which reads the expressions, {end}: {advice}; \
             give orders that are not to be seen the status hidden"
        )
    }
}

/// The row level security of the shop's table of orders. `None`: Postgres does not apply row level security to the role
/// that runs the mapping's expressions.
async fn row_security(
    transaction: &Transaction<'_>,
    source: &Source,
) -> Result<Option<RowSecurity>, tokio_postgres::Error> {
    let active = format!(
        "select quote_ident(r.rolname), {}, {} \
         from pg_proc f join pg_roles r on r.oid = f.proowner and not r.rolsuper and not r.rolbypassrls cross join pg_class c \
         where f.oid = to_regprocedure($1) and c.oid = to_regclass($2) and c.relrowsecurity \
           and (c.relforcerowsecurity or not pg_has_role(r.oid, c.relowner, 'usage'))",
        row_policy::lets_every_row("c.oid", "'r'", "r.oid"),
        row_policy::remedy("c.oid", "'r'", "r.oid", "c.oid")
    );
    let table = &source.mapping.table;
    let found = transaction
        .query_opt(&active, &[&function::signature(source.id), table])
        .await?;
    let Some(row) = found else { return Ok(None) };
    let role: String = row.try_get(0)?;
    Ok(Some(RowSecurity {
        advice: row_policy::advice(row.try_get(2)?, &role, &reader::own_role(&role)),
        is_open: row.try_get(1)?,
        role,
    }))
}
