//! Saves that a post to an endpoint failed, and decides what follows: another attempt, the next event, or a stop of the
//! endpoint.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::lease::{Leased, Place};
use super::post::{Failed, Failure};
use crate::delivery::retry::Pauses;
use crate::infra::db::{self, Pool, QueryError};

/// The shortest and the longest pause between two attempts to post one event.
const PAUSES: Pauses = Pauses {
    first: Duration::from_secs(5),
    longest: Duration::from_secs(60 * 60),
};
/// If all posts to an endpoint have failed for this many seconds, the endpoint is stopped. The journal keeps events
/// longer than this, so that `vestnik webhook resume` loses no event.
const GIVE_UP_S: f64 = 3.0 * 24.0 * 60.0 * 60.0;
/// If an endpoint refuses an event this many times, the event is skipped. With the pauses, this takes about ten
/// minutes.
const MOST_REFUSALS: i32 = 8;

/// What follows from a failed post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consequence {
    /// The same event is posted again after a pause, by any node.
    Retry,
    /// The endpoint was stopped.
    Stopped,
    /// The event is skipped, and the next event is posted at once.
    PassedOver,
    /// Nothing is saved, because this node has lost the lease.
    None,
}

/// Saves that a post failed, and ends the lease. The pause before the next attempt grows with each failure. If the
/// endpoint asks for a longer pause, that pause counts, but at most an hour. `place` is the endpoint's place after
/// the posted event, and is saved only if the event is skipped.
pub(super) async fn save(
    pool: &Pool,
    leased: &Leased,
    place: Place<'_>,
    failed: &Failed,
) -> Result<Consequence, QueryError> {
    // An SQL condition: this is the last allowed refusal, so the event is skipped. The next event then starts with no
    // refusals and no failures.
    const PASSES: &str = "refusals + $3 >= $4";
    let sql = format!(
        "update vestnik.vst_webhook_endpoint set leased_until = '-infinity', reason = $5, \
             cursor = case when {PASSES} then $6 else $7 end, \
             handled = case when {PASSES} then $11::bigint else $12::bigint end, \
             resync_reason = case when {PASSES} then null else resync_reason end, \
             given_up = given_up + case when {PASSES} then 1 else 0 end, \
             refusals = case when {PASSES} then 0 else refusals + $3 end, \
             attempts = case when {PASSES} then 0 else attempts + 1 end, \
             failing_since = case when {PASSES} then null else coalesce(failing_since, clock_timestamp()) end, \
             due_at = clock_timestamp() + case when {PASSES} then interval '0' else make_interval(secs => $8) end, \
             stopped_at = case when $9 or failing_since < clock_timestamp() - make_interval(secs => $10) then clock_timestamp() end \
         where id = $1 and fence = $2 and stopped_at is null returning stopped_at is not null, attempts = 0"
    );
    let failures = leased.attempts.unsigned_abs().saturating_add(1);
    let shortest = failed.retry_after.min(PAUSES.longest);
    let pause = PAUSES.after(failures, fastrand::f64()).max(shortest).as_secs_f64();
    let refused = i32::from(failed.failure == Failure::Refused);
    let gone = failed.failure == Failure::Gone;
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(&sql).await?;
        let parameters: [&(dyn ToSql + Sync); 12] = [
            &leased.id,
            &leased.fence,
            &refused,
            &MOST_REFUSALS,
            &failed.reason,
            &place.cursor,
            &leased.cursor,
            &pause,
            &gone,
            &GIVE_UP_S,
            &place.handled.map(|event| event.0),
            &leased.handled.map(|event| event.0),
        ];
        let Some(row) = client.query_opt(&statement, &parameters).await? else {
            return Ok(Consequence::None);
        };
        Ok(match (row.try_get(0)?, row.try_get(1)?) {
            (true, _) => Consequence::Stopped,
            (false, true) => Consequence::PassedOver,
            (false, false) => Consequence::Retry,
        })
    })
    .await
}
