//! A pause: for a while, a store takes no new orders. The engine refuses no order. The shop's own order intake reads
//! `vestnik.vst_paused_now`, or receives the events `store_paused` and `store_resumed`.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::Row;

use crate::domain::event::{EventType, StoreId};
use crate::domain::wire_time::WireTime;
use crate::infra::db::{self, Pool, QueryError, Transaction};
use crate::journal;

/// The longest pause.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The hour at which a day begins, by the store's clock. The hours after midnight belong to the day before.
pub const DAY_BEGINS_HOUR: i32 = 5;
/// Pauses ended in one transaction.
const BATCH: i64 = 100;

/// When a pause ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this time.
    After(Duration),
    /// At the beginning of the store's next day.
    Tomorrow,
    /// At this time.
    At(OffsetDateTime),
}

impl Until {
    /// After this time; `None`: it is no time, or longer than [`LONGEST`].
    pub fn after(time: Duration) -> Option<Self> {
        (!time.is_zero() && time <= LONGEST).then_some(Self::After(time))
    }
}

/// SQL for the moment at which the store's day began, by the clock of the zone; `hours`: the parameter that is
/// [`DAY_BEGINS_HOUR`]. `days` later another day begins.
pub fn day_sql(zone: &str, hours: &str, days: u8) -> String {
    format!(
        "(date_trunc('day', clock_timestamp() at time zone {zone} - make_interval(hours => {hours})) \
          + make_interval(days => {days}, hours => {hours})) at time zone {zone}"
    )
}

/// A pause of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// When the pause began.
    pub since: OffsetDateTime,
    /// When the pause ends by itself.
    pub until: OffsetDateTime,
    /// Who began the pause. `None`: unknown.
    pub by: Option<String>,
    /// The reason that this person gave. `None`: none.
    pub reason: Option<String>,
}

impl Pause {
    /// The wire form: `since`, `until`, and `by` and `reason` where they are known.
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
        Ok(Self {
            since: row.try_get(0)?,
            until: row.try_get(1)?,
            by: row.try_get(2)?,
            reason: row.try_get(3)?,
        })
    }
}

/// The current pause of a store. `None`: it takes orders.
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

/// Pauses a store, or changes the end of its pause. `None`: the end is past, or further away than [`LONGEST`].
pub async fn begin(
    pool: &Pool,
    store: &StoreId,
    until: Until,
    by: &str,
    reason: Option<&str>,
) -> Result<Option<Pause>, QueryError> {
    let pause = format!(
        "with ends as (select case \
             when $2::timestamptz is not null then $2 \
             when $3::float8 is not null then clock_timestamp() + make_interval(secs => $3) \
             else {tomorrow} end as at \
             from (select coalesce((select time_zone from vestnik.vst_store where id = $1), 'Europe/Moscow') as name) zone) \
         insert into vestnik.vst_pause as p (store_id, until, paused_by, reason) select $1, at, $4, $5 from ends \
         where at > clock_timestamp() and at <= clock_timestamp() + make_interval(secs => $7) \
         on conflict (store_id) do update set until = excluded.until, paused_by = excluded.paused_by, reason = excluded.reason, \
             since = case when p.until > clock_timestamp() then p.since else excluded.since end \
         returning since, until, paused_by, reason",
        tomorrow = day_sql("zone.name", "$6", 1),
    );
    let (at, seconds) = match until {
        Until::After(time) => (None, Some(time.as_secs_f64())),
        Until::Tomorrow => (None, None),
        Until::At(at) => (Some(at), None),
    };
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        let longest = LONGEST.as_secs_f64();
        let row = transaction
            .query_opt(
                &pause,
                &[&store.as_str(), &at, &seconds, &by, &reason, &DAY_BEGINS_HOUR, &longest],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let pause = Pause::read(&row)?;
        journal::append(&transaction, store, EventType::StorePaused, &pause.to_json()).await?;
        transaction.commit().await?;
        tracing::info!(store = store.as_str(), until = %WireTime(pause.until), "a store is paused");
        Ok(Some(pause))
    })
    .await
}

/// Ends the pause of a store. Returns whether there was one.
pub async fn end(pool: &Pool, store: &StoreId, by: &str) -> Result<bool, QueryError> {
    const END: &str = "delete from vestnik.vst_pause where store_id = $1";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        if transaction.execute(END, &[&store.as_str()]).await? == 0 {
            return Ok(false);
        }
        resumed(&transaction, store, &json!({ "by": by })).await?;
        transaction.commit().await?;
        Ok(true)
    })
    .await
}

/// Ends the pauses whose time is over. Returns their number.
pub async fn end_due(pool: &Pool) -> Result<u64, QueryError> {
    const DUE: &str = "delete from vestnik.vst_pause where store_id in (select store_id from vestnik.vst_pause \
             where until <= clock_timestamp() order by until limit $1 for update skip locked) returning store_id";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        let rows = transaction.query(DUE, &[&BATCH]).await?;
        for row in &rows {
            resumed(&transaction, &StoreId::new(row.try_get(0)?), &json!({})).await?;
        }
        transaction.commit().await?;
        Ok(rows.len() as u64)
    })
    .await
}

async fn resumed(transaction: &Transaction<'_>, store: &StoreId, data: &Value) -> Result<(), QueryError> {
    journal::append(transaction, store, EventType::StoreResumed, data).await?;
    tracing::info!(store = store.as_str(), "a store takes orders again");
    Ok(())
}
