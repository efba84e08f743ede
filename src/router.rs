//! Hands the events of each read to the sessions of their store. Bounded everywhere, and never waits: a session whose
//! queue is full is let go as lagged and comes back with its cursor, so no event is dropped to make room.
//!
//! A read, or a chunk of a streamed one, is published whole under one lock, together with the cursor that it leads to.
//! So one who subscribes gets a cursor and, after it, exactly the events that it does not cover.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cursor::{Cursor, Epoch, Position};
use crate::event::{Delivery, Event, EventId, EventType, StoreId, Xid};
use crate::token::{TokenId, Withdrawn};

/// Batches that may wait for one session, whatever their bytes.
const QUEUE_BATCHES: usize = 256;
/// Batches for which an idle session keeps room.
const IDLE_QUEUE_BATCHES: usize = 4;

/// An event as it goes to every session of its store: serialised once.
#[derive(Debug)]
pub struct Published {
    /// Its number.
    pub id: EventId,
    /// Its transaction: what a replay saw already is left out by it.
    pub xid: Xid,
    /// What happened.
    pub kind: EventType,
    /// When the trigger ran.
    pub at: OffsetDateTime,
    /// The cursor in its text.
    pub cursor: Arc<str>,
    /// Its JSON, shared by reference count.
    pub text: Utf8Bytes,
}

/// The events of one read for one store, in order.
pub type Batch = Arc<[Published]>;

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
    /// The store has as many sessions as it may.
    TooMany,
}

/// What the router and one session share: the session's queue. A channel would cost an idle session a kilobyte.
#[derive(Debug, Default)]
struct Link {
    queue: Mutex<Queue>,
    /// Something came, or it is over.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Batch>,
    bytes: usize,
    end: Option<End>,
}

impl Link {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a batch into the queue, or ends the session where there is no room. Whether it was put there.
    fn offer(&self, batch: &Batch, bytes: usize, most_bytes: usize) -> bool {
        let mut queue = self.queue();
        // A batch larger than the bound still passes where nothing waits: it must get through some time.
        let fits = queue.bytes == 0 || queue.bytes + bytes <= most_bytes && queue.batches.len() < QUEUE_BATCHES;
        if fits {
            queue.batches.push_back(Arc::clone(batch));
            queue.bytes += bytes;
        } else {
            queue.end = queue.end.or(Some(End::Lagged));
        }
        drop(queue);
        self.wake.notify_one();
        fits
    }

    fn take(&self) -> Option<Batch> {
        let mut queue = self.queue();
        let batch = queue.batches.pop_front()?;
        queue.bytes -= bytes(&batch);
        if queue.batches.is_empty() {
            // An idle session keeps nothing of its busy moments.
            queue.batches.shrink_to(IDLE_QUEUE_BATCHES);
        }
        Some(batch)
    }

    fn end(&self, end: End) {
        self.queue().end.get_or_insert(end);
        self.wake.notify_one();
    }
}

/// A session's end of its queue. Dropping it ends the subscription.
pub struct Subscription {
    router: Arc<Router>,
    store: StoreId,
    number: u64,
    link: Arc<Link>,
    /// What the session had been sent if nothing ever came: the events after it follow.
    pub cursor: Arc<str>,
}

struct Subscriber {
    number: u64,
    token: TokenId,
    link: Arc<Link>,
}

#[derive(Default)]
struct Inner {
    stores: HashMap<StoreId, Vec<Subscriber>>,
    /// What has been published, once there is a position, and as a client would keep it.
    reached: Option<(Epoch, Arc<str>)>,
    next_number: u64,
    sessions: usize,
    draining: bool,
}

impl Inner {
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
    queue_bytes: usize,
    max_per_store: usize,
}

impl Router {
    /// With bounds for each session's queue, and for the sessions of one store.
    pub fn new(queue_bytes: usize, max_per_store: usize) -> Self {
        Self {
            inner: Mutex::default(),
            queue_bytes,
            max_per_store,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock leaves at worst a session without its last batch, which its cursor knows.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a subscription: everything after its cursor comes.
    pub fn subscribe(self: &Arc<Self>, store: &StoreId, token: TokenId) -> Result<Subscription, Refused> {
        let mut inner = self.lock();
        if inner.draining {
            return Err(Refused::Draining);
        }
        let cursor = inner
            .reached
            .as_ref()
            .map(|(_, cursor)| Arc::clone(cursor))
            .ok_or(Refused::NotReady)?;
        let number = inner.next_number;
        let subscribers = inner.stores.entry(store.clone()).or_default();
        if subscribers.len() >= self.max_per_store {
            return Err(Refused::TooMany);
        }
        let link = Arc::new(Link::default());
        subscribers.push(Subscriber {
            number,
            token,
            link: Arc::clone(&link),
        });
        inner.next_number += 1;
        inner.sessions += 1;
        metrics::gauge!("vestnik_sessions").set(inner.sessions as f64);
        drop(inner);
        Ok(Subscription {
            router: Arc::clone(self),
            store: store.clone(),
            number,
            link,
            cursor,
        })
    }

    /// Publishes one read, or one chunk of it. `before` is what was covered before it, `after` what is covered now;
    /// only the last event of each store may say `after`, for only then has that store's session been sent all of it.
    pub fn publish(&self, epoch: Epoch, events: &[Event], before: &Cursor, after: &Cursor) {
        let after: Arc<str> = after.encode(epoch).into();
        let mut inner = self.lock();
        let interested: Vec<&Event> = events
            .iter()
            .filter(|event| {
                event
                    .store
                    .as_ref()
                    .is_some_and(|store| inner.stores.contains_key(store))
            })
            .collect();
        if !interested.is_empty() {
            let before: Arc<str> = before.encode(epoch).into();
            let mut by_store: HashMap<&StoreId, Vec<&Event>> = HashMap::new();
            for event in interested {
                if let Some(store) = &event.store {
                    by_store.entry(store).or_default().push(event);
                }
            }
            for (store, events) in by_store {
                self.hand_over(&mut inner, store, &batch(&events, &before, &after));
            }
        }
        inner.reached = Some((epoch, after));
    }

    fn hand_over(&self, inner: &mut Inner, store: &StoreId, batch: &Batch) {
        let Some(subscribers) = inner.stores.get_mut(store) else {
            return;
        };
        let bytes = bytes(batch);
        let before = subscribers.len();
        subscribers.retain(|subscriber| {
            let kept = subscriber.link.offer(batch, bytes, self.queue_bytes);
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

    /// The feed stands at `position`, without having read anything on the way: at its start. In another life of the
    /// database every session is let go in the same moment: none may be given a cursor of it, for only with one of
    /// the life before does a client learn that its lists are stale.
    pub fn reach(&self, epoch: Epoch, position: &Position) {
        let mut inner = self.lock();
        if inner.reached.as_ref().is_some_and(|(before, _)| *before != epoch) {
            inner.release_all();
        }
        inner.reached = Some((epoch, Cursor::At(position.clone()).encode(epoch).into()));
    }

    /// What has been published, once there is a position, as a client would keep it.
    pub fn cursor(&self) -> Option<Arc<str>> {
        self.lock().reached.as_ref().map(|(_, cursor)| Arc::clone(cursor))
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
            .map(|subscriber| subscriber.token)
            .collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    /// Lets the sessions of a token go.
    pub fn withdraw(&self, token: TokenId, why: Withdrawn) {
        let inner = self.lock();
        for subscriber in inner
            .stores
            .values()
            .flatten()
            .filter(|subscriber| subscriber.token == token)
        {
            // It leaves the list when it drops its subscription.
            subscriber.link.end(End::Withdrawn(why));
        }
    }

    /// Sessions, and the bytes that wait in the fullest queue.
    pub fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        let deepest = inner
            .stores
            .values()
            .flatten()
            .map(|subscriber| subscriber.link.queue().bytes)
            .max();
        (inner.sessions, deepest.unwrap_or(0))
    }
}

fn batch(events: &[&Event], before: &Arc<str>, after: &Arc<str>) -> Batch {
    let last = events.len() - 1;
    let publish = |(index, event): (usize, &&Event)| {
        let cursor = if index == last { after } else { before };
        Published {
            id: event.id,
            xid: event.xid,
            kind: event.kind,
            at: event.at,
            cursor: Arc::clone(cursor),
            text: event.to_wire(cursor, Delivery::Live).into(),
        }
    };
    events.iter().enumerate().map(publish).collect()
}

fn bytes(batch: &Batch) -> usize {
    batch.iter().map(|event| event.text.len()).sum()
}

impl Subscription {
    /// The next batch; `Err` when the router has let the session go. What still waits then is not sent: the cursor
    /// of what has been sent brings it back.
    pub async fn next(&mut self) -> Result<Batch, End> {
        loop {
            if let Some(end) = self.link.queue().end {
                return Err(end);
            }
            if let Some(batch) = self.link.take() {
                return Ok(batch);
            }
            self.link.wake.notified().await;
        }
    }

    /// The next batch, if one waits.
    pub fn try_next(&mut self) -> Option<Batch> {
        self.link.take()
    }

    /// What the session has been sent once it has taken everything that waits now. `Err` when the router has let it go,
    /// which it does before it says that it has published what it left out: so look at the cursor first.
    pub fn reached(&self) -> Result<Arc<str>, End> {
        let reached = self.router.cursor().unwrap_or_else(|| Arc::clone(&self.cursor));
        match self.link.queue().end {
            Some(end) => Err(end),
            None => Ok(reached),
        }
    }

    /// Resolves when the router lets the session go.
    pub async fn let_go(&self) -> End {
        loop {
            if let Some(end) = self.link.queue().end {
                return end;
            }
            // A wake that is taken here is no loss: `next` looks at the queue before it waits.
            self.link.wake.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut inner = self.router.lock();
        let Some(subscribers) = inner.stores.get_mut(&self.store) else {
            return;
        };
        let before = subscribers.len();
        subscribers.retain(|subscriber| subscriber.number != self.number);
        let gone = before - subscribers.len();
        if subscribers.is_empty() {
            inner.stores.remove(&self.store);
        }
        inner.sessions -= gone;
        metrics::gauge!("vestnik_sessions").set(inner.sessions as f64);
    }
}
