//! How many transactions are on their way at once. By Little's law that is the sum of the times that they are on their
//! way, over the time in which they came: it fits any disk, where a fixed rate of orders would fit one.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Event, Xid};

/// Over which it is counted. A transaction that has been open for longer counts for this long: it alone is no load.
pub const WINDOW: Duration = Duration::from_millis(50);
/// Above this many at once, they wait for one another where each of them rings.
const BUSY_ABOVE: f64 = 2.0;
/// So many windows in a row, so that one burst is not a load.
const BUSY_WINDOWS: u32 = 2;
/// Below this, the bell may ring again.
const CALM_BELOW: f64 = 1.0;
/// For so long: where the bell is muted they end sooner, so that the load falls by muting alone.
const CALM_FOR: Duration = Duration::from_secs(1);

/// What the last windows say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Muting pays.
    Busy,
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
    busy_windows: u32,
    /// When it was last not calm.
    stirred: Instant,
}

impl Load {
    /// Nothing has come.
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            on_their_way: Duration::ZERO,
            busy_windows: 0,
            stirred: now,
        }
    }

    /// Takes a read, by how long each event had been on its way by the clock of the database.
    pub fn read(&mut self, events: &[Event], clock: time::OffsetDateTime, now: Instant) {
        let mut last: Option<Xid> = None;
        // From behind: the last event of a transaction is the nearest to its end.
        for event in events
            .iter()
            .rev()
            .filter(|event| last.replace(event.xid) != Some(event.xid))
        {
            let age = (clock - event.at).try_into().unwrap_or(Duration::ZERO);
            self.on_their_way += age.min(WINDOW);
        }
        let passed = now - self.began;
        if passed < WINDOW {
            return;
        }
        let at_once = self.on_their_way.as_secs_f64() / passed.as_secs_f64();
        self.busy_windows = if at_once > BUSY_ABOVE { self.busy_windows + 1 } else { 0 };
        if at_once >= CALM_BELOW {
            self.stirred = now;
        }
        (self.began, self.on_their_way) = (now, Duration::ZERO);
    }

    /// As of now.
    pub fn verdict(&self, now: Instant) -> Verdict {
        if self.busy_windows >= BUSY_WINDOWS {
            Verdict::Busy
        } else if now - self.stirred >= CALM_FOR {
            Verdict::Calm
        } else {
            Verdict::Between
        }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

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
            load.read(&all.collect::<Vec<_>>(), CLOCK, now);
        }
        (load, now)
    }

    #[test]
    fn many_short_transactions_at_once_are_busy_and_a_single_window_of_them_is_not() {
        let ms = Duration::from_millis(1);
        let (load, now) = after(2, 150, 1, ms);
        assert_eq!(load.verdict(now), Verdict::Busy);
        let (load, now) = after(1, 150, 1, ms);
        assert_eq!(load.verdict(now), Verdict::Between);
        // 2,000 a second that take half a millisecond each: one at a time.
        let (load, now) = after(2, 100, 1, ms / 2);
        assert_eq!(load.verdict(now), Verdict::Between);
    }

    #[test]
    fn an_old_transaction_and_a_large_one_count_once() {
        let (load, now) = after(5, 1, 100_000, Duration::from_secs(60));
        assert_eq!(load.verdict(now), Verdict::Between);
    }

    #[test]
    fn calm_takes_a_second_without_load() {
        let (load, now) = after(19, 10, 1, Duration::from_millis(1));
        assert_eq!(load.verdict(now), Verdict::Between);
        let (load, now) = after(20, 10, 1, Duration::from_millis(1));
        assert_eq!(load.verdict(now), Verdict::Calm);
    }

    #[test]
    fn a_clock_that_goes_back_is_no_load() {
        let now = Instant::now();
        let mut load = Load::new(now);
        load.read(
            &[event(1, Duration::ZERO)],
            CLOCK - Duration::from_secs(9),
            now + WINDOW,
        );
        assert_eq!(load.verdict(now + WINDOW), Verdict::Between);
    }
}
