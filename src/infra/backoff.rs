//! Exponential backoff: each pause is twice as long as the one before, up to a maximum. Jitter (a random part of the
//! pause) prevents nodes that lost the same database from reconnecting at the same moment.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Computes the pauses between the attempts of a retry loop.
#[derive(Debug)]
pub struct Backoff {
    pause: Duration,
}

impl Backoff {
    /// Creates a backoff whose first pause is the shortest one.
    #[expect(
        clippy::new_without_default,
        reason = "a backoff is made where its loop begins, never by default"
    )]
    pub fn new() -> Self {
        Self { pause: FIRST_PAUSE }
    }

    /// Returns the next pause: a random time between half of the current pause and the whole current pause. After that,
    /// the current pause doubles.
    pub fn next_pause(&mut self) -> Duration {
        let jittered = self.pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        jittered
    }

    /// Resets the pause to the shortest one. Call this method after a successful attempt.
    pub fn reset(&mut self) {
        self.pause = FIRST_PAUSE;
    }
}
