//! The end of a store's pause, or of an item's time on the stop list (the items that are out of stock). Both end
//! automatically at this time.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_postgres::Row;

use crate::domain::event::{EventType, StoreId};
use crate::infra::db::{self, Pool, QueryError, Transaction};
use crate::journal;

/// The longest duration of a pause, or of an item's time on the stop list, from now on.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The hour at which a store's day begins, by the store's clock. Earlier hours belong to the previous day.
pub const DAY_BEGINS_HOUR: i32 = 5;
/// The most pauses, or items on stop lists, that one transaction ends.
const BATCH: i64 = 100;

/// The requested end of a store's pause, or of an item's time on the stop list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The end is this long after now.
    After(Duration),
    /// The end is the beginning of the store's next day.
    Tomorrow,
    /// The end is this time.
    At(OffsetDateTime),
}

/// Returns SQL for the beginning of a store's day. `days` is 0 for the current day, 1 for the next day, and so on.
/// `zone` is SQL for the name of the time zone. `hours` is SQL for [`DAY_BEGINS_HOUR`].
pub fn day_sql(zone: &str, hours: &str, days: u8) -> String {
    format!(
        "(date_trunc('day', clock_timestamp() at time zone {zone} - make_interval(hours => {hours})) \
          + make_interval(days => {days}, hours => {hours})) at time zone {zone}"
    )
}

impl Until {
    /// Creates an end that is this long after now. `None`: the duration is zero, or longer than [`LONGEST`].
    pub fn after(time: Duration) -> Option<Self> {
        (!time.is_zero() && time <= LONGEST).then_some(Self::After(time))
    }

    /// Parses the end in a request. Either `minutes` has the minutes from now, or `until` is `tomorrow` or an RFC 3339
    /// time. `None`: neither or both are given, or the value is invalid.
    pub fn parse(minutes: Option<u32>, until: Option<&str>) -> Option<Self> {
        match (minutes, until) {
            (Some(minutes), None) => Self::after(Duration::from_secs(u64::from(minutes) * 60)),
            (None, Some("tomorrow")) => Some(Self::Tomorrow),
            (None, Some(at)) => OffsetDateTime::parse(at, &Rfc3339).ok().map(Self::At),
            _ => None,
        }
    }

    /// Computes the time of the end. A duration counts from the start of the transaction. `None`: the end is in the
    /// past, or further away than [`LONGEST`].
    pub(super) async fn resolve(
        self,
        transaction: &Transaction<'_>,
        store: &StoreId,
    ) -> Result<Option<OffsetDateTime>, tokio_postgres::Error> {
        let ends = format!(
            "select at from (select case \
                 when $2::timestamptz is not null then $2 \
                 when $3::float8 is not null then now() + make_interval(secs => $3) \
                 else {tomorrow} end as at \
                 from (select coalesce((select time_zone from vestnik.vst_store where id = $1), 'Europe/Moscow') as name) zone) e \
             where at > clock_timestamp() and at <= clock_timestamp() + make_interval(secs => $5)",
            tomorrow = day_sql("zone.name", "$4", 1),
        );
        let (at, seconds) = match self {
            Self::After(time) => (None, Some(time.as_secs_f64())),
            Self::Tomorrow => (None, None),
            Self::At(at) => (Some(at), None),
        };
        let longest = LONGEST.as_secs_f64();
        let row = transaction
            .query_opt(&ends, &[&store.as_str(), &at, &seconds, &DAY_BEGINS_HOUR, &longest])
            .await?;
        row.map(|row| row.try_get(0)).transpose()
    }
}

/// Ends the pauses whose time is over, or removes the items whose time on the stop list is over. `due` is SQL that
/// deletes at most `$1` rows, and returns the store's id in the first column. For each deleted row, appends an event of
/// type `kind` with the data that `data` computes. Returns the number of deleted rows.
pub(super) async fn end_due(
    pool: &Pool,
    due: &str,
    kind: EventType,
    data: fn(&Row) -> Result<serde_json::Value, tokio_postgres::Error>,
) -> Result<u64, QueryError> {
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        let rows = transaction.query(due, &[&BATCH]).await?;
        for row in &rows {
            let store = StoreId::new(row.try_get(0)?);
            journal::append(&transaction, &store, kind, &data(row)?).await?;
            tracing::info!(store = store.as_str(), event = kind.as_str(), "its time is over");
        }
        transaction.commit().await?;
        Ok(rows.len() as u64)
    })
    .await
}
