//! How many transactions are on their way at once. By Little's law that is the sum of the times that they are on their
//! way, over the time in which they came: it fits any disk, where a fixed rate of orders would fit one.

use std::collections::VecDeque;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::event::{Event, Xid};

/// Over which it is counted. A transaction that has been open for longer counts for this long: it alone is no load.
pub const WINDOW: Duration = Duration::from_millis(50);
/// Above this many at once, they wait for one another where each of them rings.
const BUSY_ABOVE: f64 = 2.0;
/// So many windows in a row, so that one burst is not a load.
const BUSY_WINDOWS: usize = 3;
/// Below this, the bell may ring again: its lock lets one through at a time.
const CALM_BELOW: f64 = 1.0;
/// Over so many windows, a second: where the bell is muted they end sooner, so that the load falls by muting alone.
const CALM_WINDOWS: usize = 20;

/// What the last windows say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Muting pays. How long each transaction is on its way, on average.
    Busy(Duration),
    /// Neither.
    Between,
    /// It does not.
    Calm,
}

/// Counts.
#[derive(Debug)]
pub struct Load {
    began: Instant,
    on_their_way: Duration,
    transactions: u32,
    /// Of the last window.
    each: Duration,
    /// How many were at once in each of the last windows, the newest first.
    at_once: VecDeque<f64>,
    /// The clock of the database at the last read.
    clock: Option<OffsetDateTime>,
}

impl Load {
    /// Nothing has come.
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            on_their_way: Duration::ZERO,
            transactions: 0,
            each: Duration::ZERO,
            at_once: VecDeque::with_capacity(CALM_WINDOWS),
            clock: None,
        }
    }

    /// Takes a read, by how long each event had been on its way by the clock of the database. `waited`: whether events wait
    /// for a read here, instead of being rung for.
    pub fn read(&mut self, events: &[Event], clock: OffsetDateTime, waited: bool, now: Instant) {
        let before = self.clock.replace(clock).filter(|_| waited);
        let mut last: Option<Xid> = None;
        // From behind: the last event of a transaction is the nearest to its end.
        for event in events
            .iter()
            .rev()
            .filter(|event| last.replace(event.xid) != Some(event.xid))
        {
            // It ended at some time since the last read: half of that is ours, not its own.
            let ours = before.map_or(time::Duration::ZERO, |before| (clock - before.max(event.at)) / 2);
            let its = (clock - event.at - ours).try_into().unwrap_or(Duration::ZERO);
            self.on_their_way += its.min(WINDOW);
            self.transactions += 1;
        }
        if now - self.began >= WINDOW {
            self.end_window(now);
        }
    }

    fn end_window(&mut self, now: Instant) {
        self.at_once.truncate(CALM_WINDOWS - 1);
        self.at_once
            .push_front(self.on_their_way.as_secs_f64() / (now - self.began).as_secs_f64());
        self.each = self.on_their_way.checked_div(self.transactions).unwrap_or_default();
        (self.began, self.on_their_way, self.transactions) = (now, Duration::ZERO, 0);
    }

    /// As of the last window.
    pub fn verdict(&self) -> Verdict {
        let windows = self.at_once.len();
        if windows >= BUSY_WINDOWS
            && self
                .at_once
                .iter()
                .take(BUSY_WINDOWS)
                .all(|at_once| *at_once > BUSY_ABOVE)
        {
            Verdict::Busy(self.each)
        } else if windows == CALM_WINDOWS && self.at_once.iter().sum::<f64>() < CALM_BELOW * CALM_WINDOWS as f64 {
            Verdict::Calm
        } else {
            Verdict::Between
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, EventType};

    const CLOCK: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn event(xid: u64, age: Duration) -> Event {
        Event {
            id: EventId(xid as i64),
            xid: Xid(xid),
            store: None,
            kind: EventType::NewOrder,
            at: CLOCK - age,
            data: "{}".into(),
        }
    }

    /// So many windows in each of which so many transactions came, each with so many events and so long on its way.
    fn after(windows: u32, transactions: u64, events: u64, age: Duration) -> (Load, Instant) {
        let mut now = Instant::now();
        let mut load = Load::new(now);
        for _ in 0..windows {
            now += WINDOW;
            let all = (0..transactions).flat_map(|xid| (0..events).map(move |_| event(xid, age)));
            load.read(&all.collect::<Vec<_>>(), CLOCK, false, now);
        }
        (load, now)
    }

    #[test]
    fn many_short_transactions_at_once_are_busy_and_two_windows_of_them_are_not() {
        let ms = Duration::from_millis(1);
        let (load, _) = after(3, 150, 1, ms);
        assert_eq!(load.verdict(), Verdict::Busy(ms));
        let (load, _) = after(2, 150, 1, ms);
        assert_eq!(load.verdict(), Verdict::Between);
        // 2,000 a second that take half a millisecond each: one at a time.
        let (load, _) = after(3, 100, 1, ms / 2);
        assert_eq!(load.verdict(), Verdict::Between);
    }

    #[test]
    fn an_old_transaction_and_a_large_one_count_once() {
        let (load, _) = after(5, 1, 100_000, Duration::from_secs(60));
        assert_eq!(load.verdict(), Verdict::Between);
    }

    #[test]
    fn calm_takes_a_second_without_load_on_average() {
        let (mut load, mut now) = after(19, 10, 1, Duration::from_millis(1));
        assert_eq!(load.verdict(), Verdict::Between);
        now += WINDOW;
        load.read(&[], CLOCK, false, now);
        assert_eq!(load.verdict(), Verdict::Calm);
        // A disk that stops for a moment: thirty wait in one window, and the second is not calm before that is over.
        let stuck: Vec<Event> = (0..30).map(|xid| event(xid, WINDOW)).collect();
        now += WINDOW;
        load.read(&stuck, CLOCK, false, now);
        for _ in 0..19 {
            assert_eq!(load.verdict(), Verdict::Between);
            now += WINDOW;
            load.read(&[], CLOCK, false, now);
        }
        assert_eq!(load.verdict(), Verdict::Between);
        load.read(&[], CLOCK, false, now + WINDOW);
        assert_eq!(load.verdict(), Verdict::Calm);
    }

    #[test]
    fn half_of_the_time_between_two_reads_is_not_the_transactions_own() {
        // Each is on its way for 0.5 ms, 2,500 a second: 1.25 at once. With reads 2 ms apart, each seems to take 1.3 ms.
        let ms = Duration::from_millis(1);
        let mut now = Instant::now();
        let (mut polled, mut rung) = (Load::new(now), Load::new(now));
        for turn in 1..=100_u32 {
            now += 2 * ms;
            let clock = CLOCK + turn * 2 * ms;
            let seen: Vec<Event> = (0..5)
                .map(|place| {
                    let mut event = event(u64::from(turn * 10 + place), Duration::ZERO);
                    event.at = clock - ms / 2 - place * ms * 2 / 5;
                    event
                })
                .collect();
            polled.read(&seen, clock, true, now);
            rung.read(&seen, clock, false, now);
        }
        assert_eq!(polled.verdict(), Verdict::Between);
        assert!(matches!(rung.verdict(), Verdict::Busy(_)), "{rung:?}");
    }

    #[test]
    fn a_clock_that_goes_back_is_no_load() {
        let now = Instant::now();
        let mut load = Load::new(now);
        load.read(
            &[event(1, Duration::ZERO)],
            CLOCK - Duration::from_secs(9),
            false,
            now + WINDOW,
        );
        assert_eq!(load.verdict(), Verdict::Between);
    }
}
