//! What the router and one session share: the session's queue. A channel would cost an idle session a kilobyte.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::{Batch, End};

/// What may wait for one session, whatever its bytes.
const QUEUE_BATCHES: usize = 256;
/// Batches for which an idle session keeps room.
const IDLE_QUEUE_BATCHES: usize = 4;

/// What waits for a session.
#[derive(Debug, Clone)]
pub enum Queued {
    /// Events.
    Batch(Batch),
    /// What the session's lists show is out of date: they must be loaded anew. With what it has been sent before.
    Resync(Arc<str>),
    /// The journal has not been read for a while.
    Stale,
    /// It is read again; with what the session has been sent before.
    Fresh(Arc<str>),
}

/// One session's queue. Only one task waits on it.
#[derive(Debug, Default)]
pub struct SessionQueue {
    queue: Mutex<Queue>,
    /// Something came, or it is over.
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Queued>,
    bytes: usize,
    end: Option<End>,
}

impl SessionQueue {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a batch into the queue, or ends the session where there is no room. Whether it was put there.
    pub fn try_push(&self, batch: &Batch, bytes: usize, most_bytes: usize) -> bool {
        let mut queue = self.queue();
        // A batch larger than the bound still passes where nothing waits: it must get through some time.
        let fits = queue.bytes == 0 || queue.bytes + bytes <= most_bytes && queue.batches.len() < QUEUE_BATCHES;
        if fits {
            queue.batches.push_back(Queued::Batch(batch.clone()));
            queue.bytes += bytes;
        } else {
            queue.end = queue.end.or(Some(End::Lagged));
        }
        drop(queue);
        self.waker.wake();
        fits
    }

    /// The session's lists are out of date.
    pub fn resync(&self, cursor: &Arc<str>) {
        self.queue().batches.push_back(Queued::Resync(Arc::clone(cursor)));
        self.waker.wake();
    }

    /// The journal has not been read for a while (`None`), or is read again.
    pub fn say_stale(&self, fresh: Option<&Arc<str>>) {
        let said = fresh.map_or(Queued::Stale, |cursor| Queued::Fresh(Arc::clone(cursor)));
        self.queue().batches.push_back(said);
        self.waker.wake();
    }

    /// The next of what waits; `Err` when it is over, whatever still waits.
    pub fn take(&self) -> Result<Option<Queued>, End> {
        let mut queue = self.queue();
        match queue.end {
            Some(end) => Err(end),
            None => Ok(queue.pop()),
        }
    }

    /// The same, also behind the end.
    pub fn take_rest(&self) -> Option<Queued> {
        self.queue().pop()
    }

    /// It is over; the first reason counts.
    pub fn end(&self, end: End) {
        self.queue().end.get_or_insert(end);
        self.waker.wake();
    }

    /// Why it is over, if it is.
    pub fn ended(&self) -> Option<End> {
        self.queue().end
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.queue().bytes
    }

    /// Waits for what `look` looks for; it is asked again at every change.
    pub fn poll<T>(&self, context: &mut Context<'_>, look: impl Fn(&Self) -> Option<T>) -> Poll<T> {
        if let Some(found) = look(self) {
            return Poll::Ready(found);
        }
        self.waker.register(context.waker());
        // What changed before the waker was there woke nobody.
        look(self).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Queued> {
        let queued = self.batches.pop_front()?;
        if let Queued::Batch(batch) = &queued {
            self.bytes -= batch.bytes();
        }
        if self.batches.is_empty() {
            // An idle session keeps nothing of its busy moments.
            self.batches.shrink_to(IDLE_QUEUE_BATCHES);
        }
        Some(queued)
    }
}
