//! The audit: a report of what happened to a store's events. It answers the question "Why did nobody see order 123?"

use std::time::Duration;

use crate::infra::db::Client;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};

use super::query::described;
use crate::domain::event::StoreId;
use crate::infra::db::QueryError;
use crate::journal;
use crate::sources::{registry, zone};

/// Maximum number of journal rows that one page of the report covers.
pub const PAGE_EVENTS: i64 = 500;

/// A time as text: `19:00` (today, by the store's clock), `2026-11-24 19:00` (by the store's clock), or
/// `2026-11-24T19:00:00Z` (with an offset).
#[derive(Debug, Clone)]
pub struct Moment(pub String);

/// Selects the events of the report: by store, by time, and by order.
#[derive(Debug)]
pub struct Span<'a> {
    /// The store of the events. `None`: all stores.
    pub store: Option<&'a StoreId>,
    /// The start of the time span, inclusive. `None`: the first event of the journal.
    pub from: Option<&'a Moment>,
    /// The end of the time span, exclusive. `None`: the last event of the journal.
    pub to: Option<&'a Moment>,
    /// The key or the number of one order or booking. `None`: all orders and bookings.
    pub subject: Option<&'a str>,
}

/// The reason why the report failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text of a start or end time has an unknown form.
    #[error("a time looks like 19:00, 2026-11-24 19:00 or 2026-11-24T19:00:00Z")]
    Moment,
    /// The database failed.
    #[error(transparent)]
    Failed(#[from] QueryError),
}

/// The search for events by id covers this many seconds more at each end of the time span. Ids usually rise with time,
/// but not if somebody has changed the database's clock.
const DISORDER_S: f64 = 600.0;

/// The start and the end of the time span, as Postgres has parsed them.
pub(super) struct Times {
    pub zone: String,
    pub from: Option<OffsetDateTime>,
    pub to: Option<OffsetDateTime>,
}

/// A page of the report.
#[derive(Debug)]
pub struct AuditPage {
    /// The events, ordered by id, each a JSON object:
    /// `{"id","type","at","subject","channels":[..],"chats":[..],"escalation":{..}}`. Times are by the store's clock.
    pub events: Vec<Value>,
    /// The value of `after` for the next page. `None`: this page is empty, and there are no more pages.
    pub next: Option<i64>,
}

/// Reads one page of the report: the events of at most [`PAGE_EVENTS`] journal rows with an id greater than `after`.
pub async fn page(client: &Client, span: &Span<'_>, after: i64) -> Result<AuditPage, Error> {
    // `subject` is the key of an order, or its number. The key has its own column. A number is searched as text in the
    // whole row, so it may match a part of another value. `is_meant` removes such events.
    const SPAN: &str = "source is distinct from 0 and ($1::text is null or store_id = $1) and ($2::timestamptz is null or at >= $2) \
         and ($3::timestamptz is null or at < $3) and id > $4 and id <= $5 \
         and ($7::text is null or key = $7 or strpos(data::text, $8) > 0) order by id limit $6";
    let times = times(client, span).await?;
    // Ids rise with time, so the search is limited by ids. No index has the times of events, because such an index
    // would add to the cost of each order.
    let disorder = Duration::from_secs_f64(DISORDER_S);
    let first = match times.from {
        Some(from) => first_since(client, from - disorder).await?,
        None => 0,
    };
    let last = match times.to {
        Some(to) => first_since(client, to + disorder).await?,
        None => i64::MAX,
    };
    let after = after.max(first - 1);
    let store = span.store.map(StoreId::as_str);
    let written = span.subject.map(journal::as_recorded);
    let parameters: [(&(dyn ToSql + Sync), Type); 8] = [
        (&store, Type::TEXT),
        (&times.from, Type::TIMESTAMPTZ),
        (&times.to, Type::TIMESTAMPTZ),
        (&after, Type::INT8),
        (&last, Type::INT8),
        (&PAGE_EVENTS, Type::INT8),
        (&span.subject, Type::TEXT),
        (&written, Type::TEXT),
    ];
    let rows = journal::read_where(client, SPAN, &parameters)
        .await
        .map_err(QueryError::from)?;
    let sources = registry::load(client).await?;
    let clock = |at: OffsetDateTime| {
        let local = zone::local(at, &times.zone);
        local.map_or_else(String::new, |local| local.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string())
    };
    let described = described(client, &sources, &rows, &clock).await?;
    Ok(AuditPage {
        next: rows.last().map(|row| row.id.0),
        events: described
            .into_iter()
            .map(|(_, described)| Value::Object(described))
            .filter(|described| is_meant(described, span.subject))
            .collect(),
    })
}

fn is_meant(described: &Value, subject: Option<&str>) -> bool {
    subject.is_none_or(|subject| described["subject"] == subject || described["number"] == subject)
}

/// Parses the start and the end of the time span in the store's time zone. If both are times without a date, and the
/// end is not after the start, the start is yesterday. An example is `22:00` to `02:00`.
pub(super) async fn times(client: &Client, span: &Span<'_>) -> Result<Times, Error> {
    const CLOCK: &str = "'^\\s*\\d{1,2}:\\d\\d(:\\d\\d)?\\s*$'";
    const MOMENT: &str = "case when $N ~ {clock} then ((now() at time zone zone)::date + $N::time) at time zone zone \
         when $N ~ '(Z|[+-]\\d\\d(:?\\d\\d)?)\\s*$' and $N ~ ':' then $N::timestamptz else $N::timestamp at time zone zone end";
    let moment = MOMENT.replace("{clock}", CLOCK);
    let (from, to) = (moment.replace("$N", "$2::text"), moment.replace("$N", "$3::text"));
    let sql = format!(
        "with zone as (select coalesce((select time_zone from vestnik.vst_store where id = $1), 'UTC') as zone), \
         span as (select zone, {from} as first, {to} as last from zone) \
         select zone, case when last <= first and $2::text ~ {CLOCK} and $3::text ~ {CLOCK} \
             then ((first at time zone zone) - interval '1 day') at time zone zone else first end, last from span"
    );
    let (from, to) = (span.from.map(|from| &from.0), span.to.map(|to| &to.0));
    let row = client
        .query_one(&sql, &[&span.store.map(StoreId::as_str), &from, &to])
        .await;
    let row = row.map_err(|error| match error.code() {
        Some(code) if code.code().starts_with("22") => Error::Moment,
        _ => Error::Failed(error.into()),
    })?;
    let read = |error: tokio_postgres::Error| Error::Failed(error.into());
    Ok(Times {
        zone: row.try_get(0).map_err(read)?,
        // The conversion fails for times such as "infinity".
        from: row.try_get(1).map_err(|_| Error::Moment)?,
        to: row.try_get(2).map_err(|_| Error::Moment)?,
    })
}

/// Finds the id of the first event that happened at or after `at`, by a binary search. If there is no such event,
/// returns the id of the newest event.
async fn first_since(client: &Client, at: OffsetDateTime) -> Result<i64, QueryError> {
    const BOUNDS: &str = "select coalesce(min(id), 0), coalesce(max(id), 0) from vestnik.vst_event";
    const PROBE: &str = "select at < $2 from vestnik.vst_event where id >= $1 order by id limit 1";
    let bounds = client.query_one(BOUNDS, &[]).await?;
    let (mut low, mut high): (i64, i64) = (bounds.try_get(0)?, bounds.try_get(1)?);
    while low < high {
        let middle = low + (high - low) / 2;
        let before = match client.query_opt(PROBE, &[&middle, &at]).await? {
            Some(row) => row.try_get(0)?,
            None => false,
        };
        if before {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
