//! How many transactions are on their way at once. By Little's law that is the sum of the times that they are on their
//! way, over the time in which they came: it fits any disk, where a fixed rate of orders would fit one.

use std::collections::VecDeque;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::domain::event::{JournalEvent, Xid};

/// Over which it is counted. A transaction that has been open for longer counts for this long: it alone is no load.
pub const WINDOW: Duration = Duration::from_millis(50);
/// Above this many at once, they wait for one another where each of them rings. 2,000 orders a second, of which 1.2 are on
/// their way at once with the bell and 0.7 without: p99 is 4 ms with the bell, and 2.2 ms without, for less CPU.
const BUSY_ABOVE: f64 = 1.0;
/// So many windows in a row, so that one burst is not a load.
const BUSY_WINDOWS: usize = 3;
/// So much longer a read may wait for each that is on its way, which is what the machine has to do for one. A read that
/// takes many at once leaves the machine to the writers: 16 of them keep 63 % of what they reach without triggers with
/// reads 3 ms apart, and 57 % with 1 ms. With few on their way it would only be late.
const WAIT_FOR_EACH: Duration = Duration::from_micros(150);
/// Below this, the bell may ring again. Half of the other, for without it they are shorter: a load that was above 1 counts
/// for about 0.6 then.
const CALM_BELOW: f64 = 0.5;
/// Over so many windows, a second: where the bell is muted they end sooner, so that the load falls by muting alone.
const CALM_WINDOWS: usize = 20;

/// What the last windows say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Muting pays. How long a read may wait for more then.
    Busy(Duration),
    /// Neither.
    Between,
    /// It does not.
    Calm,
}

/// Counts.
#[derive(Debug)]
pub struct InFlightEstimator {
    began: Instant,
    on_their_way: Duration,
    /// How many were at once in each of the last windows, the newest first.
    at_once: VecDeque<f64>,
    /// The clock of the database at the last read.
    clock: Option<OffsetDateTime>,
}

impl InFlightEstimator {
    /// Nothing has come.
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            on_their_way: Duration::ZERO,
            at_once: VecDeque::with_capacity(CALM_WINDOWS),
            clock: None,
        }
    }

    /// Takes a read, by how long each event had been on its way by the clock of the database. `waited`: whether events wait
    /// for a read here, instead of being rung for.
    pub fn read(&mut self, events: &[JournalEvent], clock: OffsetDateTime, waited: bool, now: Instant) {
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
        }
        if now - self.began >= WINDOW {
            self.end_window(now);
        }
    }

    fn end_window(&mut self, now: Instant) {
        self.at_once.truncate(CALM_WINDOWS - 1);
        self.at_once
            .push_front(self.on_their_way.as_secs_f64() / (now - self.began).as_secs_f64());
        (self.began, self.on_their_way) = (now, Duration::ZERO);
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
            Verdict::Busy(WAIT_FOR_EACH.mul_f64(self.at_once[0]))
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
    use crate::domain::event::{Body, EventId, EventType};

    const CLOCK: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn event(xid: u64, age: Duration) -> JournalEvent {
        JournalEvent {
            id: EventId(xid as i64),
            xid: Xid(xid),
            store: None,
            at: CLOCK - age,
            body: Body::Engine(EventType::NewOrder, "{}".into()),
        }
    }

    /// So many windows in each of which so many transactions came, each with so many events and so long on its way.
    fn after(windows: u32, transactions: u64, events: u64, age: Duration) -> (InFlightEstimator, Instant) {
        let mut now = Instant::now();
        let mut load = InFlightEstimator::new(now);
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
        assert_eq!(load.verdict(), Verdict::Busy(3 * WAIT_FOR_EACH));
        let (load, _) = after(3, 400, 1, 2 * ms);
        assert_eq!(load.verdict(), Verdict::Busy(16 * WAIT_FOR_EACH));
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
        let stuck: Vec<JournalEvent> = (0..30).map(|xid| event(xid, WINDOW)).collect();
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
        // Each is on its way for 0.35 ms, 2,000 a second: 0.7 at once. With reads 0.5 ms apart, each seems to take 0.54 ms.
        let gap = Duration::from_micros(500);
        let mut now = Instant::now();
        let (mut polled, mut rung) = (InFlightEstimator::new(now), InFlightEstimator::new(now));
        for turn in 1..=400_u32 {
            now += gap;
            let clock = CLOCK + turn * gap;
            let mut event = event(u64::from(turn), Duration::ZERO);
            event.at = clock - Duration::from_micros(350) - turn % 4 * gap / 4;
            polled.read(std::slice::from_ref(&event), clock, true, now);
            rung.read(&[event], clock, false, now);
        }
        assert_eq!(polled.verdict(), Verdict::Between);
        assert!(matches!(rung.verdict(), Verdict::Busy(_)), "{rung:?}");
    }

    #[test]
    fn a_clock_that_goes_back_is_no_load() {
        let now = Instant::now();
        let mut load = InFlightEstimator::new(now);
        load.read(
            &[event(1, Duration::ZERO)],
            CLOCK - Duration::from_secs(9),
            false,
            now + WINDOW,
        );
        assert_eq!(load.verdict(), Verdict::Between);
    }
}
