//! Hands the events of each read to the sessions of their store. Bounded everywhere, and never waits: a session whose
//! queue is full is let go as lagged and comes back with its cursor, so no event is dropped to make room.
//!
//! A read, or a chunk of a streamed one, is published whole under one lock, together with the cursor that it leads to.
//! So one who subscribes gets a cursor and, after it, exactly the events that it does not cover.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use time::OffsetDateTime;
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cursor::{Cursor, Epoch, Position};
use crate::event::{Delivery, Event, EventId, EventType, StoreId, Xid};
use crate::token::{TokenId, Withdrawn};

/// Batches that may wait for one session, whatever their bytes.
const QUEUE_BATCHES: usize = 256;

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

/// What the router and one session share.
#[derive(Debug, Default)]
struct Link {
    queued_bytes: AtomicUsize,
    end: OnceLock<End>,
    ended: Notify,
}

impl Link {
    fn end(&self, end: End) {
        let _ = self.end.set(end);
        self.ended.notify_one();
    }
}

/// A session's end of its queue. Dropping it ends the subscription.
pub struct Subscription {
    router: Arc<Router>,
    store: StoreId,
    number: u64,
    batches: mpsc::Receiver<Batch>,
    link: Arc<Link>,
    /// What the session had been sent if nothing ever came: the events after it follow.
    pub cursor: Arc<str>,
}

struct Subscriber {
    number: u64,
    token: TokenId,
    batches: mpsc::Sender<Batch>,
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
        let (sender, batches) = mpsc::channel(QUEUE_BATCHES);
        let link = Arc::new(Link::default());
        subscribers.push(Subscriber {
            number,
            token,
            batches: sender,
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
            batches,
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
            let waiting = subscriber.link.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
            // A batch larger than the bound still passes where nothing waits: it must get through some time.
            let fits = waiting == 0 || waiting + bytes <= self.queue_bytes;
            let kept = fits && subscriber.batches.try_send(Arc::clone(batch)).is_ok();
            if !kept {
                subscriber.link.end(End::Lagged);
                metrics::counter!("vestnik_sessions_lagged_total").increment(1);
            }
            kept
        });
        inner.sessions -= before - subscribers.len();
        if subscribers.is_empty() {
            inner.stores.remove(store);
        }
    }

    /// The feed stands at `position`, without having read anything on the way: at its start.
    pub fn reach(&self, epoch: Epoch, position: &Position) {
        self.lock().reached = Some((epoch, Cursor::At(position.clone()).encode(epoch).into()));
    }

    /// What a session has been sent that has taken everything from its queue since this was asked.
    pub fn cursor(&self) -> Option<Arc<str>> {
        self.lock().reached.as_ref().map(|(_, cursor)| Arc::clone(cursor))
    }

    /// Lets every session go, to come back with its cursor.
    pub fn release_all(&self) {
        let mut inner = self.lock();
        for subscriber in std::mem::take(&mut inner.stores).into_values().flatten() {
            subscriber.link.end(End::Draining);
        }
        inner.sessions = 0;
    }

    /// Lets every session go, and takes no further one.
    pub fn drain(&self) {
        self.lock().draining = true;
        self.release_all();
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
            .map(|s| s.link.queued_bytes.load(Ordering::Relaxed))
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
        if let Some(end) = self.link.end.get() {
            return Err(*end);
        }
        tokio::select! {
            biased;
            () = self.link.ended.notified() => Err(self.ended()),
            batch = self.batches.recv() => match batch {
                Some(batch) => Ok(self.taken(batch)),
                None => Err(self.ended()),
            },
        }
    }

    /// The next batch, if one waits.
    pub fn try_next(&mut self) -> Option<Batch> {
        let batch = self.batches.try_recv().ok()?;
        Some(self.taken(batch))
    }

    /// Resolves when the router lets the session go.
    pub async fn let_go(&self) -> End {
        if self.link.end.get().is_none() {
            self.link.ended.notified().await;
        }
        self.ended()
    }

    fn ended(&self) -> End {
        self.link.end.get().copied().unwrap_or(End::Draining)
    }

    fn taken(&self, batch: Batch) -> Batch {
        self.link.queued_bytes.fetch_sub(bytes(&batch), Ordering::Relaxed);
        batch
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
