//! Reads journal events that messages will show. The events are translated with the current mappings, and have the
//! items of each order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::infra::db::Transaction;
use time::OffsetDateTime;

use crate::domain::Subject;
use crate::domain::event::{EventId, EventType, PartnerEvent, StoreId, SubjectId};
use crate::domain::status::Status;
use crate::infra::db::{self, QueryError};
use crate::journal;
use crate::sources::Sources;
use crate::sources::lookup_failure::logged_reason;
use crate::sources::lookup_query::look_up;
use crate::sources::lookup_results::Lookups;

/// To find the current state of orders, at most this many journal rows of a store are read: the newest ones.
const SEARCHED_ROWS: i64 = 20_000;
/// SQL that limits the time to look up an order's items in another table of the shop.
const LOOKUP_LIMITS: &str = "set local lock_timeout = '500ms'; set local statement_timeout = '500ms'";

/// A delivery with its event. The delivery is a message about the event, or a note about it.
#[derive(Debug, Clone)]
pub struct Item {
    /// The id of the delivery's row.
    pub id: i64,
    /// The event that the delivery or its note is about.
    pub event: EventView,
    /// The age of the event by the clock of Postgres.
    pub age: Duration,
}

/// A translated journal event, with the fields that messages show.
#[derive(Debug, Clone)]
pub struct EventView {
    /// The event's id in the journal.
    pub id: i64,
    /// The type of the event.
    pub kind: EventType,
    /// The order or booking as it was after the event.
    pub subject: Arc<Subject>,
    /// The status before the event. `None`: the order or booking was new, or the mapping hid it from people.
    pub previous: Option<Status>,
    /// The changed fields by their names in the protocol, such as `promised_minutes`. Empty: the event did not change
    /// fields.
    pub changed: Vec<&'static str>,
    /// If the event is a change of fields: the order or booking before the change. `None`: the event has another type.
    pub before: Option<Arc<Subject>>,
    /// When the event happened.
    pub at: OffsetDateTime,
}

impl EventView {
    /// Returns the time at which the order must be ready: the promised number of minutes after the event. If no minutes
    /// are promised, returns the time for which the customer wants the order. `None`: neither is known.
    pub fn promised_at(&self) -> Option<OffsetDateTime> {
        let minutes = self
            .subject
            .promised_minutes
            .map(|minutes| self.at + time::Duration::minutes(minutes.into()));
        minutes.or(self.subject.due_at)
    }
}

/// Reads these deliveries with their events. For a note, reads the event that the note is about. The result has the
/// order of `deliveries`. A delivery is left out if its event cannot be translated.
pub(super) async fn items_of(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    deliveries: &[i64],
) -> Result<Vec<Item>, QueryError> {
    const EVENTS: &str = "select d.id, e.id, extract(epoch from clock_timestamp() - e.at)::float8 \
         from vestnik.vst_delivery d join vestnik.vst_event e on e.id = coalesce(d.event_id, d.about_id) \
         where d.id = any ($1) order by array_position($1, d.id)";
    let statement = transaction.prepare_cached(EVENTS).await?;
    let mut events: Vec<(i64, i64, f64)> = Vec::with_capacity(deliveries.len());
    for row in transaction.query(&statement, &[&deliveries]).await? {
        events.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    let ids: Vec<i64> = events.iter().map(|(_, event, _)| *event).collect();
    let views = views_of(transaction, sources, &ids).await?;
    let item = |(id, event, age_s)| {
        Some(Item {
            id,
            event: views.get(&event)?.clone(),
            age: Duration::try_from_secs_f64(age_s).unwrap_or_default(),
        })
    };
    Ok(events.into_iter().filter_map(item).collect())
}

/// Finds the newest event of each of these orders and bookings of a store, even if this event has no delivery. Returns
/// the event's id, and the order's status (`None`: the order is hidden). Reads only the newest `SEARCHED_ROWS` journal
/// rows of the store. An order without a row among these is left out.
pub(super) async fn newest_of(
    transaction: &Transaction<'_>,
    sources: &Sources,
    store: &str,
    subjects: &[SubjectId],
) -> Result<HashMap<SubjectId, (i64, Option<Status>)>, QueryError> {
    let keys: Vec<&str> = subjects.iter().map(|subject| &*subject.key).collect();
    db::read_by_index(transaction).await?;
    let rows = journal::newest_of(transaction, &StoreId::new(store), &keys, SEARCHED_ROWS).await?;
    let rows: Vec<&_> = rows.iter().collect();
    let mut newest = HashMap::new();
    for event in sources.partner_events(&rows, &Lookups::default()) {
        if let Some(subject) = &event.subject {
            newest.insert(subject.id.clone(), (event.id.0, subject.visible_status()));
        }
    }
    newest.retain(|subject, _| subjects.contains(subject));
    Ok(newest)
}

/// Reads the current state of an order or booking from its newest event. `None`: the newest `SEARCHED_ROWS` journal
/// rows of the store contain no event of the order.
pub(super) async fn current(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    store: &str,
    subject: &SubjectId,
) -> Result<Option<EventView>, QueryError> {
    let newest = newest_of(transaction, sources, store, std::slice::from_ref(subject)).await?;
    let Some((event, _)) = newest.get(subject) else {
        return Ok(None);
    };
    Ok(views_of(transaction, sources, &[*event]).await?.remove(event))
}

/// Tries to read a delivery and its event. Fails with the error of the query or of the translation.
pub(super) async fn is_readable(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    delivery: i64,
) -> Result<(), QueryError> {
    items_of(transaction, sources, &[delivery]).await.map(drop)
}

/// Reads and translates the events with these ids, and looks up the items of their orders. Returns the events by id.
/// Events of removed sources are left out.
pub(super) async fn views_of(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    ids: &[i64],
) -> Result<HashMap<i64, EventView>, QueryError> {
    let ids: Vec<EventId> = ids.iter().copied().map(EventId).collect();
    let rows = journal::read_with_siblings(transaction, &ids).await?;
    let rows: Vec<&_> = rows.iter().collect();
    let mut lookups = Lookups::default();
    for (id, keys) in sources.to_look_up(&rows) {
        let Some(source) = sources.get(id) else { continue };
        transaction.batch_execute(LOOKUP_LIMITS).await?;
        let found = look_up(transaction, source, &keys, source.parts()).await?;
        // A part could not be looked up. Send the message without it, because a late message would be worse.
        for failed in lookups.extend(id, found) {
            let error = logged_reason(transaction, &failed.error).await;
            tracing::warn!(
                source = &*source.name,
                part = failed.part.as_str(),
                order = failed.first_key(),
                error,
                "a message is sent without its items or details"
            );
        }
    }
    let views = |event: PartnerEvent| {
        let views = EventView {
            id: event.id.0,
            kind: event.kind,
            subject: event.subject?,
            previous: event.previous,
            changed: event.changed,
            before: event.before,
            at: event.at,
        };
        ids.contains(&event.id).then_some((event.id.0, views))
    };
    Ok(sources
        .partner_events(&rows, &lookups)
        .into_iter()
        .filter_map(views)
        .collect())
}
