//! When thousands come back at once: how fast they are let in, so that those who are back already notice little of it;
//! how many read the journal at once; and whether many come back at once, for then the recent events are asked first.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::infra::rate_limiter::{Rate, RateLimiter};

/// Replays that read the journal at once; the pool has more connections than that, for tokens and acknowledgements.
pub const REPLAY_READS: usize = 4;
/// How long a session waits to be let in, and a replay for its turn.
const TURN_DEADLINE: Duration = Duration::from_secs(30);
/// Sessions that are let in at once: with 32, live orders waited for the first of them.
const AT_ONCE: u32 = 8;
/// Time of one core for each further one. Its handshake, the look at its token, and its replay of 100 events take 0.3 ms of
/// it here and 0.1 in Postgres, or 0.5 and 0.7 where each replay reads the journal. The rest is left to those who are back:
/// with 2500, and 5,000 that each read the journal, the hundredth live order took half as long again
/// (`cargo bench --bench replay`). So 5,000 are back within 8 s.
const TIME_OF_A_CORE: Duration = Duration::from_micros(3200);

/// It would take too long to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// The line before the journal.
#[derive(Debug)]
pub struct Admission {
    door: std::sync::Mutex<RateLimiter>,
    reads: Semaphore,
    /// Held by the one who reads the past.
    past: Mutex<()>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            door: std::sync::Mutex::new(RateLimiter::new(Rate::of_core_time(TIME_OF_A_CORE, AT_ONCE))),
            reads: Semaphore::new(REPLAY_READS),
            past: Mutex::default(),
        }
    }
}

impl Admission {
    fn door(&self) -> std::sync::MutexGuard<'_, RateLimiter> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a session in, in its turn.
    pub async fn admit(&self) -> Result<(), TooMany> {
        let reserved = self.door().reserve(Instant::now(), TURN_DEADLINE);
        let wait = reserved.map_err(|_| TooMany)?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// A turn, if nobody else reads and nobody waits to be admitted.
    pub fn alone(&self) -> Option<SemaphorePermit<'_>> {
        if self.reads.available_permits() < REPLAY_READS || self.door().is_behind(Instant::now()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_alone_while_somebody_reads_or_waits_at_the_door() {
        let admission = Admission::default();
        let reader = admission.alone();
        assert!(reader.is_some());
        assert!(admission.alone().is_none());
        drop(reader);
        assert!(admission.alone().is_some());
        for _ in 0..1000 {
            let _ = admission.door().reserve(Instant::now(), TURN_DEADLINE);
        }
        assert!(admission.alone().is_none());
    }
}
