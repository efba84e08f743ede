//! Counts new orders by the channel (such as websocket or telegram) that was the first to carry them. A journal row
//! does not say whether an order is new, so the rows are translated first.

use crate::infra::db::GenericClient;

use crate::domain::event::{EventId, EventType};
use crate::infra::db::QueryError;
use crate::journal;
use crate::sources::Sources;
use crate::sources::lookup_results::Lookups;

/// Counts the new orders among `events` in a metric. Each event has the name of the channel that was the first to carry
/// it.
pub async fn count(
    client: &impl GenericClient,
    sources: &Sources,
    events: &[(EventId, &str)],
) -> Result<(), QueryError> {
    let ids: Vec<EventId> = events.iter().map(|(id, _)| *id).collect();
    let new = new_orders(client, sources, &ids).await?;
    for (_, channel) in events.iter().filter(|(id, _)| new.contains(id)) {
        metrics::counter!("vestnik_orders_first_seen_total", "channel" => (*channel).to_owned()).increment(1);
    }
    Ok(())
}

/// Returns the ids of the given events that announced a new order.
pub async fn new_orders(
    client: &impl GenericClient,
    sources: &Sources,
    ids: &[EventId],
) -> Result<Vec<EventId>, QueryError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = journal::read_with_siblings(client, ids).await?;
    let rows: Vec<_> = rows.iter().collect();
    let events = sources.partner_events(&rows, &Lookups::default());
    let new = events
        .iter()
        .filter(|event| event.kind == EventType::NewOrder && ids.contains(&event.id));
    Ok(new.map(|event| event.id).collect())
}
