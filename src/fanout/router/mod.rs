//! Hands the events of each read to the sessions of their store. Every queue is bounded, and the router never waits: it
//! closes a session with a full queue as lagged. The client comes back with its cursor, so no event is dropped.
//!
//! A read, or a chunk of a streamed one, is published whole under one lock, together with the cursor after it. So a new
//! subscriber gets a cursor and, after it, exactly the events that the cursor does not cover.

mod admission;
mod batch;
mod event_cache;
mod session_queue;
mod subscription;
mod translation;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use admission::Admission;
pub use batch::{Batch, Part, Published, put_text_frame};
use event_cache::EventCache;
pub use event_cache::{CachedReplay, RECENT_BYTES};
pub use session_queue::Queued;
use session_queue::SessionQueue;
pub use subscription::Subscription;
pub use translation::{Newcomer, Translation};

use crate::domain::cursor::{Cursor, Epoch, Position};
use crate::domain::event::{JournalEvent, StoreId};
use crate::infra::metrics::HOT;
use crate::journal::Past;
use crate::token::{Holder, TokenId, Withdrawn};

/// Time for each session that comes back after a restart.
const RECONNECT_PACE: Duration = Duration::from_millis(1);
/// However many they are, they are back soon.
const MAX_RECONNECT_JITTER: Duration = Duration::from_secs(5);

/// Why the router lets a session go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its queue was full.
    Lagged,
    /// The node is going down, or the database began another life.
    Draining,
    /// Its token is no longer valid.
    Withdrawn(Withdrawn),
}

/// Why there is no subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The feed has no position yet.
    NotReady,
    /// The node is going down.
    Draining,
    /// The store, or the token for it, has as many sessions as it may.
    TooMany,
}

struct Subscriber {
    number: u64,
    holder: Holder,
    link: Arc<SessionQueue>,
}

struct Inner {
    stores: HashMap<StoreId, Vec<Subscriber>>,
    /// What has been published, once there is a position, and as a client would keep it.
    reached: Option<(Epoch, Arc<str>)>,
    recent: EventCache,
    next_number: u64,
    sessions: usize,
    draining: bool,
    /// Whether the journal has not been read for a while.
    stale: bool,
}

impl Inner {
    /// The events of each store that has a session here.
    fn by_store<'a>(&self, events: &'a [JournalEvent]) -> Vec<(&'a StoreId, Vec<&'a JournalEvent>)> {
        let mut by_store: Vec<(&StoreId, Vec<&JournalEvent>)> = Vec::new();
        let mut places: HashMap<&StoreId, usize> = HashMap::new();
        for event in events {
            let Some(store) = event.store.as_ref() else { continue };
            match by_store.last_mut() {
                // As a rule one store's events follow one another, and there is nothing to look up.
                Some((last, events)) if *last == store => events.push(event),
                _ if !self.stores.contains_key(store) => {}
                _ => {
                    let place = *places.entry(store).or_insert(by_store.len());
                    match by_store.get_mut(place) {
                        Some((_, events)) => events.push(event),
                        None => by_store.push((store, vec![event])),
                    }
                }
            }
        }
        by_store
    }

    fn release_all(&mut self) {
        for subscriber in std::mem::take(&mut self.stores).into_values().flatten() {
            subscriber.link.end(End::Draining);
        }
        self.sessions = 0;
    }
}

/// The sessions of this node, by store.
pub struct Router {
    inner: Mutex<Inner>,
    admission: Admission,
    queue_bytes: usize,
    max_per_store: usize,
    max_per_token: usize,
}

impl Router {
    /// With bounds for each session's queue, for the sessions of one store, and for those that one token has of it.
    pub fn new(queue_bytes: usize, max_per_store: usize, max_per_token: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                stores: HashMap::new(),
                reached: None,
                recent: EventCache::new(RECENT_BYTES),
                next_number: 0,
                sessions: 0,
                draining: false,
                stale: false,
            }),
            admission: Admission::default(),
            queue_bytes,
            max_per_store,
            max_per_token,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock leaves at worst a session without its last batch, which its cursor knows.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a subscription: everything after its cursor comes.
    pub fn subscribe(self: &Arc<Self>, store: &StoreId, holder: Holder) -> Result<Subscription, Refused> {
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
        let subscribers = inner.stores.entry(store.clone()).or_default();
        let of_token = held_by(subscribers, holder.token);
        if subscribers.len() >= self.max_per_store || of_token >= self.max_per_token {
            return Err(Refused::TooMany);
        }
        let link = Arc::new(SessionQueue::default());
        subscribers.push(Subscriber {
            number,
            holder,
            link: Arc::clone(&link),
        });
        inner.next_number += 1;
        inner.sessions += 1;
        drop(inner);
        Ok(Subscription {
            router: Arc::clone(self),
            store: store.clone(),
            number,
            link,
            cursor,
        })
    }

    /// Those of these events that somebody here receives.
    pub fn watched<'a>(&self, events: &'a [JournalEvent]) -> Vec<&'a JournalEvent> {
        let inner = self.lock();
        let is_watched = |event: &&JournalEvent| {
            event
                .store
                .as_ref()
                .is_some_and(|store| inner.stores.contains_key(store))
        };
        events.iter().filter(is_watched).collect()
    }

    /// Publishes one read, or one chunk of it. `before` is what was covered before it, `after` what is covered now;
    /// only the last event of each store may say `after`, for only then has that store's session been sent all of it.
    ///
    /// Nothing is published where a session has come for which too little was looked up: then ask again.
    pub fn publish(
        &self,
        epoch: Epoch,
        events: &[JournalEvent],
        before: &Cursor,
        after: &Cursor,
        translation: &Translation<'_>,
    ) -> Result<(), Newcomer> {
        let after_cursor = after;
        let after: Arc<str> = after.encode(epoch).into();
        let mut inner = self.lock();
        let by_store = inner.by_store(events);
        if by_store.iter().any(|(store, _)| !translation.covers(store)) {
            return Err(Newcomer);
        }
        inner.recent.keep(events, before, after_cursor);
        if !by_store.is_empty() {
            let before: Arc<str> = before.encode(epoch).into();
            for (store, events) in by_store {
                let events = translation.sources.partner_events(&events, translation.lookups);
                events
                    .iter()
                    .for_each(|event| HOT.events[event.kind as usize].increment(1));
                if !events.is_empty() {
                    self.hand_over(&mut inner, store, &Batch::new(&events, &before, &after));
                }
            }
        }
        inner.reached = Some((epoch, after));
        Ok(())
    }

    /// What the lists of these stores' sessions show is out of date, or of all: their rows are read otherwise now, or a
    /// source was emptied.
    pub fn resync(&self, stores: Option<&[StoreId]>) {
        let inner = self.lock();
        let Some((_, cursor)) = &inner.reached else { return };
        let concerned = inner
            .stores
            .iter()
            .filter(|(store, _)| stores.is_none_or(|stores| stores.contains(store)));
        concerned
            .flat_map(|(_, subscribers)| subscribers)
            .for_each(|subscriber| subscriber.link.resync(cursor));
    }

    fn hand_over(&self, inner: &mut Inner, store: &StoreId, batch: &Batch) {
        let Some(subscribers) = inner.stores.get_mut(store) else {
            return;
        };
        let bytes = batch.bytes();
        let before = subscribers.len();
        subscribers.retain(|subscriber| {
            let kept = subscriber.link.try_push(batch, bytes, self.queue_bytes);
            if !kept {
                metrics::counter!("vestnik_sessions_lagged_total").increment(1);
            }
            kept
        });
        inner.sessions -= before - subscribers.len();
        if subscribers.is_empty() {
            inner.stores.remove(store);
        }
    }

    /// Whether the sessions of these stores have taken most of what they were handed: whoever has much to publish, and can
    /// wait a little, need not have them end as lagged.
    pub fn has_room<'a>(&self, stores: impl IntoIterator<Item = &'a StoreId>) -> bool {
        let inner = self.lock();
        let mut subscribers = stores.into_iter().filter_map(|store| inner.stores.get(store)).flatten();
        subscribers.all(|subscriber| subscriber.link.bytes() <= self.queue_bytes / 2)
    }

    /// The feed stands at `position`, without having read anything on the way: at its start. In another life of the
    /// database every session is let go in the same moment: none may be given a cursor of it, for only with one of
    /// the life before does a client learn that its lists are stale.
    pub fn reach(&self, epoch: Epoch, position: &Position) {
        let mut inner = self.lock();
        if inner.reached.as_ref().is_some_and(|(before, _)| *before != epoch) {
            inner.release_all();
            inner.recent = EventCache::new(RECENT_BYTES);
        }
        inner.recent.reach(position);
        inner.reached = Some((epoch, Cursor::At(position.clone()).encode(epoch).into()));
    }

    /// The line of those who come back.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// What the owner of this cursor is owed, if memory holds all of it.
    pub fn recall(&self, store: &StoreId, cursor: &str) -> Option<CachedReplay> {
        let inner = self.lock();
        let (epoch, _) = inner.reached.as_ref()?;
        inner.recent.recall(store, *epoch, cursor)
    }

    /// Where the past would join what memory holds, if it has not been read yet.
    pub fn wants_past(&self) -> Option<Position> {
        self.lock().recent.wants_past()
    }

    /// Takes the past, read after it was wanted at `base`.
    pub fn remember(&self, base: &Position, past: Past) {
        let mut inner = self.lock();
        if inner.reached.as_ref().is_some_and(|(here, _)| *here == past.epoch) {
            inner.recent.remember(base, &past.base, past.events);
        }
    }

    /// Within which time the sessions of this node should come back when it goes, so that they do not come all at once.
    pub fn reconnect_jitter(&self) -> Duration {
        let sessions = u32::try_from(self.lock().sessions).unwrap_or(u32::MAX);
        RECONNECT_PACE.saturating_mul(sessions).min(MAX_RECONNECT_JITTER)
    }

    /// What has been published, once there is a position, as a client would keep it.
    pub fn cursor(&self) -> Option<Arc<str>> {
        self.lock().reached.as_ref().map(|(_, cursor)| Arc::clone(cursor))
    }

    /// The journal has not been read for a while, or is read again: every session is told, and none begins meanwhile.
    pub fn set_stale(&self, stale: bool) {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.stale, stale) == stale {
            return;
        }
        let fresh = inner.reached.as_ref().map(|(_, cursor)| cursor).filter(|_| !stale);
        for subscriber in inner.stores.values().flatten() {
            subscriber.link.say_stale(fresh);
        }
    }

    /// Lets every session go, to come back with its cursor, here or to another node.
    pub fn let_all_go(&self) {
        self.lock().release_all();
    }

    /// Lets every session go, to come back with its cursor, and takes no further one.
    pub fn drain(&self) {
        let mut inner = self.lock();
        inner.draining = true;
        inner.release_all();
    }

    /// The tokens that open the sessions of this node, each once.
    pub fn tokens(&self) -> Vec<TokenId> {
        let inner = self.lock();
        let mut tokens: Vec<TokenId> = inner
            .stores
            .values()
            .flatten()
            .map(|subscriber| subscriber.holder.token)
            .collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    /// How many sessions each token has on this node.
    pub fn sessions_by_token(&self) -> BTreeMap<TokenId, usize> {
        let mut sessions = BTreeMap::new();
        for subscriber in self.lock().stores.values().flatten() {
            *sessions.entry(subscriber.holder.token).or_default() += 1;
        }
        sessions
    }

    /// Lets the sessions go whose token no longer opens what it did, as `why` says.
    pub fn withdraw(&self, why: impl Fn(&StoreId, Holder) -> Option<Withdrawn>) {
        for (store, subscribers) in &self.lock().stores {
            for subscriber in subscribers {
                if let Some(why) = why(store, subscriber.holder) {
                    // It leaves the list when it drops its subscription.
                    subscriber.link.end(End::Withdrawn(why));
                }
            }
        }
    }

    /// Sessions, and the bytes that wait in the fullest queue.
    pub fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        let deepest = inner
            .stores
            .values()
            .flatten()
            .map(|subscriber| subscriber.link.bytes())
            .max();
        (inner.sessions, deepest.unwrap_or(0))
    }
}

/// Sessions of these that a token has.
fn held_by(subscribers: &[Subscriber], token: TokenId) -> usize {
    let of_token = subscribers.iter().filter(|subscriber| subscriber.holder.token == token);
    of_token.count()
}
