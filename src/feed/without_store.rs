//! Logs orders that no client receives, because their rows name no store.

use crate::domain::event::{Body, JournalEvent, RowWrite, Write};
use crate::domain::money::Currency;
use crate::domain::status::Status;
use crate::infra::telemetry::LogLimit;
use crate::sources::lookup_results::LookupResult;
use crate::sources::{Context, Sources};

/// Maximum number of events without a store that are examined in one read of the journal.
const EXAMINED: usize = 100;

/// Logs the open orders without a store among these events. Hidden orders, such as carts, may have none.
pub(super) fn report(sources: &Sources, events: &[JournalEvent]) {
    static LIMIT: LogLimit = LogLimit::new();
    let without_store = events.iter().enumerate().filter(|(_, event)| event.store.is_none());
    for (at, event) in without_store.take(EXAMINED) {
        let Body::Write(row) = &event.body else { continue };
        let is_there = matches!(row.write, Write::Insert | Write::Update);
        let Some(source) = sources.get(row.source).filter(|_| is_there) else {
            continue;
        };
        if events[at + 1..].iter().any(|later| gets_store(row, later)) {
            continue;
        }
        let key = row.key.as_deref().unwrap_or("unknown");
        let context = Context {
            currency: Currency::DEFAULT,
            lookup: LookupResult::Nothing,
        };
        let order = source.at_the_time_of(&row.data).translate(key, &row.data, context);
        if !order.visible_status().is_some_and(Status::is_open) {
            continue;
        }
        if let Some(unlogged) = LIMIT.allows() {
            tracing::warn!(
                source = &*source.name,
                key,
                unlogged,
                "an order has no store, so nobody receives it: it rings when its row gets one"
            );
        }
    }
}

/// Whether a later event of the row names a store, for example because the shop writes the store with a second
/// statement.
fn gets_store(row: &RowWrite, later: &JournalEvent) -> bool {
    matches!(&later.body, Body::Write(other) if other.source == row.source && other.key == row.key)
        && later.store.is_some()
}
