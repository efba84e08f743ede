//! Computes the wait between a failure and the next attempt. This module reads no clock.

use std::time::Duration;

/// The shortest and the longest wait. The wait doubles with each failure.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait, after any number of failures.
    pub longest: Duration,
}

impl Pauses {
    /// Returns the wait after this many failures in a row. The wait doubles with each failure up to `longest`. Then a
    /// random part of the wait is subtracted, so that simultaneous failures are not retried together. `jitter` is a
    /// random number from 0 (nothing is subtracted) to 1 (a quarter is subtracted). The result is never shorter than
    /// `first`.
    pub fn after(self, failures: u32, jitter: f64) -> Duration {
        let doubled = self
            .first
            .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        doubled
            .min(self.longest)
            .mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
            .max(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAUSES: Pauses = Pauses {
        first: Duration::from_secs(5),
        longest: Duration::from_secs(60 * 60),
    };

    #[test]
    fn it_doubles_up_to_the_longest() {
        let pauses: Vec<u64> = (1..=12).map(|failures| PAUSES.after(failures, 0.0).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
    }

    proptest! {
        #[test]
        fn it_is_never_shorter_than_the_first_nor_longer_than_the_longest(failures: u32, jitter in 0.0..=1.0) {
            let pause = PAUSES.after(failures, jitter);
            prop_assert!((PAUSES.first..=PAUSES.longest).contains(&pause), "{pause:?}");
        }
    }
}
