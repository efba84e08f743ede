//! Limits the rate of actions, such as requests. Each limit has a sustained rate, and a burst that is allowed after a
//! quiet time.
//!
//! The state of a limiter is a single moment: the moment when its full burst is available again (GCRA). So even one
//! limiter for each client address needs little memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A rate limit: one action in each `interval`, and a burst of up to `burst` actions after a quiet time.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    interval: Duration,
    burst: u32,
}

impl Rate {
    /// Creates a limit of `per_second` actions a second. `per_second` and `burst` must be at least 1.
    pub const fn per_second(per_second: u32, burst: u32) -> Self {
        Self {
            interval: Duration::from_nanos(1_000_000_000 / per_second as u64),
            burst,
        }
    }

    /// Creates a limit for actions that each need the CPU time `time` of one core. It allows as many actions as all
    /// cores of the machine can execute.
    pub fn of_core_time(time: Duration, burst: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        Self {
            interval: time / cores,
            burst,
        }
    }

    /// Counts an action if the limit allows it at `now`, and returns whether it was allowed. `next` is the limiter's
    /// state: the moment when the full burst is available again.
    pub fn allows(&self, next: &mut Instant, now: Instant) -> bool {
        self.reserve(next, now, Duration::ZERO).is_ok()
    }

    fn wait(&self, next: Instant, now: Instant) -> Duration {
        (next + self.interval).saturating_duration_since(now + self.interval * self.burst)
    }

    fn reserve(&self, next: &mut Instant, now: Instant, most: Duration) -> Result<Duration, Duration> {
        let wait = self.wait(*next, now);
        if wait > most {
            return Err(wait);
        }
        *next = (*next).max(now) + self.interval;
        Ok(wait)
    }
}

/// A rate limiter with its state.
#[derive(Debug)]
pub struct RateLimiter {
    rate: Rate,
    next: Instant,
}

impl RateLimiter {
    /// Creates a limiter that has not counted any action.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            next: Instant::now(),
        }
    }

    /// Whether the limit is reached: an action at `now` would have to wait.
    pub fn is_behind(&self, now: Instant) -> bool {
        !self.rate.wait(self.next, now).is_zero()
    }

    /// Counts an action, and returns how long the caller must wait before this action. `Err`: the wait would be longer
    /// than `most`, so the action is not counted. The error is the length of this wait.
    pub fn reserve(&mut self, now: Instant, most: Duration) -> Result<Duration, Duration> {
        self.rate.reserve(&mut self.next, now, most)
    }

    /// Counts an action if the limit allows it at `now`, and returns whether it was allowed.
    pub fn allows(&mut self, now: Instant) -> bool {
        self.reserve(now, Duration::ZERO).is_ok()
    }
}

/// A separate rate limiter for each key, such as each client address.
#[derive(Debug)]
pub struct RateLimiters<K> {
    rate: Rate,
    max_keys: usize,
    next: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> RateLimiters<K> {
    /// Keeps the state of at most `max_keys` keys. To make room, it drops the keys whose full burst is available. If no
    /// key has its full burst available, it drops all keys, so that a new key is never rejected.
    pub fn new(rate: Rate, max_keys: usize) -> Self {
        Self {
            rate,
            max_keys,
            next: Mutex::default(),
        }
    }

    /// Counts an action of this key. `Err`: the limit is reached, and the action was not counted. The value is the time
    /// until this key's next action is allowed.
    pub fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.len() >= self.max_keys && !next.contains_key(&key) {
            next.retain(|_, next| *next > now);
            if next.len() >= self.max_keys {
                next.clear();
            }
        }
        let next = next.entry(key).or_insert(now);
        self.rate.reserve(next, now, Duration::ZERO).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(30);

    fn rate(interval: Duration, burst: u32) -> Rate {
        Rate { interval, burst }
    }

    #[test]
    fn a_crowd_goes_through_at_its_rate_and_a_few_at_once() {
        let (now, interval, burst) = (Instant::now(), Duration::from_millis(1), 32);
        let mut limiter = RateLimiter {
            rate: rate(interval, burst),
            next: now,
        };
        let waits: Vec<Duration> = (0..1000).map(|_| limiter.reserve(now, MOST).unwrap()).collect();
        assert!(waits[..burst as usize].iter().all(Duration::is_zero));
        assert_eq!(waits[burst as usize], interval);
        assert_eq!(waits[999], interval * (1000 - burst));
        assert!(limiter.is_behind(now));
        // Once the waiting actions have passed, the full burst is available again.
        let later = now + Duration::from_secs(2);
        assert!(!limiter.is_behind(later));
        assert_eq!(limiter.reserve(later, MOST), Ok(Duration::ZERO));
    }

    #[test]
    fn one_that_would_wait_too_long_takes_nobodys_turn() {
        let (now, interval) = (Instant::now(), Duration::from_secs(1));
        let mut limiter = RateLimiter {
            rate: rate(interval, 32),
            next: now,
        };
        while limiter.reserve(now, MOST).is_ok() {}
        assert_eq!(limiter.reserve(now, MOST), Err(MOST + interval));
        assert_eq!(limiter.reserve(now + interval, MOST), Ok(MOST));
    }

    #[test]
    fn each_key_has_a_rate_of_its_own_and_learns_how_long_to_wait() {
        let now = Instant::now();
        let limiters = RateLimiters::new(Rate::per_second(10, 5), 100);
        for _ in 0..5 {
            assert_eq!(limiters.take("one", now), Ok(()));
        }
        assert_eq!(limiters.take("one", now), Err(Duration::from_millis(100)));
        assert_eq!(limiters.take("other", now), Ok(()));
        assert_eq!(limiters.take("one", now + Duration::from_millis(100)), Ok(()));
    }

    #[test]
    fn no_more_keys_are_kept_than_the_bound() {
        let now = Instant::now();
        let limiters = RateLimiters::new(Rate::per_second(1, 1), 100);
        for key in 0..10_000 {
            assert_eq!(limiters.take(key, now), Ok(()));
        }
        assert!(limiters.next.lock().unwrap().len() <= 100);
    }
}
