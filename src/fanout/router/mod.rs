//! The router hands the events of each read of the journal to the sessions of their store. The router never waits: if a
//! session's queue is full, it ends the session as [`End::Lagged`]. The client then reconnects with its cursor, so no
//! event is lost.
//!
//! The router publishes a whole read, or a whole chunk of a read, under one lock. Under the same lock it sets the
//! cursor that covers the published events. So a new subscriber gets a cursor, and then exactly the events that this
//! cursor does not cover.

mod admission;
mod batch;
mod event_cache;
mod router_state;
mod selection;
mod session_queue;
mod subscription;
mod token_sessions;
mod translation;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use admission::Admission;
pub use batch::{Batch, BatchPart, Published, put_text_frame};
use event_cache::EventCache;
pub use event_cache::{CACHE_BYTES, CachedReplay};
use router_state::{RouterState, Subscriber};
pub use selection::{ManyStores, Selection};
pub use session_queue::Queued;
use session_queue::SessionQueue;
pub use subscription::Subscription;
use token_sessions::held_by;
pub use translation::{NotLookedUp, Translation};

use crate::domain::cursor::{Cursor, Epoch, Position};
use crate::domain::event::{JournalEvent, StoreId};
use crate::infra::metrics::HOT;
use crate::journal::History;
use crate::token::{Holder, TokenInvalidated};

/// After a restart of the node, its clients reconnect at random times within a period. The length of the period is this
/// time multiplied by the number of sessions, for example 1 s for 1,000 sessions.
const RECONNECT_PACE: Duration = Duration::from_millis(1);
/// Maximum length of the period within which the clients of a restarted node reconnect.
const MAX_RECONNECT_JITTER: Duration = Duration::from_secs(5);

/// The reason why the router ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The session's queue was full, because the client read too slowly.
    Lagged,
    /// The node is shutting down, or cannot read the journal, or the database has a new [`Epoch`] because it was
    /// restored. The client reconnects.
    Draining,
    /// The session's token is no longer valid.
    TokenInvalidated(TokenInvalidated),
}

/// The reason why the router refuses a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The node has not read the journal since its start, or cannot read it now.
    NotReady,
    /// The node is shutting down.
    Draining,
    /// The store already has its maximum number of sessions, or its maximum number of sessions with this token.
    TooMany,
}

/// Hands each event to the sessions of its store on this node.
pub struct Router {
    inner: Mutex<RouterState>,
    admission: Admission,
    send_queue_bytes: usize,
    max_event_bytes: usize,
    max_per_store: usize,
    max_per_token: usize,
}

impl Router {
    /// Creates a router. The parameters are limits: the bytes in a session's queue, the sessions of a store, and the
    /// sessions of a store with the same token.
    pub fn new(send_queue_bytes: usize, max_per_store: usize, max_per_token: usize) -> Self {
        Self {
            inner: Mutex::new(RouterState {
                stores: HashMap::new(),
                many: Vec::new(),
                reached: None,
                recent: EventCache::new(CACHE_BYTES),
                next_number: 0,
                sessions: 0,
                draining: false,
                stale: false,
            }),
            admission: Admission::default(),
            send_queue_bytes,
            max_event_bytes: usize::MAX,
            max_per_store,
            max_per_token,
        }
    }

    /// Sets the maximum size of an event's payload, in bytes. The router leaves out large parts of a larger event, such
    /// as its items.
    pub fn with_max_event_bytes(mut self, max_event_bytes: usize) -> Self {
        self.max_event_bytes = max_event_bytes;
        self
    }

    /// The maximum size of an event's payload, in bytes.
    pub fn max_event_bytes(&self) -> usize {
        self.max_event_bytes
    }

    fn lock(&self) -> MutexGuard<'_, RouterState> {
        // The lock is used even after another task has panicked. At most one session misses its last batch. That
        // session's cursor does not cover the batch, so a replay sends it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a subscription to a store. The subscription receives every event that [`Subscription::cursor`] does not
    /// cover.
    pub fn subscribe(self: &Arc<Self>, store: &StoreId, holder: Holder) -> Result<Subscription, Refused> {
        self.begin(Selection::Store(store.clone()), holder)
    }

    fn begin(self: &Arc<Self>, selection: Selection, holder: Holder) -> Result<Subscription, Refused> {
        let mut inner = self.lock();
        if inner.draining {
            return Err(Refused::Draining);
        }
        if inner.stale {
            return Err(Refused::NotReady);
        }
        let cursor = inner
            .reached
            .as_ref()
            .map(|(_, cursor)| Arc::clone(cursor))
            .ok_or(Refused::NotReady)?;
        let number = inner.next_number;
        let subscribers = match &selection {
            Selection::Store(store) => inner.stores.entry(store.clone()).or_default(),
            Selection::Many(_) => &mut inner.many,
        };
        let of_token = held_by(subscribers, holder.token);
        if subscribers.len() >= self.max_per_store || of_token >= self.max_per_token {
            return Err(Refused::TooMany);
        }
        let link = Arc::new(SessionQueue::default());
        subscribers.push(Subscriber {
            number,
            holder,
            link: Arc::clone(&link),
            selection: selection.clone(),
        });
        inner.next_number += 1;
        inner.sessions += 1;
        drop(inner);
        Ok(Subscription {
            router: Arc::clone(self),
            selection,
            number,
            link,
            cursor,
        })
    }

    /// Returns the events whose store has a session on this node.
    pub fn watched<'a>(&self, events: &'a [JournalEvent]) -> Vec<&'a JournalEvent> {
        let inner = self.lock();
        let is_watched = |event: &&JournalEvent| event.store.as_ref().is_some_and(|store| inner.is_watched(store));
        events.iter().filter(is_watched).collect()
    }

    /// Publishes the events of one read of the journal, or of one chunk of a read. `before` and `after` are the feed's
    /// cursors before and after these events. Each session gets `after` only with its last event: earlier, the cursor
    /// would cover events that the client does not have yet.
    ///
    /// `translation` has values that the feed has looked up, but only for stores that had a session at that time. If a
    /// store got its first session later, publishes nothing and returns [`NotLookedUp`].
    pub fn publish(
        &self,
        epoch: Epoch,
        events: &[JournalEvent],
        before: &Cursor,
        after: &Cursor,
        translation: &Translation<'_>,
    ) -> Result<(), NotLookedUp> {
        let after_cursor = after;
        let after: Arc<str> = after.encode(epoch).into();
        let mut inner = self.lock();
        let by_store = inner.by_store(events);
        if by_store.iter().any(|(store, _)| !translation.covers(store)) {
            return Err(NotLookedUp);
        }
        inner.recent.append(events, before, after_cursor);
        if !by_store.is_empty() {
            let before: Arc<str> = before.encode(epoch).into();
            let mut of_many = Vec::new();
            for (store, events) in by_store {
                let mut events = translation.sources.partner_events(&events, translation.lookups);
                events.iter_mut().for_each(|event| event.shorten(self.max_event_bytes));
                if !store.is_canary() {
                    events
                        .iter()
                        .for_each(|event| HOT.events[event.kind as usize].increment(1));
                }
                if !events.is_empty() && inner.stores.contains_key(store) {
                    self.hand_over(&mut inner, store, &Batch::new(&events, &before, &after));
                }
                if !inner.many.is_empty() {
                    of_many.extend(events);
                }
            }
            self.hand_over_to_many(&mut inner, of_many, &before, &after);
        }
        inner.reached = Some((epoch, after));
        Ok(())
    }

    /// Tells the clients of these stores to reload their lists, for example after a mapping was changed or a source's
    /// table was emptied. `None`: the clients of all stores.
    pub fn resync(&self, stores: Option<&[StoreId]>) {
        let inner = self.lock();
        let Some((_, cursor)) = &inner.reached else { return };
        match stores {
            None => inner.all().for_each(|subscriber| subscriber.link.resync(cursor)),
            Some(stores) => inner
                .all_of(stores)
                .for_each(|subscriber| subscriber.link.resync(cursor)),
        }
    }

    /// Queues the batch for a session. If the session's queue is full, ends the session. Returns whether the batch was
    /// queued.
    fn push(&self, subscriber: &Subscriber, batch: &Batch) -> bool {
        let kept = subscriber.link.try_push(batch, batch.bytes(), self.send_queue_bytes);
        if !kept {
            metrics::counter!("vestnik_sessions_lagged_total").increment(1);
        }
        kept
    }

    fn hand_over(&self, inner: &mut RouterState, store: &StoreId, batch: &Batch) {
        let Some(subscribers) = inner.stores.get_mut(store) else {
            return;
        };
        let before = subscribers.len();
        subscribers.retain(|subscriber| self.push(subscriber, batch));
        inner.sessions -= before - subscribers.len();
        if subscribers.is_empty() {
            inner.stores.remove(store);
        }
    }

    /// Whether the queues of these stores' sessions are at most half full. A publisher of many events waits until this
    /// is true, because the router ends a session whose queue is full.
    pub fn has_room<'a>(&self, stores: impl IntoIterator<Item = &'a StoreId>) -> bool {
        let inner = self.lock();
        let mut subscribers = stores.into_iter().flat_map(|store| inner.of_store(store));
        subscribers.all(|subscriber| subscriber.link.bytes() <= self.send_queue_bytes / 2)
    }

    /// Sets the feed's position when the feed starts, and after a read that was published in chunks. If the [`Epoch`]
    /// is new, cursors of the old epoch are no longer valid, so all sessions end. Each client then reconnects with an
    /// old cursor, and the server tells it to reload its lists.
    pub fn reach(&self, epoch: Epoch, position: &Position) {
        let mut inner = self.lock();
        if inner.reached.as_ref().is_some_and(|(before, _)| *before != epoch) {
            inner.release_all();
            inner.recent = EventCache::new(CACHE_BYTES);
        }
        inner.recent.set_position(position);
        inner.reached = Some((epoch, Cursor::At(position.clone()).encode(epoch).into()));
    }

    /// Sets a new [`Epoch`] in which cursors of the old epoch stay valid, so no session ends. `published` is the cursor
    /// that covers all published events.
    pub fn follow(&self, epoch: Epoch, published: &Cursor) {
        let mut inner = self.lock();
        if inner.reached.is_some() {
            inner.reached = Some((epoch, published.encode(epoch).into()));
        }
    }

    /// The admission, which limits the rate at which reconnecting clients start sessions.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The replay from the event cache for a client of the store: the events that the client's `cursor` does not cover.
    /// `None`: the cache lacks some of these events.
    pub fn replay_from(&self, store: &StoreId, cursor: &str) -> Option<CachedReplay> {
        let inner = self.lock();
        let (epoch, _) = inner.reached.as_ref()?;
        inner.recent.replay_from(store, *epoch, cursor)
    }

    /// Removes all events from the event cache. The feed calls this method when a customer's data may have been erased
    /// from the journal.
    pub fn clear_cache(&self) {
        self.lock().recent.clear();
    }

    /// The position at which the event cache begins, if past events should be added before this position. `None`: past
    /// events were added already, or the cache is not in use.
    pub fn wants_history(&self) -> Option<Position> {
        self.lock().recent.wants_history()
    }

    /// Adds past events from the journal to the event cache. `base` is the result of [`Router::wants_history`]. The
    /// caller must first call `wants_history`, and then read the events.
    pub fn prepend_history(&self, base: &Position, history: History) {
        let mut inner = self.lock();
        if inner.reached.as_ref().is_some_and(|(here, _)| *here == history.epoch) {
            inner.recent.prepend_history(base, &history.base, history.events);
        }
    }

    /// The length of the period within which this node's clients should reconnect after a shutdown, each at a random
    /// time.
    pub fn reconnect_jitter(&self) -> Duration {
        let sessions = u32::try_from(self.lock().sessions).unwrap_or(u32::MAX);
        RECONNECT_PACE.saturating_mul(sessions).min(MAX_RECONNECT_JITTER)
    }

    /// The cursor that covers all published events. `None`: the feed has not started yet.
    pub fn cursor(&self) -> Option<Arc<str>> {
        self.lock().reached.as_ref().map(|(_, cursor)| Arc::clone(cursor))
    }

    /// Sets whether the node's data is stale: its last read of the journal is too long ago. Tells every session about a
    /// change. While the data is stale, no session starts.
    pub fn set_stale(&self, stale: bool) {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.stale, stale) == stale {
            return;
        }
        let fresh = inner.reached.as_ref().map(|(_, cursor)| cursor).filter(|_| !stale);
        for subscriber in inner.all() {
            subscriber.link.say_stale(fresh);
        }
    }

    /// Ends every session. Each client then reconnects with its cursor, to this node or to another node.
    pub fn let_all_go(&self) {
        self.lock().release_all();
    }

    /// Ends every session, and from now on refuses new sessions.
    pub fn drain(&self) {
        let mut inner = self.lock();
        inner.draining = true;
        inner.release_all();
    }

    /// The number of sessions on this node, and the number of bytes in the fullest queue.
    pub fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        let deepest = inner.all().map(|subscriber| subscriber.link.bytes()).max();
        (inner.sessions, deepest.unwrap_or(0))
    }
}
