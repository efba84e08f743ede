//! The timer of a session: heartbeats, the warning before the token expires, and the expiry.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Time between the warning to a client and the expiry of the client's token.
const WARNING: Duration = Duration::from_secs(60);

/// The work that is due in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The session must send a ping and the newest cursor.
    Heartbeat,
    /// The session must warn the client that its token expires soon. The value is the time until the expiry.
    Warning(Duration),
    /// The session must end, because its token has expired.
    End,
}

/// The timer of a session. It uses a single timer of the runtime for all due times, so that an idle session needs
/// little memory.
pub struct Clock {
    sleep: Pin<Box<Sleep>>,
    interval: Duration,
    heartbeat: Instant,
    warning: Option<Instant>,
    end: Option<Instant>,
}

impl Clock {
    /// Starts the timer. `interval` is the time between heartbeats, and `token_ends` is the time at which the token
    /// expires. `None`: the token never expires.
    pub fn new(interval: Duration, token_ends: Option<std::time::Instant>) -> Self {
        let heartbeat = Instant::now() + interval;
        let mut clock = Self {
            sleep: Box::pin(sleep_until(heartbeat)),
            interval,
            heartbeat,
            warning: None,
            end: None,
        };
        clock.set_end(token_ends);
        clock
    }

    /// Sets the time at which the token expires. `None`: the token never expires.
    pub fn set_end(&mut self, token_ends: Option<std::time::Instant>) {
        self.end = token_ends.map(Instant::from_std);
        let now = Instant::now();
        self.warning = self.end.map(|end| end.checked_sub(WARNING).unwrap_or(now).max(now));
    }

    /// Waits until work is due. Cancel safe: dropping the future loses no work.
    pub async fn next(&mut self) -> Due {
        let times = [Some(self.heartbeat), self.warning, self.end];
        let next = times.into_iter().flatten().min().unwrap_or(self.heartbeat);
        if self.sleep.deadline() != next || self.sleep.is_elapsed() {
            self.sleep.as_mut().reset(next);
        }
        self.sleep.as_mut().await;
        let now = Instant::now();
        if self.end.is_some_and(|end| end <= now) {
            return Due::End;
        }
        if let (Some(_), Some(end)) = (self.warning.filter(|warning| *warning <= now), self.end) {
            self.warning = None;
            return Due::Warning(end - now);
        }
        self.heartbeat = now + self.interval;
        Due::Heartbeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_is_warned_a_minute_before_its_end_and_beats_all_the_while() {
        let began = Instant::now();
        let ends = (began + Duration::from_secs(100)).into_std();
        let mut clock = Clock::new(Duration::from_secs(30), Some(ends));
        let mut due = Vec::new();
        while due.last().is_none_or(|(_, due)| *due != Due::End) {
            let next = clock.next().await;
            due.push((began.elapsed().as_secs(), next));
        }
        let expected = [
            (30, Due::Heartbeat),
            (40, Due::Warning(Duration::from_secs(60))),
            (60, Due::Heartbeat),
            (90, Due::Heartbeat),
            (100, Due::End),
        ];
        assert_eq!(due, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_new_token_it_goes_on() {
        let began = Instant::now();
        let after = |seconds| Some((began + Duration::from_secs(seconds)).into_std());
        let mut clock = Clock::new(Duration::from_secs(1000), after(10));
        assert_eq!(clock.next().await, Due::Warning(Duration::from_secs(10)));
        clock.set_end(after(100));
        assert_eq!(clock.next().await, Due::Warning(Duration::from_secs(60)));
        assert_eq!(began.elapsed().as_secs(), 40);
        clock.set_end(None);
        assert_eq!(clock.next().await, Due::Heartbeat);
    }
}
