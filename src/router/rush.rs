//! How many read the journal for their replays at once, and whether there is a rush: then the recent events are asked
//! first.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Replays that read the journal at once; the pool has more connections than that, for tokens and acknowledgements.
pub const REPLAY_READS: usize = 4;
/// How long a replay waits for its turn.
const TURN_DEADLINE: Duration = Duration::from_secs(30);

/// The line before the journal.
#[derive(Debug)]
pub struct Rush {
    reads: Semaphore,
    /// Held by the one who reads the past.
    past: Mutex<()>,
}

impl Default for Rush {
    fn default() -> Self {
        Self {
            reads: Semaphore::new(REPLAY_READS),
            past: Mutex::default(),
        }
    }
}

impl Rush {
    /// A turn, if nobody else reads: then there is no rush.
    pub fn alone(&self) -> Option<SemaphorePermit<'_>> {
        if self.reads.available_permits() < REPLAY_READS {
            return None;
        }
        self.reads.try_acquire().ok()
    }

    /// A turn, as soon as there is one; `None`: not in time.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        timeout(TURN_DEADLINE, self.reads.acquire()).await.ok()?.ok()
    }

    /// For the first who asks; the others wait until it is done.
    pub async fn first_for_the_past(&self) -> Option<MutexGuard<'_, ()>> {
        match self.past.try_lock() {
            Ok(first) => Some(first),
            Err(_) => {
                drop(self.past.lock().await);
                None
            }
        }
    }
}
