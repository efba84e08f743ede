//! Finds the orders that written rows of a watched table affect. A watched table is another table than the shop's table
//! of orders. The mapping's `keys` query turns values from its rows into keys of orders.

use std::collections::{BTreeMap, HashSet};

use super::super::Source;
use super::compute::{DERIVE_MS, is_of_mapping};
use super::watch::GONE;
use super::{Derived, function};
use crate::infra::db::Transaction;

/// Maximum number of runs of one `keys` query in one batch. The query runs again with fewer values if it has failed.
const MOST_RUNS: usize = 24;
/// Time limit of a `keys` query after an earlier run has failed, milliseconds.
const AFTER_FAILURE_MS: u32 = 300;

/// The result of a `keys` query.
#[derive(Debug, Default)]
pub(super) struct Affected {
    /// The keys of the orders.
    pub keys: Vec<String>,
    /// The first error of the query. The keys of the values that cause an error are missing in `keys`.
    pub error: Option<tokio_postgres::Error>,
}

/// Runs the `keys` query of a watched table for values from rows of this table. `number` is the table's number, counted
/// from 1. If the query fails, it runs again for each half of the values, so that a bad value delays no other order.
pub(super) async fn find(
    transaction: &mut Transaction<'_>,
    source: &Source,
    number: usize,
    values: Vec<String>,
) -> Result<Affected, tokio_postgres::Error> {
    let mut affected = Affected::default();
    let mut parts = vec![values];
    let mut runs = 0;
    while let Some(mut part) = parts.pop() {
        if runs == MOST_RUNS {
            break;
        }
        runs += 1;
        let savepoint = transaction.savepoint().await?;
        match keys_of(&savepoint, source, number, &part).await {
            Ok(keys) => {
                savepoint.commit().await?;
                affected.keys.extend(keys);
            }
            Err(error) if is_of_mapping(&error) => {
                savepoint.rollback().await?;
                if affected.error.is_none() {
                    affected.error = Some(error);
                    limit(transaction, AFTER_FAILURE_MS).await?;
                }
                if part.len() > 1 {
                    let half = part.split_off(part.len() / 2);
                    parts.extend([half, part]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    if affected.error.is_some() {
        limit(transaction, DERIVE_MS).await?;
    }
    Ok(affected)
}

/// The keys of the orders that the changes in the queue `vst_change` affect. Later batches compute these orders.
pub(super) async fn queued(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
) -> Result<HashSet<String>, tokio_postgres::Error> {
    const QUEUED: &str = "select distinct watch, vestnik.vst_readable(key) from vestnik.vst_change \
         where source = $1 and key is not null";
    let (mut keys, mut values) = (HashSet::new(), BTreeMap::<usize, Vec<String>>::new());
    for row in transaction.query(QUEUED, &[&source.id.0]).await? {
        let (watch, key): (i16, String) = (row.try_get(0)?, row.try_get(1)?);
        let number = usize::from(watch.unsigned_abs());
        let has_keys = number
            .checked_sub(1)
            .and_then(|at| derived.watch.get(at)?.keys.as_ref())
            .is_some();
        match watch {
            GONE => drop(keys.insert(key)),
            _ if has_keys => values.entry(number).or_default().push(key),
            _ => drop(keys.insert(key)),
        }
    }
    for (number, values) in values {
        keys.extend(find(transaction, source, number, values).await?.keys);
    }
    Ok(keys)
}

/// Sets the time limit of the transaction's next statements.
async fn limit(transaction: &Transaction<'_>, limit_ms: u32) -> Result<(), tokio_postgres::Error> {
    let sql = format!("set local statement_timeout = {limit_ms}");
    transaction.batch_execute(&sql).await
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
    let mut keys = Vec::new();
    for row in transaction
        .query(&statement, &[&values, &function::watch_name(number)])
        .await?
    {
        keys.extend(row.try_get::<_, Vec<Option<String>>>(0)?.into_iter().next().flatten());
    }
    if !keys.is_empty() {
        transaction.execute(&statement, &[&keys, &function::KEY]).await?;
    }
    Ok(keys)
}
