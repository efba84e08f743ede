//! The SQL of canaries. A canary is a node's self-test: in each round the node writes a synthetic order, and checks
//! that the event arrives. This module writes the order, deletes the journal rows of earlier rounds, and saves the
//! outcome of each round.

use std::time::Duration;

use crate::domain::event::StoreId;
use crate::infra::db::{self, Pool, QueryError};

/// For each node, the journal keeps the rows of this many newest rounds. After a start of Postgres, the newest row from
/// before the start decides which cursors are still valid (see `lineage.rs`). It may be a canary's row, so the first
/// rounds after the start must not delete it.
pub const KEPT_ROUNDS: i64 = 10;
/// If a node's next round is more than this many hours late, the node counts as stopped. Another node then deletes its
/// rows.
const GONE_HOURS: i32 = 1;

/// Inserts the synthetic order of a round. Deletes rows of this node's earlier rounds, and all rows of nodes that have
/// stopped. `next` is the longest time until this node's next round.
pub async fn send(pool: &Pool, store: &StoreId, round: &str, next: Duration) -> Result<(), QueryError> {
    const GONE: &str = "with gone as (delete from vestnik.vst_canary where until < clock_timestamp() - make_interval(hours => $1) and store <> $2 returning store) \
         delete from vestnik.vst_event where store_id in (select store from gone) and source = 0";
    const SEND: &str = "insert into vestnik.vst_canary (round, store, until, outcome) \
         select $1, $2, clock_timestamp() + make_interval(secs => $3), \
             (select outcome from vestnik.vst_canary where store = $2 order by sent_at desc limit 1)";
    const EARLIER: &str = "with earlier as (delete from vestnik.vst_canary where store = $1 and round <> $3) \
         delete from vestnik.vst_event where store_id = $1 and source = 0 and id < coalesce( \
             (select id from vestnik.vst_event where store_id = $1 and source = 0 order by id desc offset $2 limit 1), 0)";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        let (gone, send, earlier) = (
            transaction.prepare_cached(GONE).await?,
            transaction.prepare_cached(SEND).await?,
            transaction.prepare_cached(EARLIER).await?,
        );
        transaction.execute(&gone, &[&GONE_HOURS, &store.as_str()]).await?;
        transaction
            .execute(&send, &[&round, &store.as_str(), &next.as_secs_f64()])
            .await?;
        transaction
            .execute(&earlier, &[&store.as_str(), &(KEPT_ROUNDS - 1), &round])
            .await?;
        transaction.commit().await?;
        Ok(())
    })
    .await
}

/// Saves the outcome of a canary's round. `round` is the id of the round.
pub async fn conclude(pool: &Pool, round: &str, outcome: &str) -> Result<(), QueryError> {
    const CONCLUDE: &str = "update vestnik.vst_canary set outcome = $2 where round = $1";
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(CONCLUDE).await?;
        client.execute(&statement, &[&round, &outcome]).await?;
        Ok(())
    })
    .await
}

/// Ends the canary of a node that shuts down. After `GONE_HOURS`, another node deletes the rows of this node.
pub async fn retire(pool: &Pool, store: &StoreId) -> Result<(), QueryError> {
    const RETIRE: &str = "update vestnik.vst_canary set until = clock_timestamp() where store = $1";
    db::with_timeout(async {
        let client = pool.get().await?;
        client.execute(RETIRE, &[&store.as_str()]).await?;
        Ok(())
    })
    .await
}

/// Whether the database is a standby, which accepts no writes.
pub async fn is_standby(pool: &Pool) -> Result<bool, QueryError> {
    db::with_timeout(async {
        let client = pool.get().await?;
        Ok(client.query_one("select pg_is_in_recovery()", &[]).await?.try_get(0)?)
    })
    .await
}
