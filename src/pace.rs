//! Lets one after another through, each at its time, and a few at once where none came in the time before.

use std::time::{Duration, Instant};

/// A pace, and how far it is.
#[derive(Debug)]
pub struct Pace {
    each: Duration,
    at_once: u32,
    /// When the next one may go through.
    next: Instant,
}

impl Pace {
    /// For work that one core may begin once in `each`: with more cores it goes as much faster.
    pub fn of_a_core(each: Duration, at_once: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        Self::new(Instant::now(), each / cores, at_once)
    }

    /// The same, whatever the machine.
    pub fn every(each: Duration, at_once: u32) -> Self {
        Self::new(Instant::now(), each, at_once)
    }

    fn new(now: Instant, each: Duration, at_once: u32) -> Self {
        Self {
            each,
            at_once,
            next: now,
        }
    }

    /// Whether one who came now would wait.
    pub fn is_behind(&self, now: Instant) -> bool {
        !self.wait_of_one(now).is_zero()
    }

    fn wait_of_one(&self, now: Instant) -> Duration {
        (self.next + self.each).saturating_duration_since(now + self.each * self.at_once)
    }

    /// How long the one who comes now waits; `None`: longer than `most`, so it takes nobody's place.
    pub fn wait(&mut self, now: Instant, most: Duration) -> Option<Duration> {
        let wait = self.wait_of_one(now);
        if wait > most {
            return None;
        }
        self.next = self.next.max(now) + self.each;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(30);

    #[test]
    fn a_crowd_goes_through_at_its_pace_and_a_few_at_once() {
        let (now, each, at_once) = (Instant::now(), Duration::from_millis(1), 32);
        let mut pace = Pace::new(now, each, at_once);
        let waits: Vec<Duration> = (0..1000).map(|_| pace.wait(now, MOST).unwrap()).collect();
        assert!(waits[..at_once as usize].iter().all(Duration::is_zero));
        assert_eq!(waits[at_once as usize], each);
        assert_eq!(waits[999], each * (1000 - at_once));
        assert!(pace.is_behind(now));
        // When they are through, as many may go at once again.
        let later = now + Duration::from_secs(2);
        assert!(!pace.is_behind(later));
        assert_eq!(pace.wait(later, MOST), Some(Duration::ZERO));
    }

    #[test]
    fn who_would_wait_too_long_takes_nobodys_place() {
        let (now, each) = (Instant::now(), Duration::from_secs(1));
        let mut pace = Pace::new(now, each, 32);
        while pace.wait(now, MOST).is_some() {}
        assert_eq!(pace.wait(now, MOST), None);
        assert_eq!(pace.wait(now + each, MOST), Some(MOST));
    }
}
