//! Estimates how many transactions are in flight. By Little's law the number is the sum of their durations, over the
//! time in which they arrived. It fits any disk, where a fixed rate of orders would fit one.

use std::collections::VecDeque;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::domain::event::{JournalEvent, Xid};

/// Window of the count. An older transaction counts for one window: alone it is no load.
pub const WINDOW: Duration = Duration::from_millis(50);
/// Above this many in flight, transactions that notify wait for one another. At 2,000 orders/s, 1.2 are in flight
/// with NOTIFY and 0.7 without: p99 is 4 ms with NOTIFY, and 2.2 ms without, for less CPU.
const BUSY_ABOVE: f64 = 1.0;
/// Windows in a row above that number, so that one burst is not a load.
const BUSY_WINDOWS: usize = 3;
/// Pause before a read for each transaction in flight, which is the work of the machine for one. A read of many
/// events leaves the machine to the writers. 16 writers keep 63 % of their rate without triggers with reads 3 ms
/// apart, and 57 % with 1 ms. With few in flight a pause only delays events.
const PAUSE_FOR_EACH: Duration = Duration::from_micros(150);
/// Below this many in flight, writers may notify again. It is half of `BUSY_ABOVE`, because transactions without
/// NOTIFY are shorter: a load above 1 counts for about 0.6 then.
const CALM_BELOW: f64 = 0.5;
/// Windows of that average, one second: suppression alone makes transactions shorter, so that the load falls.
const CALM_WINDOWS: usize = 20;

/// The load in the last windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// NOTIFY suppression pays. Carries the pause before the next read.
    Busy(Duration),
    /// Between the two limits: the node keeps its state.
    Between,
    /// NOTIFY suppression does not pay.
    Calm,
}

/// Estimates the number of transactions in flight.
#[derive(Debug)]
pub struct InFlightEstimator {
    began: Instant,
    total_duration: Duration,
    /// Number in flight in each of the last windows, newest first.
    counts: VecDeque<f64>,
    /// The clock of the database at the last read.
    clock: Option<OffsetDateTime>,
}

impl InFlightEstimator {
    /// An estimator that has seen no transaction.
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            total_duration: Duration::ZERO,
            counts: VecDeque::with_capacity(CALM_WINDOWS),
            clock: None,
        }
    }

    /// Records a read. The age of each event is measured by the clock of the database. `waited`: this node suppresses
    /// NOTIFY, so that events wait for a read.
    pub fn record_read(&mut self, events: &[JournalEvent], clock: OffsetDateTime, waited: bool, now: Instant) {
        let before = self.clock.replace(clock).filter(|_| waited);
        let mut last: Option<Xid> = None;
        // In reverse: the last event of a transaction is the nearest to its end.
        for event in events
            .iter()
            .rev()
            .filter(|event| last.replace(event.xid) != Some(event.xid))
        {
            // The transaction ended some time after the last read: half of that time is waiting for this read.
            let waiting = before.map_or(time::Duration::ZERO, |before| (clock - before.max(event.at)) / 2);
            let duration = (clock - event.at - waiting).try_into().unwrap_or(Duration::ZERO);
            self.total_duration += duration.min(WINDOW);
        }
        if now - self.began >= WINDOW {
            self.end_window(now);
        }
    }

    fn end_window(&mut self, now: Instant) {
        self.counts.truncate(CALM_WINDOWS - 1);
        self.counts
            .push_front(self.total_duration.as_secs_f64() / (now - self.began).as_secs_f64());
        (self.began, self.total_duration) = (now, Duration::ZERO);
    }

    /// The load as of the last window.
    pub fn verdict(&self) -> Verdict {
        let windows = self.counts.len();
        if windows >= BUSY_WINDOWS && self.counts.iter().take(BUSY_WINDOWS).all(|count| *count > BUSY_ABOVE) {
            Verdict::Busy(PAUSE_FOR_EACH.mul_f64(self.counts[0]))
        } else if windows == CALM_WINDOWS && self.counts.iter().sum::<f64>() < CALM_BELOW * CALM_WINDOWS as f64 {
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

    /// An estimator after `windows` windows, each with `transactions` transactions of `events` events, which took
    /// `age`.
    fn after(windows: u32, transactions: u64, events: u64, age: Duration) -> (InFlightEstimator, Instant) {
        let mut now = Instant::now();
        let mut load = InFlightEstimator::new(now);
        for _ in 0..windows {
            now += WINDOW;
            let all = (0..transactions).flat_map(|xid| (0..events).map(move |_| event(xid, age)));
            load.record_read(&all.collect::<Vec<_>>(), CLOCK, false, now);
        }
        (load, now)
    }

    #[test]
    fn many_short_transactions_are_busy_after_three_windows() {
        let ms = Duration::from_millis(1);
        let (load, _) = after(3, 150, 1, ms);
        assert_eq!(load.verdict(), Verdict::Busy(3 * PAUSE_FOR_EACH));
        let (load, _) = after(3, 400, 1, 2 * ms);
        assert_eq!(load.verdict(), Verdict::Busy(16 * PAUSE_FOR_EACH));
        let (load, _) = after(2, 150, 1, ms);
        assert_eq!(load.verdict(), Verdict::Between);
        // 2,000 a second that take half a millisecond each: one in flight.
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
        load.record_read(&[], CLOCK, false, now);
        assert_eq!(load.verdict(), Verdict::Calm);
        // A disk that stops for a moment: thirty wait in one window, and the load is not calm for the next second.
        let stuck: Vec<JournalEvent> = (0..30).map(|xid| event(xid, WINDOW)).collect();
        now += WINDOW;
        load.record_read(&stuck, CLOCK, false, now);
        for _ in 0..19 {
            assert_eq!(load.verdict(), Verdict::Between);
            now += WINDOW;
            load.record_read(&[], CLOCK, false, now);
        }
        assert_eq!(load.verdict(), Verdict::Between);
        load.record_read(&[], CLOCK, false, now + WINDOW);
        assert_eq!(load.verdict(), Verdict::Calm);
    }

    #[test]
    fn half_of_the_time_between_two_reads_does_not_count() {
        // Each takes 0.35 ms, 2,000 a second: 0.7 in flight. With reads 0.5 ms apart, each seems to take 0.54 ms.
        let gap = Duration::from_micros(500);
        let mut now = Instant::now();
        let (mut polled, mut notified) = (InFlightEstimator::new(now), InFlightEstimator::new(now));
        for step in 1..=400_u32 {
            now += gap;
            let clock = CLOCK + step * gap;
            let mut event = event(u64::from(step), Duration::ZERO);
            event.at = clock - Duration::from_micros(350) - step % 4 * gap / 4;
            polled.record_read(std::slice::from_ref(&event), clock, true, now);
            notified.record_read(&[event], clock, false, now);
        }
        assert_eq!(polled.verdict(), Verdict::Between);
        assert!(matches!(notified.verdict(), Verdict::Busy(_)), "{notified:?}");
    }

    #[test]
    fn a_clock_that_goes_back_adds_no_load() {
        let now = Instant::now();
        let mut load = InFlightEstimator::new(now);
        load.record_read(
            &[event(1, Duration::ZERO)],
            CLOCK - Duration::from_secs(9),
            false,
            now + WINDOW,
        );
        assert_eq!(load.verdict(), Verdict::Between);
    }
}
