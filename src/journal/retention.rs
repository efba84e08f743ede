//! Trims old events: deletes them in small batches, so that no other work waits long, and records the newest trimmed
//! transaction. If a client's cursor does not cover all deleted events, the client gets `resync_required`, and must
//! load its lists again.

use std::time::Duration;

use super::Error;
use crate::infra::db::{self, Pool};

/// Maximum number of events that one transaction deletes.
pub const TRIM_BATCH: i64 = 1000;

/// The result of deleting one batch of old events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trimmed {
    /// A full batch of this many events was deleted. There may be more events that are old enough to be deleted.
    Batch(u64),
    /// Less than a full batch was deleted, so no other event is old enough to be deleted. The field is the number of
    /// deleted events.
    Done(u64),
    /// Nothing was deleted, because another node is trimming.
    Elsewhere,
}

/// Deletes one batch of the oldest events that are older than `retention`.
pub async fn trim_batch(pool: &Pool, retention: Duration) -> Result<Trimmed, Error> {
    // Scan the lowest ids first and stop after one batch, so that the scan is short even if no event is old enough.
    const TRIM: &str = "with old as (select id, xid from (select id, xid, at from vestnik.vst_event order by id limit $2) e \
               where at < now() - make_interval(secs => $1)), \
             gone as (delete from vestnik.vst_event where id in (select id from old) returning xid), \
             noted as (update vestnik.vst_retention set trimmed_through = greatest(trimmed_through, (select xid from gone order by xid desc limit 1)) \
               where exists (select from gone)) \
         select count(*) from gone";
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    db::limit_idle_in_transaction(&transaction).await?;
    if !db::take_turn(&transaction, "trim").await? {
        return Ok(Trimmed::Elsewhere);
    }
    let statement = transaction.prepare_cached(TRIM).await?;
    let row = transaction
        .query_one(&statement, &[&retention.as_secs_f64(), &TRIM_BATCH])
        .await?;
    transaction.commit().await?;
    let removed = row.try_get::<_, i64>(0)?.unsigned_abs();
    Ok(if removed < TRIM_BATCH.unsigned_abs() {
        Trimmed::Done(removed)
    } else {
        Trimmed::Batch(removed)
    })
}
