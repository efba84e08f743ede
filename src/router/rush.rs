//! When thousands come back at once: how fast they are let in, so that those who are back already notice little of it;
//! how many read the journal at once; and whether there is a rush, for then the recent events are asked first.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Replays that read the journal at once; the pool has more connections than that, for tokens and acknowledgements.
pub const REPLAY_READS: usize = 4;
/// How long a session waits to be let in, and a replay for its turn.
const TURN_DEADLINE: Duration = Duration::from_secs(30);
/// Sessions that are let in at once. 8 made no difference to the live orders.
const AT_ONCE: u32 = 32;
/// Time of one core for each further one. Its handshake, the look at its token, and its replay of 100 events take 0.5 ms of
/// it here, and in Postgres 0.6 ms, or 0.8 where each replay reads the journal: a fifth, and a quarter to a third, the live
/// orders' own among it. The rest is left to those who are back (`cargo bench --bench replay`).
const PACE_OF_A_CORE: Duration = Duration::from_micros(2500);

/// It would take too long to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// The line before the journal.
#[derive(Debug)]
pub struct Rush {
    door: std::sync::Mutex<Door>,
    reads: Semaphore,
    /// Held by the one who reads the past.
    past: Mutex<()>,
}

impl Default for Rush {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        Self {
            door: std::sync::Mutex::new(Door::new(Instant::now(), PACE_OF_A_CORE / cores)),
            reads: Semaphore::new(REPLAY_READS),
            past: Mutex::default(),
        }
    }
}

impl Rush {
    /// Lets a session in, in its turn.
    pub async fn let_in(&self) -> Result<(), TooMany> {
        let wait = self
            .door
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wait(Instant::now())?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

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

/// Lets in one after another, each at its time, and as many at once as have not come in the time before.
#[derive(Debug)]
struct Door {
    pace: Duration,
    /// When the next one may come in.
    next: Instant,
}

impl Door {
    fn new(now: Instant, pace: Duration) -> Self {
        Self { pace, next: now }
    }

    /// How long the one who comes now waits.
    fn wait(&mut self, now: Instant) -> Result<Duration, TooMany> {
        let wait = (self.next + self.pace).saturating_duration_since(now + self.pace * AT_ONCE);
        if wait > TURN_DEADLINE {
            return Err(TooMany);
        }
        self.next = self.next.max(now) + self.pace;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_let_in_at_its_pace_and_a_few_at_once() {
        let (now, pace) = (Instant::now(), Duration::from_millis(1));
        let mut door = Door::new(now, pace);
        let waits: Vec<Duration> = (0..1000).map(|_| door.wait(now).unwrap()).collect();
        let at_once = AT_ONCE as usize;
        assert!(waits[..at_once].iter().all(Duration::is_zero));
        assert_eq!(waits[at_once], pace);
        assert_eq!(waits[999], pace * (1000 - AT_ONCE));
        // When they are in, as many may come at once again.
        let later = now + Duration::from_secs(2);
        assert_eq!(door.wait(later), Ok(Duration::ZERO));
    }

    #[test]
    fn who_would_wait_too_long_is_told_so_and_takes_nobodys_place() {
        let (now, pace) = (Instant::now(), Duration::from_secs(1));
        let mut door = Door::new(now, pace);
        while door.wait(now).is_ok() {}
        assert_eq!(door.wait(now), Err(TooMany));
        assert_eq!(door.wait(now + pace), Ok(TURN_DEADLINE));
    }
}
