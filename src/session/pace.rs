//! How many messages a client may send: a person's acknowledgements pass, a flood does not.

use tokio::time::Instant;

/// Messages at once.
const BURST: f64 = 500.0;
/// Messages a second that go on for ever.
const PER_SECOND: f64 = 50.0;

/// A token bucket.
#[derive(Debug)]
pub struct Pace {
    left: f64,
    since: Instant,
}

impl Pace {
    /// Full.
    pub fn new() -> Self {
        Self {
            left: BURST,
            since: Instant::now(),
        }
    }

    /// Takes one, if there is one.
    pub fn allows_one(&mut self) -> bool {
        let now = Instant::now();
        self.left = (self.left + PER_SECOND * (now - self.since).as_secs_f64()).min(BURST);
        self.since = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}
