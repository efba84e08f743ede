//! Admission: limits the rate at which reconnecting clients start sessions, so that they do not delay events for
//! connected clients. It also limits how many replays read the journal at the same time. During a mass reconnect, most
//! replays come from the event cache instead.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::infra::rate_limiter::{Rate, RateLimiter};

/// Maximum number of replays that read the journal at the same time. Each of these replays holds a connection of the
/// database pool. The pool has more connections, because other work needs some, too.
pub const REPLAY_READS: usize = 4;
/// Maximum time that a reconnecting session waits for its start, and maximum time that a replay waits for its permit to
/// read the journal.
const TURN_DEADLINE: Duration = Duration::from_secs(30);
/// Number of reconnecting sessions that may start in a burst, after a quiet time. With a burst of 32 sessions, their
/// replays delayed live orders.
const AT_ONCE: u32 = 8;
/// CPU time of one core that the node reserves for each further session. So two cores admit 5,000 clients in eight
/// seconds.
///
/// For a handshake, a token look-up and a replay of 100 events from the event cache, the node needs 0.3 ms and Postgres
/// 0.1 ms. If the replay reads the journal, the node needs 0.5 ms and Postgres 0.7 ms. The rest of the reserved time
/// serves connected clients. The bench `replay` has 2,500 connected clients, and 5,000 clients that replay from the
/// journal. These replays raised the p99 of the delivery time of live orders by half.
const TIME_OF_A_CORE: Duration = Duration::from_micros(3200);

/// The error for a session that would have to wait longer than `TURN_DEADLINE` for its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// Decides when a reconnecting session may start, and which replays may read the journal.
#[derive(Debug)]
pub struct Admission {
    limiter: std::sync::Mutex<RateLimiter>,
    reads: Semaphore,
    /// The task that fills the event cache with past events from the journal holds this lock, so that only one task
    /// does so.
    warming: Mutex<()>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            limiter: std::sync::Mutex::new(RateLimiter::new(Rate::of_core_time(TIME_OF_A_CORE, AT_ONCE))),
            reads: Semaphore::new(REPLAY_READS),
            warming: Mutex::default(),
        }
    }
}

impl Admission {
    fn limiter(&self) -> std::sync::MutexGuard<'_, RateLimiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the session is admitted. `Err`: the wait would be longer than `TURN_DEADLINE`, so the client should
    /// reconnect later.
    pub async fn admit(&self) -> Result<(), TooMany> {
        let reserved = self.limiter().reserve(Instant::now(), TURN_DEADLINE);
        let wait = reserved.map_err(|_| TooMany)?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// Returns a permit to read the journal, without waiting. `None`: another replay is reading the journal, or another
    /// session is waiting for admission. In this case, the caller should use the event cache instead.
    pub fn try_read_uncontended(&self) -> Option<SemaphorePermit<'_>> {
        if self.reads.available_permits() < REPLAY_READS || self.limiter().is_behind(Instant::now()) {
            return None;
        }
        self.reads.try_acquire().ok()
    }

    /// Waits for a permit to read the journal. `None`: no permit became free within `TURN_DEADLINE`.
    pub async fn acquire_read_slot(&self) -> Option<SemaphorePermit<'_>> {
        timeout(TURN_DEADLINE, self.reads.acquire()).await.ok()?.ok()
    }

    /// Selects the caller that fills the event cache with past events. The first caller gets a guard, and holds it
    /// while it fills the cache. Other callers wait until the guard is dropped, and then get `None`.
    pub async fn begin_cache_warmup(&self) -> Option<MutexGuard<'_, ()>> {
        match self.warming.try_lock() {
            Ok(first) => Some(first),
            Err(_) => {
                drop(self.warming.lock().await);
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
        let reader = admission.try_read_uncontended();
        assert!(reader.is_some());
        assert!(admission.try_read_uncontended().is_none());
        drop(reader);
        assert!(admission.try_read_uncontended().is_some());
        for _ in 0..1000 {
            let _ = admission.limiter().reserve(Instant::now(), TURN_DEADLINE);
        }
        assert!(admission.try_read_uncontended().is_none());
    }
}
