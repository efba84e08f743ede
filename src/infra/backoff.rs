//! How long to wait before trying again: twice as long each time, up to a bound, with jitter, so that many nodes that
//! lost the same database do not come back in step.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pauses between attempts.
#[derive(Debug)]
pub struct Backoff {
    pause: Duration,
}

impl Backoff {
    /// At its shortest.
    #[expect(
        clippy::new_without_default,
        reason = "a backoff is made where its loop begins, never by default"
    )]
    pub fn new() -> Self {
        Self { pause: FIRST_PAUSE }
    }

    /// Between half and the whole of the present pause; the next one is twice as long.
    pub fn next_pause(&mut self) -> Duration {
        let jittered = self.pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        jittered
    }

    /// It worked: begin anew the next time.
    pub fn reset(&mut self) {
        self.pause = FIRST_PAUSE;
    }
}
