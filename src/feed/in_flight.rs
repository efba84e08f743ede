//! Estimates how many of the shop's transactions are in flight, that is, run at the same time. By Little's law, this
//! number is the sum of the transactions' durations, divided by the time in which they arrived. One threshold for this
//! number suits both fast and slow disks. A threshold for orders per second would not.

use std::collections::VecDeque;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::domain::event::{JournalEvent, Xid};

/// Length of the window in which transactions are counted. A transaction that lasts longer than the window counts as if
/// it lasted one window, because one slow transaction does not load the database.
pub const WINDOW: Duration = Duration::from_millis(50);
/// Load above which NOTIFY is suppressed, in transactions in flight. Above this load, transactions that notify wait
/// for one another. For example, at 2,000 orders/s with NOTIFY, 1.2 transactions are in flight, and the p99 of the
/// delivery time is 4 ms. Without NOTIFY, 0.7 transactions are in flight, the p99 is 2.2 ms, and the CPU load is
/// lower.
const BUSY_ABOVE: f64 = 1.0;
/// Number of successive windows above `BUSY_ABOVE` that count as load. A single burst of transactions is not load.
const BUSY_WINDOWS: usize = 3;
/// A node that suppresses NOTIFY pauses before each read for this time, multiplied by the number of transactions in
/// flight. The time is about the CPU time of one transaction. Longer pauses leave more CPU to the writers. With reads 3
/// ms apart, 16 writers reach 63 % of the rate that they have without Vestnik's triggers; with reads 1 ms apart, they
/// reach 57 %. With few transactions in flight, a long pause would only delay events.
const PAUSE_FOR_EACH: Duration = Duration::from_micros(150);
/// Load below which writers may notify again, in transactions in flight. It is half of `BUSY_ABOVE`, because
/// transactions without NOTIFY are shorter: a load of 1 becomes about 0.6.
const CALM_BELOW: f64 = 0.5;
/// Number of windows whose average is compared with `CALM_BELOW`. Together they last one second. Suppression itself
/// makes transactions shorter, so a short time of low load does not end it.
const CALM_WINDOWS: usize = 20;

/// The load of the database in the last windows. A node suppresses NOTIFY under high load, because this makes the
/// shop's transactions faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// The load is high, so NOTIFY suppression helps. The value is the pause before the next read.
    Busy(Duration),
    /// The load is neither high nor low, so the node keeps its current state.
    Between,
    /// The load is low, so NOTIFY suppression does not help.
    Calm,
}

/// Estimates the number of transactions in flight from the events that the feed reads.
#[derive(Debug)]
pub struct InFlightEstimator {
    began: Instant,
    total_duration: Duration,
    /// Number of transactions in flight in each of the last windows, newest first.
    counts: VecDeque<f64>,
    /// The time of the last read, by the clock of the database.
    clock: Option<OffsetDateTime>,
}

impl InFlightEstimator {
    /// Creates an estimator that has counted no transaction yet.
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            total_duration: Duration::ZERO,
            counts: VecDeque::with_capacity(CALM_WINDOWS),
            clock: None,
        }
    }

    /// Counts the transactions of one read of the journal. `clock` is the database's time at the read. `waited`: the
    /// node suppresses NOTIFY, so each event waited for this read. This waiting time does not count as part of a
    /// transaction.
    pub fn record_read(&mut self, events: &[JournalEvent], clock: OffsetDateTime, waited: bool, now: Instant) {
        let before = self.clock.replace(clock).filter(|_| waited);
        let mut last: Option<Xid> = None;
        // The events are visited in reverse order, so that only the last event of each transaction counts. Its time is
        // nearest to the end of the transaction.
        for event in events
            .iter()
            .rev()
            .filter(|event| last.replace(event.xid) != Some(event.xid))
        {
            // The transaction ended after the last read: on average in the middle between the two reads. From then
            // until this read, its event only waited. This half of the time is not part of the transaction's duration.
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

    /// Classifies the load of the last full windows.
    pub fn level(&self) -> Load {
        let windows = self.counts.len();
        if windows >= BUSY_WINDOWS && self.counts.iter().take(BUSY_WINDOWS).all(|count| *count > BUSY_ABOVE) {
            Load::Busy(PAUSE_FOR_EACH.mul_f64(self.counts[0]))
        } else if windows == CALM_WINDOWS && self.counts.iter().sum::<f64>() < CALM_BELOW * CALM_WINDOWS as f64 {
            Load::Calm
        } else {
            Load::Between
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

    /// Builds an estimator after `windows` windows. In each window, `transactions` transactions end. Each transaction
    /// has `events` events, and takes the time `age`.
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
        assert_eq!(load.level(), Load::Busy(3 * PAUSE_FOR_EACH));
        let (load, _) = after(3, 400, 1, 2 * ms);
        assert_eq!(load.level(), Load::Busy(16 * PAUSE_FOR_EACH));
        let (load, _) = after(2, 150, 1, ms);
        assert_eq!(load.level(), Load::Between);
        // One transaction is in flight: 2,000 arrive a second, and each takes half a millisecond.
        let (load, _) = after(3, 100, 1, ms / 2);
        assert_eq!(load.level(), Load::Between);
    }

    #[test]
    fn an_old_transaction_and_a_large_one_count_once() {
        let (load, _) = after(5, 1, 100_000, Duration::from_secs(60));
        assert_eq!(load.level(), Load::Between);
    }

    #[test]
    fn calm_takes_a_second_without_load_on_average() {
        let (mut load, mut now) = after(19, 10, 1, Duration::from_millis(1));
        assert_eq!(load.level(), Load::Between);
        now += WINDOW;
        load.record_read(&[], CLOCK, false, now);
        assert_eq!(load.level(), Load::Calm);
        // The disk stalls in one window: thirty transactions wait, so the average load of the following second is not
        // low.
        let stuck: Vec<JournalEvent> = (0..30).map(|xid| event(xid, WINDOW)).collect();
        now += WINDOW;
        load.record_read(&stuck, CLOCK, false, now);
        for _ in 0..19 {
            assert_eq!(load.level(), Load::Between);
            now += WINDOW;
            load.record_read(&[], CLOCK, false, now);
        }
        assert_eq!(load.level(), Load::Between);
        load.record_read(&[], CLOCK, false, now + WINDOW);
        assert_eq!(load.level(), Load::Calm);
    }

    #[test]
    fn half_of_the_time_between_two_reads_does_not_count() {
        // 0.7 transactions are in flight: 2,000 arrive a second, and each takes 0.35 ms. With reads 0.5 ms apart, each
        // transaction seems to take 0.54 ms.
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
        assert_eq!(polled.level(), Load::Between);
        assert!(matches!(notified.level(), Load::Busy(_)), "{notified:?}");
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
        assert_eq!(load.level(), Load::Between);
    }
}
