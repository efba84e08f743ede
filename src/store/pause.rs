//! The pause of a store, during which the store takes no new orders. Vestnik itself refuses no order. The shop's
//! application must read the view `vestnik.vst_paused_now`, or receive the events `store_paused` and `store_resumed`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::Row;

use super::until::{self, Until};
use crate::domain::event::{EventType, StoreId};
use crate::domain::wire_time::WireTime;
use crate::infra::db::{self, Pool, QueryError};
use crate::journal;

/// SQL that deletes at most `$1` pauses whose end has passed.
const DUE: &str = "delete from vestnik.vst_pause where store_id in (select store_id from vestnik.vst_pause \
         where until <= clock_timestamp() order by until limit $1 for update skip locked) returning store_id";

/// A pause of a store, during which the store takes no new orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// When the pause began.
    pub since: OffsetDateTime,
    /// When the pause ends by itself.
    pub until: OffsetDateTime,
    /// The name of the person who began the pause. `None`: the name is not known.
    pub by: Option<String>,
    /// The reason that the person gave for the pause. `None`: the person gave no reason.
    pub reason: Option<String>,
}

impl Pause {
    /// Returns the pause as JSON for clients: `since` and `until`, and `by` and `reason` if they are known.
    pub fn to_json(&self) -> Value {
        let mut json = json!({"since": WireTime(self.since), "until": WireTime(self.until)});
        for (name, text) in [("by", &self.by), ("reason", &self.reason)] {
            if let Some(text) = text {
                json[name] = json!(text);
            }
        }
        json
    }

    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Self::read_at(row, 0)
    }

    /// Reads a pause from four successive columns of a row. `first` is the index of the first column.
    pub(super) fn read_at(row: &Row, first: usize) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            since: row.try_get(first)?,
            until: row.try_get(first + 1)?,
            by: row.try_get(first + 2)?,
            reason: row.try_get(first + 3)?,
        })
    }
}

/// Reads the current pause of a store. `None`: the store is not paused, and takes orders.
pub async fn current(pool: &Pool, store: &StoreId) -> Result<Option<Pause>, QueryError> {
    const CURRENT: &str = "select since, until, paused_by, reason from vestnik.vst_paused_now where store_id = $1";
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(CURRENT).await?;
        let row = client.query_opt(&statement, &[&store.as_str()]).await?;
        Ok(row.as_ref().map(Pause::read).transpose()?)
    })
    .await
}

/// Pauses a store, or changes the end of its pause. Appends an event that tells the store's panels. `None`: nothing was
/// changed, because the end is in the past, or further away than [`super::until::LONGEST`].
pub async fn begin(
    pool: &Pool,
    store: &StoreId,
    until: Until,
    by: &str,
    reason: Option<&str>,
) -> Result<Option<Pause>, QueryError> {
    const PAUSE: &str = "insert into vestnik.vst_pause as p (store_id, since, until, paused_by, reason) values ($1, now(), $2, $3, $4) \
         on conflict (store_id) do update set until = excluded.until, paused_by = excluded.paused_by, reason = excluded.reason, \
             since = case when p.until > clock_timestamp() then p.since else excluded.since end \
         returning since, until, paused_by, reason";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        let Some(ends) = until.resolve(&transaction, store).await? else {
            return Ok(None);
        };
        let row = transaction
            .query_one(PAUSE, &[&store.as_str(), &ends, &by, &reason])
            .await?;
        let pause = Pause::read(&row)?;
        journal::append(&transaction, store, EventType::StorePaused, &pause.to_json()).await?;
        transaction.commit().await?;
        tracing::info!(store = store.as_str(), until = %WireTime(pause.until), "a store is paused");
        Ok(Some(pause))
    })
    .await
}

/// Ends the pause of a store, and appends an event that tells the store's panels. Returns whether the store was paused.
pub async fn end(pool: &Pool, store: &StoreId, by: &str) -> Result<bool, QueryError> {
    const END: &str = "delete from vestnik.vst_pause where store_id = $1";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        if transaction.execute(END, &[&store.as_str()]).await? == 0 {
            return Ok(false);
        }
        journal::append(&transaction, store, EventType::StoreResumed, &json!({ "by": by })).await?;
        transaction.commit().await?;
        tracing::info!(store = store.as_str(), "a store takes orders again");
        Ok(true)
    })
    .await
}

/// Deletes pauses whose end has passed, at most a batch of them, and appends an event for each. Returns the number of
/// deleted pauses.
pub async fn end_due(pool: &Pool) -> Result<u64, QueryError> {
    until::end_due(pool, DUE, EventType::StoreResumed, |_| Ok(json!({}))).await
}
