//! The queue between the router and one session. It is a `VecDeque` behind a lock, because a channel would need a
//! kilobyte more memory for each idle session.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::{Batch, End};

/// Maximum number of items in the queue. The queue also has a limit in bytes.
const QUEUE_BATCHES: usize = 256;
/// Number of items for which an empty queue keeps memory.
const IDLE_QUEUE_BATCHES: usize = 4;

/// One item of a session's queue.
#[derive(Debug, Clone)]
pub enum Queued {
    /// A batch of events for the client.
    Batch(Batch),
    /// The client must reload its lists. The value is the cursor that it gets; it covers all events that were queued
    /// earlier.
    Resync(Arc<str>),
    /// The node cannot read the journal now: its last read is too long ago.
    Stale,
    /// The node can read the journal again. The value is the cursor that the client gets; it covers all events that
    /// were queued earlier.
    Fresh(Arc<str>),
}

/// The queue of one session. Only one task at a time may wait for items.
#[derive(Debug, Default)]
pub struct SessionQueue {
    queue: Mutex<Queue>,
    /// Wakes the waiting task when an item is queued, or the session is ended.
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

    /// Queues a batch. `bytes` is the size of the batch, and `most_bytes` is the limit of the queue. If the queue is
    /// full, ends the session with the reason [`End::Lagged`]. Returns whether the batch was queued.
    pub fn try_push(&self, batch: &Batch, bytes: usize, most_bytes: usize) -> bool {
        let mut queue = self.queue();
        // A batch larger than the limit is accepted if the queue is empty: otherwise it could never be sent.
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

    /// Queues a message that tells the client to reload its lists.
    pub fn resync(&self, cursor: &Arc<str>) {
        self.queue().batches.push_back(Queued::Resync(Arc::clone(cursor)));
        self.waker.wake();
    }

    /// Queues a message that tells the client whether the node can read the journal. `None`: the node cannot read it
    /// now. `Some`: the node can read it again, and the value is the cursor that covers all published events.
    pub fn say_stale(&self, fresh: Option<&Arc<str>>) {
        let said = fresh.map_or(Queued::Stale, |cursor| Queued::Fresh(Arc::clone(cursor)));
        self.queue().batches.push_back(said);
        self.waker.wake();
    }

    /// Takes the next item from the queue. `None`: the queue is empty. `Err`: the session was ended, and its remaining
    /// items must not be sent.
    pub fn take(&self) -> Result<Option<Queued>, End> {
        let mut queue = self.queue();
        match queue.end {
            Some(end) => Err(end),
            None => Ok(queue.pop()),
        }
    }

    /// Takes the next item from the queue, even if the session was ended. `None`: the queue is empty.
    pub fn take_rest(&self) -> Option<Queued> {
        self.queue().pop()
    }

    /// Ends the session with this reason, unless it was ended already.
    pub fn end(&self, end: End) {
        self.queue().end.get_or_insert(end);
        self.waker.wake();
    }

    /// The reason why the router ended the session. `None`: the session goes on.
    pub fn ended(&self) -> Option<End> {
        self.queue().end
    }

    /// The number of bytes in the queued batches.
    pub fn bytes(&self) -> usize {
        self.queue().bytes
    }

    /// Calls `look` now and after every change of the queue, until `look` returns a value. The result is this value.
    pub fn poll<T>(&self, context: &mut Context<'_>, look: impl Fn(&Self) -> Option<T>) -> Poll<T> {
        if let Some(found) = look(self) {
            return Poll::Ready(found);
        }
        self.waker.register(context.waker());
        // A change before the waker was registered has woken no task, so `look` is called again.
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
            // The queue frees the memory that it needed when it was longest, so that idle sessions stay small.
            self.batches.shrink_to(IDLE_QUEUE_BATCHES);
        }
        Some(queued)
    }
}
