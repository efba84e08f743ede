//! The meaning of events for messages: translated with today's mappings, plus the items that were looked up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::infra::db::Transaction;
use time::OffsetDateTime;

use crate::domain::Subject as Canonical;
use crate::domain::event::{EventId, EventType, PartnerEvent};
use crate::domain::status::Status;
use crate::infra::db::{self, QueryError};
use crate::journal;
use crate::sources::Sources;
use crate::sources::changes::Lookups;
use crate::sources::lookup::look_up;

/// Limits of a look-up in another table for the items of a message.
const LOOKUP_LIMITS: &str = "set local lock_timeout = '500ms'; set local statement_timeout = '500ms'";

/// A delivery of an event, or of a note about it.
#[derive(Debug, Clone)]
pub struct Item {
    /// The id of the delivery's row.
    pub id: i64,
    /// The event.
    pub event: EventView,
    /// The age of the event.
    pub age: Duration,
}

/// An event, as messages need it.
#[derive(Debug, Clone)]
pub struct EventView {
    /// The event's id.
    pub id: i64,
    /// The type of the event.
    pub kind: EventType,
    /// The order or booking at that moment.
    pub subject: Arc<Canonical>,
    /// The previous status; `None`: there was none, or it was hidden.
    pub previous: Option<Status>,
    /// The changed fields, by their names in the protocol.
    pub changed: Vec<&'static str>,
    /// The order or booking before a change of fields; `None`: another kind of event.
    pub before: Option<Arc<Canonical>>,
    /// When the event happened.
    pub at: OffsetDateTime,
}

impl EventView {
    /// When the order was promised to be ready; `None`: this event does not say.
    pub fn promised_at(&self) -> Option<OffsetDateTime> {
        let minutes = self
            .subject
            .promised_minutes
            .map(|minutes| self.at + time::Duration::minutes(minutes.into()));
        minutes.or(self.subject.due_at)
    }
}

/// The events of these deliveries, or the events that they are about; urgent deliveries first.
pub(super) async fn items_of(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    deliveries: &[i64],
) -> Result<Vec<Item>, QueryError> {
    const EVENTS: &str = "select d.id, e.id, extract(epoch from clock_timestamp() - e.at)::float8 \
         from vestnik.vst_delivery d join vestnik.vst_event e on e.id = coalesce(d.event_id, d.about_id) \
         where d.id = any ($1) order by d.urgent desc, d.id";
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

/// Whether a delivery can be read: an error means that it cannot.
pub(super) async fn is_readable(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    delivery: i64,
) -> Result<(), QueryError> {
    items_of(transaction, sources, &[delivery]).await.map(drop)
}

/// Translates these events, with their look-ups. Events of removed sources are left out.
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
        let savepoint = transaction.savepoint().await?;
        savepoint.batch_execute(LOOKUP_LIMITS).await?;
        match look_up(&savepoint, source, &keys).await {
            Ok(found) => {
                savepoint.commit().await?;
                lookups.extend(id, found);
            }
            // Sending the order without its items is better than sending it late.
            Err(error) => {
                savepoint.rollback().await?;
                let reason = db::reason(&error);
                tracing::warn!(
                    source = &*source.name,
                    error = reason,
                    "a message is sent without its items"
                );
                lookups.fail(id);
            }
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
