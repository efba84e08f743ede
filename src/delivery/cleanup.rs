//! Deletes old rows that are not deleted together with their journal event. These rows are status changes, past alarms,
//! answers to commands, link codes, unlinked chats, and closed orders of derived sources. Also deletes requests to
//! shops' APIs whose outcome is unknown, and requests with an idempotency key. Each statement deletes a small batch to
//! keep the load low. Several nodes may run this module at the same time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::infra::db::{self, Pool, QueryError};
use crate::infra::periodic::Periodic;
use crate::sources::derived::trim;
use crate::token::idempotency::KEPT;

/// The time between two deletions of old rows.
const INTERVAL: Duration = Duration::from_secs(60);
/// The most rows of each kind that one batch deletes.
const BATCH_ROWS: i64 = 1000;
/// The pause after a full batch.
const BATCH_PAUSE: Duration = Duration::from_secs(1);
/// How long to keep answers to commands, link codes, requests to shops' APIs, and chats that were never linked.
const SHORT: Duration = Duration::from_secs(24 * 60 * 60);

/// Deletes old rows until the shutdown. `retention` is the age at which status changes, past alarms and closed orders
/// of derived sources are deleted.
pub async fn run(pool: Pool, retention: Duration, stop: CancellationToken) {
    let mut periodic = Periodic::later(INTERVAL, &stop);
    while periodic.next_run().await {
        match delete_old(&pool, retention).await {
            // A batch was full, so there may be more old rows.
            Ok(forgotten) if forgotten >= BATCH_ROWS.unsigned_abs() => periodic.set_next_pause(BATCH_PAUSE),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "what is over could not be forgotten"),
        }
    }
}

/// Deletes one batch of each kind of rows. Returns the number of deleted rows.
pub async fn delete_old(pool: &Pool, retention: Duration) -> Result<u64, QueryError> {
    // Scan the oldest ids first and stop after one batch, so that the scan is short even if no row is old enough.
    const ANSWERS: &str = "delete from vestnik.vst_status_change where id in (select id from ( \
             select id, at from vestnik.vst_status_change order by id limit $2) a where at < now() - make_interval(secs => $1))";
    const ALARMS: &str = "delete from vestnik.vst_alarm where id in (select id from ( \
             select id, cleared_at from vestnik.vst_alarm order by id limit $2) a where cleared_at < now() - make_interval(secs => $1))";
    const WORDS: &str = "delete from vestnik.vst_delivery where id in (select id from vestnik.vst_delivery \
             where words is not null and waits_since < now() - make_interval(secs => $1) and state in ('sent', 'dead') \
             order by waits_since limit $2)";
    const CODES: &str = "delete from vestnik.vst_link_code where hash in (select hash from vestnik.vst_link_code \
             where expires_at < now() - make_interval(secs => $1) limit $2)";
    const REQUESTS: &str = "delete from vestnik.vst_answer_request r using (select source, key, store_id from vestnik.vst_answer_request \
             where asked_at < now() - make_interval(secs => $1) and until < now() limit $2) o \
         where (r.source, r.key, r.store_id) = (o.source, o.key, o.store_id) and r.until < now()";
    // Keep an unlinked chat while it still has old deliveries. These deliveries are deleted together with their events
    // of the journal.
    const STRANGERS: &str = "delete from vestnik.vst_chat where id in (select id from vestnik.vst_chat c \
             where c.first_seen_at < now() - make_interval(secs => $1) and not c.waiting and c.leased_until = '-infinity' \
               and not exists (select from vestnik.vst_chat_link l where l.chat_id = c.id) \
               and not exists (select from vestnik.vst_delivery d where d.chat_id = c.id) limit $2 for update skip locked)";
    const REPEATABLE: &str = "delete from vestnik.vst_idempotent_request where id in (select id from ( \
             select id, asked_at from vestnik.vst_idempotent_request order by asked_at limit $2) a \
             where asked_at < now() - make_interval(secs => $1))";
    let long = retention.as_secs_f64();
    let short = long.min(SHORT.as_secs_f64());
    let mut forgotten = 0;
    for (sql, age) in [
        (ANSWERS, long),
        (ALARMS, long),
        (WORDS, short),
        (CODES, short),
        (REQUESTS, short),
        (STRANGERS, short),
        (REPEATABLE, KEPT.as_secs_f64()),
    ] {
        let gone = db::with_timeout(async {
            let client = pool.get().await?;
            let statement = client.prepare_cached(sql).await?;
            Ok::<_, QueryError>(client.execute(&statement, &[&age, &BATCH_ROWS]).await?)
        });
        forgotten += gone.await?;
    }
    Ok(forgotten + trim::trim(pool, retention).await?)
}
