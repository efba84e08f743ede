//! Reads a store's orders and bookings of the current day: those that were created today, with their status now, and how
//! fast people answered.

use std::collections::HashMap;
use std::time::Duration;

use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};

use crate::domain::event::{EventType, PartnerEvent, SubjectId};
use crate::domain::status::Status;
use crate::infra::db::{self, Pool, QueryError};
use crate::journal;
use crate::sources::lookup_results::Lookups;
use crate::sources::registry::Registry;
use crate::store::until::{DAY_BEGINS_HOUR, day_sql};

/// To find the orders of a day, at most this many journal rows of the store are read: the newest ones.
const WRITES: i64 = 10_000;

/// An order or booking that arrived today.
#[derive(Debug)]
pub struct Newcomer {
    /// When the order or booking arrived.
    pub at: OffsetDateTime,
    /// The newest event of the order or booking, which has its current state.
    pub last: PartnerEvent,
    /// The time until somebody answered the order or booking: until its status was not `pending` any more. `None`:
    /// nobody has answered it.
    pub answered_after: Option<Duration>,
}

/// One day of a store, from its start until now.
#[derive(Debug)]
pub struct Today {
    /// The store's display name, or its id if it has no name.
    pub store: String,
    /// The IANA name of the store's time zone.
    pub time_zone: String,
    /// When the day began: at 5:00 by the store's clock, so that the hours after midnight belong to the previous day.
    pub began: OffsetDateTime,
    /// The orders and bookings that arrived on this day, newest last.
    pub newcomers: Vec<Newcomer>,
    /// Whether the day has `WRITES` journal rows or more. Then the oldest orders may be missing from `newcomers`.
    pub is_cut: bool,
}

/// Reads the current day of a store. `None`: the store is not set up.
pub async fn today(pool: &Pool, sources: &Registry, store: &str) -> Result<Option<Today>, QueryError> {
    let day = format!(
        "select coalesce(name, id), time_zone, {} from vestnik.vst_store where id = $1",
        day_sql("time_zone", "$2", 0)
    );
    const SINCE: &str = "id in (select e.id from vestnik.vst_event e where e.store_id = $1 and e.at >= $2 and e.source is not null \
         order by e.id desc limit $3) order by id";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = db::snapshot(&mut client).await?;
        db::read_by_index(&transaction).await?;
        let Some(row) = transaction.query_opt(&day, &[&store, &DAY_BEGINS_HOUR]).await? else {
            return Ok(None);
        };
        let began: OffsetDateTime = row.try_get(2)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&store, Type::TEXT), (&began, Type::TIMESTAMPTZ), (&WRITES, Type::INT8)];
        let rows = journal::read_where(&transaction, SINCE, &parameters).await?;
        let is_cut = rows.len() as i64 >= WRITES;
        let rows: Vec<_> = rows.iter().collect();
        let sources = sources.in_force(&transaction).await?;
        let events = sources.partner_events(&rows, &Lookups::default());
        transaction.commit().await?;
        Ok(Some(Today {
            store: row.try_get(0)?,
            time_zone: row.try_get(1)?,
            began,
            newcomers: newcomers(events),
            is_cut,
        }))
    })
    .await
}

fn newcomers(events: Vec<PartnerEvent>) -> Vec<Newcomer> {
    let mut found: HashMap<SubjectId, Newcomer> = HashMap::new();
    for event in events {
        let Some(subject) = &event.subject else { continue };
        let is_new = matches!(event.kind, EventType::NewOrder | EventType::NewBooking);
        let status = subject.visible_status();
        match found.get_mut(&subject.id) {
            Some(newcomer) => {
                let is_answer = status.is_some_and(|status| status != Status::Pending);
                if is_answer && newcomer.answered_after.is_none() {
                    newcomer.answered_after = Duration::try_from(event.at - newcomer.at).ok();
                }
                newcomer.last = event;
            }
            None if is_new => {
                let newcomer = Newcomer {
                    at: event.at,
                    answered_after: None,
                    last: event.clone(),
                };
                found.insert(subject.id.clone(), newcomer);
            }
            None => {}
        }
    }
    let mut newcomers: Vec<Newcomer> = found.into_values().collect();
    newcomers.sort_by_key(|newcomer| newcomer.at);
    newcomers
}
