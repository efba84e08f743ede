//! Finds the orders that written rows of a watched table affect. A watched table is another table than the shop's table
//! of orders. The mapping's `keys` query turns values from its rows into keys of orders.

use super::super::Source;
use super::savepoint_query::{Attempt, end};
use super::{function, shorter_limit};
use crate::infra::db::Transaction;

/// Maximum number of runs of one `keys` query in one batch. The query runs again with fewer values if it has failed.
const MOST_RUNS: usize = 24;

/// The result of a `keys` query.
#[derive(Debug, Default)]
pub(super) struct Affected {
    /// The keys of the orders.
    pub keys: Vec<String>,
    /// The first error of the query.
    pub error: Option<tokio_postgres::Error>,
    /// Whether the query gives no keys at all, because it also fails without values.
    pub is_broken: bool,
    /// The values for which the query did not run, because it had run [`MOST_RUNS`] times.
    pub left_over: Vec<String>,
}

/// Runs the `keys` query of a watched table for values from rows of this table. `number` is the table's number, counted
/// from 1. If the query fails for some values only, it runs again for each half of the values, so that a bad value
/// delays no other order. If it also fails without values, it does not run again.
pub(super) async fn find(
    transaction: &mut Transaction<'_>,
    source: &Source,
    number: usize,
    values: Vec<String>,
) -> Result<Affected, tokio_postgres::Error> {
    let mut affected = Affected::default();
    let mut limit = None;
    let mut parts = vec![values];
    let mut runs = 0;
    while runs < MOST_RUNS
        && let Some(mut part) = parts.pop()
    {
        runs += 1;
        let error = match attempt(transaction, source, number, &part).await? {
            Attempt::Done(keys) => {
                affected.keys.extend(keys);
                continue;
            }
            Attempt::Failed(error) => error,
        };
        if affected.error.is_none() {
            affected.error = Some(error);
            limit = Some(shorter_limit::begin(transaction).await?);
            if let Attempt::Failed(_) = attempt(transaction, source, number, &[]).await? {
                affected.is_broken = true;
                break;
            }
        }
        if part.len() > 1 {
            let half = part.split_off(part.len() / 2);
            parts.extend([half, part]);
        }
    }
    if let Some(limit) = limit {
        limit.restore(transaction).await?;
    }
    if !affected.is_broken {
        affected.left_over = parts.concat();
    }
    Ok(affected)
}

/// Runs the `keys` query in a savepoint, so that an error of the query does not abort the whole transaction.
async fn attempt(
    transaction: &mut Transaction<'_>,
    source: &Source,
    number: usize,
    values: &[String],
) -> Result<Attempt<Vec<String>>, tokio_postgres::Error> {
    let savepoint = transaction.savepoint().await?;
    let keys = keys_of(&savepoint, source, number, values).await;
    end(savepoint, keys).await
}

/// Runs the `keys` query of a watched table for values from rows of this table. `number` is the table's number, counted
/// from 1. Fails if a result cannot be a key, such as a text where the key column is a number.
async fn keys_of(
    transaction: &Transaction<'_>,
    source: &Source,
    number: usize,
    values: &[String],
) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = format!("select {}($1::text[], $2)", function::name(source.id));
    let statement = transaction.prepare_cached(&sql).await?;
    let rows = transaction
        .query(&statement, &[&values, &function::watch_name(number)])
        .await?;
    let keys = function::keys_of(&rows)?;
    if !keys.is_empty() {
        transaction.execute(&statement, &[&keys, &function::KEY]).await?;
    }
    Ok(keys)
}
