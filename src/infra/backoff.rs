//! Exponential backoff: each pause is twice as long as the one before, up to a bound. Jitter keeps many nodes that lost
//! the same database from reconnecting at the same moment.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pauses between attempts.
#[derive(Debug)]
pub struct Backoff {
    pause: Duration,
}

impl Backoff {
    /// The shortest pause.
    #[expect(
        clippy::new_without_default,
        reason = "a backoff is made where its loop begins, never by default"
    )]
    pub fn new() -> Self {
        Self { pause: FIRST_PAUSE }
    }

    /// Between half of the current pause and all of it; then doubles the pause.
    pub fn next_pause(&mut self) -> Duration {
        let jittered = self.pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        jittered
    }

    /// Resets to the shortest pause after a success.
    pub fn reset(&mut self) {
        self.pause = FIRST_PAUSE;
    }
}
