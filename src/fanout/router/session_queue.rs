//! The queue that the router and one session share. A channel would cost an idle session a kilobyte.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::{Batch, End};

/// Limit of queued items, whatever their size.
const QUEUE_BATCHES: usize = 256;
/// Capacity that an idle session keeps, in batches.
const IDLE_QUEUE_BATCHES: usize = 4;

/// One item of the queue.
#[derive(Debug, Clone)]
pub enum Queued {
    /// A batch of events.
    Batch(Batch),
    /// The session's lists are out of date and must be loaded again. Carries the cursor of the events already sent.
    Resync(Arc<str>),
    /// The last read of the journal is too old.
    Stale,
    /// The journal is read again. Carries the cursor of the events already sent.
    Fresh(Arc<str>),
}

/// The queue of one session. Only one task waits on it.
#[derive(Debug, Default)]
pub struct SessionQueue {
    queue: Mutex<Queue>,
    /// Wakes the waiting task when an item arrives or the session ends.
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

    /// Queues a batch, or ends the session if the queue is full. Returns whether the batch was queued.
    pub fn try_push(&self, batch: &Batch, bytes: usize, most_bytes: usize) -> bool {
        let mut queue = self.queue();
        // A batch larger than the limit still passes an empty queue, or it would never be sent.
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

    /// Tells the session that its lists are out of date.
    pub fn resync(&self, cursor: &Arc<str>) {
        self.queue().batches.push_back(Queued::Resync(Arc::clone(cursor)));
        self.waker.wake();
    }

    /// `None`: the last read of the journal is too old. `Some`: the journal is read again.
    pub fn say_stale(&self, fresh: Option<&Arc<str>>) {
        let said = fresh.map_or(Queued::Stale, |cursor| Queued::Fresh(Arc::clone(cursor)));
        self.queue().batches.push_back(said);
        self.waker.wake();
    }

    /// The next item. `Err`: the session has ended, even if items are still queued.
    pub fn take(&self) -> Result<Option<Queued>, End> {
        let mut queue = self.queue();
        match queue.end {
            Some(end) => Err(end),
            None => Ok(queue.pop()),
        }
    }

    /// The next item, even after the session has ended.
    pub fn take_rest(&self) -> Option<Queued> {
        self.queue().pop()
    }

    /// Ends the session. The first reason counts.
    pub fn end(&self, end: End) {
        self.queue().end.get_or_insert(end);
        self.waker.wake();
    }

    /// Why the session ended. `None`: it has not.
    pub fn ended(&self) -> Option<End> {
        self.queue().end
    }

    /// Queued bytes.
    pub fn bytes(&self) -> usize {
        self.queue().bytes
    }

    /// Waits until `look` returns a value. `look` runs again after every change.
    pub fn poll<T>(&self, context: &mut Context<'_>, look: impl Fn(&Self) -> Option<T>) -> Poll<T> {
        if let Some(found) = look(self) {
            return Poll::Ready(found);
        }
        self.waker.register(context.waker());
        // A change before the waker was registered woke no task.
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
            // An idle session gives back the memory of its busy moments.
            self.batches.shrink_to(IDLE_QUEUE_BATCHES);
        }
        Some(queued)
    }
}
