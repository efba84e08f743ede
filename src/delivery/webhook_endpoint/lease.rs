//! The lease of an endpoint. Only the node that holds the lease posts to the endpoint and saves the outcomes. Each new
//! lease gets a larger number, the fence. A node that has lost its lease cannot save anything, because its fence is too
//! old.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::domain::event::{EventId, EventType, PartnerEvent, StoreId};
use crate::domain::store_set::StoreSet;
use crate::infra::db::{self, Pool, QueryError};

/// Seconds that a lease lasts. A post takes less time, even with the SQL statements before and after it.
const LEASE_S: f64 = 30.0;
/// Each save of the endpoint's data renews the lease. If the last save is older than this, the node renews the lease
/// before the next post.
pub(super) const RENEWAL: Duration = Duration::from_secs(10);
/// The columns from which a [`Leased`] is read.
const COLUMNS: &str = "id, fence, key, url, array_remove(array[secret, secret_old], null), stores, types, cursor, \
     resync_reason, resyncs, attempts, extract(epoch from clock_timestamp())::bigint, handled";

/// An endpoint whose lease this node holds.
pub(super) struct Leased {
    pub id: i64,
    pub fence: i64,
    pub key: String,
    pub url: String,
    pub secrets: Vec<String>,
    pub stores: StoreSet,
    types: Option<HashSet<String>>,
    /// The cursor after the last event that was handled for the endpoint. An event is handled if it was posted, or
    /// skipped because the endpoint does not want it or has refused it too often.
    pub cursor: String,
    /// The last handled event, if `cursor` does not cover it yet. See [`Place::handled`].
    pub handled: Option<EventId>,
    /// The reason why the endpoint may have missed events, if the endpoint was not told yet. `None`: there is nothing
    /// to tell.
    pub resync: Option<String>,
    pub resyncs: i32,
    pub attempts: i32,
    /// The timestamp of the next post, in seconds since 1970. It is read from the database's clock by each statement
    /// for this lease.
    pub time: i64,
    /// When this node took or last renewed the lease, or last saved the outcome of a post.
    pub renewed: Instant,
}

impl Leased {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let stores: Option<Vec<&str>> = row.try_get(5)?;
        Ok(Self {
            id: row.try_get(0)?,
            fence: row.try_get(1)?,
            key: row.try_get(2)?,
            url: row.try_get(3)?,
            secrets: row.try_get(4)?,
            stores: stores.map_or_else(
                || StoreSet::AllBut(HashSet::new()),
                |stores| StoreSet::These(stores.into_iter().map(StoreId::new).collect()),
            ),
            types: row.try_get::<_, Option<Vec<String>>>(6)?.map(HashSet::from_iter),
            cursor: row.try_get(7)?,
            resync: row.try_get(8)?,
            resyncs: row.try_get(9)?,
            attempts: row.try_get(10)?,
            time: row.try_get(11)?,
            handled: row.try_get::<_, Option<i64>>(12)?.map(EventId),
            renewed: Instant::now(),
        })
    }

    /// Whether the endpoint wants the event. No endpoint gets the events of canaries (test orders of Vestnik).
    pub fn wants(&self, event: &PartnerEvent) -> bool {
        let has = |kind: EventType| self.types.as_ref().is_none_or(|types| types.contains(kind.as_str()));
        self.stores.has(&event.store) && has(event.kind)
    }
}

/// Where an endpoint goes on after an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The endpoint's cursor.
    pub cursor: &'a str,
    /// The event itself, if the cursor does not cover it: a later event also has rows before this event. The event must
    /// not be posted again when the events after the cursor are read again.
    pub handled: Option<EventId>,
}

/// Whether this node still held the lease when it saved data of the endpoint. If not, nothing was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Lease {
    Held,
    /// This node has lost the lease: another node has it, or the endpoint was removed or stopped.
    Over,
}

/// Takes the leases of all endpoints that may get a post now and whose lease no node holds. An endpoint may get no post
/// during the pause after a failed post.
pub(super) async fn claim(pool: &Pool) -> Result<Vec<Leased>, QueryError> {
    let sql = format!(
        "update vestnik.vst_webhook_endpoint set fence = fence + 1, leased_until = clock_timestamp() + make_interval(secs => $1) \
         where id in (select id from vestnik.vst_webhook_endpoint where stopped_at is null and due_at <= clock_timestamp() \
             and leased_until <= clock_timestamp() for update skip locked) returning {COLUMNS}"
    );
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(&sql).await?;
        let rows = client.query(&statement, &[&LEASE_S]).await?;
        Ok(rows.iter().map(Leased::read).collect::<Result<_, _>>()?)
    })
    .await
}

/// Renews the lease, saves the current cursor, and reads the endpoint's settings again.
pub(super) async fn renew(pool: &Pool, leased: &mut Leased) -> Result<Lease, QueryError> {
    let (cursor, handled) = (leased.cursor.clone(), leased.handled.map(|event| event.0));
    save(pool, leased, "cursor = $4, handled = $5", &[&cursor, &handled]).await
}

/// Moves the endpoint to the cursor `fresh`, because the journal cannot be read from the old cursor any more. Also
/// saves the reason, which the next post tells the endpoint.
pub(super) async fn resync(pool: &Pool, leased: &mut Leased, reason: &str, fresh: &str) -> Result<Lease, QueryError> {
    let set = "cursor = $4, handled = null, resync_reason = $5, resyncs = resyncs + 1";
    save(pool, leased, set, &[&fresh, &reason]).await
}

/// Saves that a post succeeded. `place` is the endpoint's place after the posted event.
pub(super) async fn sent(pool: &Pool, leased: &mut Leased, place: Place<'_>) -> Result<Lease, QueryError> {
    let set = "cursor = $4, handled = $5, resync_reason = null, attempts = 0, refusals = 0, failing_since = null, reason = null, \
         sent = sent + 1, sent_at = clock_timestamp()";
    let handled = place.handled.map(|event| event.0);
    save(pool, leased, set, &[&place.cursor, &handled]).await
}

async fn save(
    pool: &Pool,
    leased: &mut Leased,
    set: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Lease, QueryError> {
    let sql = format!(
        "update vestnik.vst_webhook_endpoint set leased_until = clock_timestamp() + make_interval(secs => $3), {set} \
         where id = $1 and fence = $2 and stopped_at is null returning {COLUMNS}"
    );
    let (id, fence) = (leased.id, leased.fence);
    let row = db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(&sql).await?;
        let all: Vec<&(dyn ToSql + Sync)> = [&id as &(dyn ToSql + Sync), &fence, &LEASE_S]
            .into_iter()
            .chain(parameters.iter().copied())
            .collect();
        Ok::<_, QueryError>(client.query_opt(&statement, &all).await?)
    })
    .await?;
    let Some(row) = row else { return Ok(Lease::Over) };
    *leased = Leased::read(&row).map_err(QueryError::from)?;
    Ok(Lease::Held)
}

/// Ends the lease, so that another node can take it at once.
pub(super) async fn release(pool: &Pool, leased: &Leased) -> Result<(), QueryError> {
    const RELEASE: &str = "update vestnik.vst_webhook_endpoint set leased_until = '-infinity', cursor = $3, handled = $4 where id = $1 and fence = $2";
    db::with_timeout(async {
        let client = pool.get().await?;
        client
            .execute(
                RELEASE,
                &[
                    &leased.id,
                    &leased.fence,
                    &leased.cursor,
                    &leased.handled.map(|event| event.0),
                ],
            )
            .await?;
        Ok(())
    })
    .await
}
