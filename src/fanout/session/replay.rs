//! Replays the events that a client missed. If only one client reconnects, its session reads the missed events from the
//! journal, one page at a time. During a mass reconnect, sessions read the missed events from the event cache. The
//! first of these sessions fills the cache with past events.

use std::sync::Arc;

use super::{Close, Hub, Outgoing, Session, Transport, close_for, messages};
use crate::domain::cursor::{Cursor, ReplayEnd};
use crate::domain::event::{Delivery, EventId, JournalEvent, PartnerEvent};
use crate::domain::event_group;
use crate::domain::store_set::StoreSet;
use crate::fanout::router::{CACHE_BYTES, CachedReplay, Selection};
use crate::infra::db::QueryError;
use crate::infra::metrics::HOT;
use crate::journal::{self, Page, Start};

/// Maximum number of events in one page of a replay.
const REPLAY_PAGE_EVENTS: usize = 200;
/// Maximum number of events in one page of a replay of several stores. For each page, Postgres sorts all missed events
/// of these stores, so larger pages cause fewer sorts.
const REPLAY_PAGE_OF_MANY_EVENTS: usize = 2000;

/// The result of one step of a replay: one page, or the whole replay.
enum Next {
    /// A page that was read from the journal.
    Page(Page),
    /// The whole replay, which was read from the event cache.
    CachedReplay(CachedReplay),
}

impl Hub {
    /// Translates rows of the journal into the events that clients receive, in the same order. Leaves out large parts
    /// of a large event, such as its items.
    pub async fn translate(&self, rows: &[&JournalEvent]) -> Result<Vec<PartnerEvent>, QueryError> {
        let mut events = self.translate_whole(rows).await?;
        let max_bytes = self.router.max_event_bytes();
        events.iter_mut().for_each(|event| event.shorten(max_bytes));
        Ok(events)
    }

    /// Translates rows of the journal as [`Self::translate`] does, but leaves nothing out, however large an event is.
    pub async fn translate_whole(&self, rows: &[&JournalEvent]) -> Result<Vec<PartnerEvent>, QueryError> {
        let sources = self.sources.loaded(&self.pool).await?;
        let lookups = self.lookup.for_events(&sources, rows).await;
        Ok(sources.partner_events(rows, &lookups))
    }

    /// Fills the event cache with past events from the journal, unless the cache has them already. If several sessions
    /// call this method, the first fills the cache, and the others wait for it.
    pub async fn load_history(&self) {
        if let Some(wanted) = self.router.wants_history()
            && let Some(_first) = self.router.admission().begin_cache_warmup().await
        {
            match journal::read_history(&self.pool, CACHE_BYTES / 2).await {
                Ok(history) => self.router.prepend_history(&wanted, history),
                Err(error) => tracing::warn!(%error, "the recent events could not be read"),
            }
        }
    }
}

impl Session {
    /// Sends the events that the client's cursor `after` does not cover. Returns the cursor at the end of the replay,
    /// from which the session continues with live events.
    pub(super) async fn replay(&mut self, after: String, transport: &mut impl Transport) -> Result<Arc<str>, Close> {
        let mut after = after;
        loop {
            self.check_token()?;
            match self.next_page(&after).await? {
                Next::CachedReplay(cached) => return self.send_cached(after.as_str().into(), cached, transport).await,
                Next::Page(Page::Resync { reason, fresh, end }) => {
                    let fresh: Arc<str> = fresh.into();
                    let message = messages::resync_required(reason.as_str(), &fresh);
                    self.put(Outgoing::WithCursor(Arc::clone(&fresh), message), transport)
                        .await?;
                    self.replayed = Some(end);
                    return Ok(fresh);
                }
                Next::Page(Page::Events { events, cursor, end }) => {
                    let rows: Vec<&JournalEvent> = events.iter().map(|row| &row.event).collect();
                    let mut told = self.translate(&rows).await?;
                    if let Selection::Many(many) = &self.selection {
                        told.retain(|event| many.takes(&event.store, event.kind));
                    }
                    HOT.replayed.increment(told.len() as u64);
                    let told_nothing = told.is_empty();
                    let mut cursors = events.iter();
                    for event in told {
                        // The events have the order of their rows. Several rows may have become one event, so some rows
                        // have no event.
                        let Some(row) = cursors.find(|row| row.event.id == event.id) else {
                            continue;
                        };
                        let text = event.to_wire(&row.cursor, Delivery::Replayed);
                        self.put(Outgoing::WithCursor(row.cursor.as_str().into(), text.into()), transport)
                            .await?;
                    }
                    self.flush(transport).await?;
                    if let Some(end) = end {
                        self.replayed = Some(end);
                        return Ok(cursor.into());
                    }
                    if told_nothing {
                        // No event of this page is for the client. The heartbeat carries the cursor, so that the client
                        // does not read the page again.
                        let cursor: Arc<str> = cursor.as_str().into();
                        let message = messages::heartbeat(&cursor);
                        self.send_now(Outgoing::WithCursor(cursor, message), transport).await?;
                    }
                    after = cursor;
                }
            }
        }
    }

    async fn next_page(&self, after: &str) -> Result<Next, Close> {
        let admission = self.hub.router.admission();
        if let Some(_turn) = admission.try_read_uncontended() {
            return Ok(Next::Page(self.read(after).await?));
        }
        // If the router ends the session while the replay waits, the replay stops at once.
        let waited = async {
            match self.replay_from(after).await {
                Some(cached) => Err(cached),
                None => Ok(admission.acquire_read_slot().await),
            }
        };
        let turn = tokio::select! {
            waited = waited => waited,
            end = self.subscription.let_go() => return Err(close_for(end)),
        };
        match turn {
            Err(cached) => Ok(Next::CachedReplay(cached)),
            Ok(Some(_turn)) => Ok(Next::Page(self.read(after).await?)),
            Ok(None) => {
                tracing::warn!(
                    session = self.name,
                    "a replay did not get its turn; the client will come back"
                );
                Err(Close::Draining)
            }
        }
    }

    async fn read(&self, after: &str) -> Result<Page, Close> {
        let (stores, events) = match &self.selection {
            Selection::Store(store) => (&StoreSet::One(store.clone()), REPLAY_PAGE_EVENTS),
            Selection::Many(many) => (&many.stores, REPLAY_PAGE_OF_MANY_EVENTS),
        };
        let page = journal::read_page(&self.hub.pool, stores, Start::After(after), events).await;
        page.map_err(|error| self.give_up(&error))
    }

    async fn translate(&self, rows: &[&JournalEvent]) -> Result<Vec<PartnerEvent>, Close> {
        self.hub.translate(rows).await.map_err(|error| self.give_up(&error))
    }

    fn give_up(&self, error: &dyn std::fmt::Display) -> Close {
        tracing::warn!(%error, session = self.name, "a replay failed; the client will come back");
        Close::Draining
    }

    /// Returns the whole replay from the event cache. `None`: the cache lacks some of the missed events.
    async fn replay_from(&self, after: &str) -> Option<CachedReplay> {
        // The cache groups its events by store. Streams of several stores are rare, so the journal serves them.
        let Selection::Store(store) = &self.selection else {
            return None;
        };
        let router = &self.hub.router;
        if let Some(cached) = router.replay_from(store, after) {
            return Some(cached);
        }
        self.hub.load_history().await;
        router.replay_from(store, after)
    }

    /// Sends a replay from the event cache. `reached` is the client's cursor.
    async fn send_cached(
        &mut self,
        mut reached: Arc<str>,
        cached: CachedReplay,
        transport: &mut impl Transport,
    ) -> Result<Arc<str>, Close> {
        let CachedReplay {
            events,
            seen,
            epoch,
            replay_plan,
        } = cached;
        let covered: Arc<str> = Cursor::At(seen.clone()).encode(epoch).into();
        let rows: Vec<&JournalEvent> = events.iter().map(AsRef::as_ref).collect();
        let events = self.translate(&rows).await?;
        HOT.replayed.increment(events.len() as u64);
        let last = events.len().saturating_sub(1);
        let mut stops = rows
            .iter()
            .zip(event_group::stops(rows.iter().copied().map(Some), true));
        for (index, event) in events.iter().enumerate() {
            for (row, may_stop) in stops.by_ref() {
                if may_stop {
                    reached = replay_plan.cursor_after(row.xid, row.id, &seen).encode(epoch).into();
                }
                if row.id == event.id {
                    break;
                }
            }
            if index == last {
                // The last event carries the cursor of the whole replay, because no event follows it.
                reached = Arc::clone(&covered);
            }
            let text = event.to_wire(&reached, Delivery::Replayed);
            self.put(Outgoing::WithCursor(Arc::clone(&reached), text.into()), transport)
                .await?;
        }
        self.flush(transport).await?;
        // The feed has read each event of the cache, so it notices if one of them is lost.
        self.replayed = Some(ReplayEnd {
            position: seen,
            newest: EventId(i64::MAX),
        });
        Ok(covered)
    }
}
