//! The loop of every background task that runs at intervals until the shutdown: `while periodic.next_run().await {`.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The runs of a periodic task. The pause between two runs begins at the end of the first of them, so a slow run delays
/// the next one.
#[derive(Debug)]
pub struct Periodic {
    pause: Duration,
    /// The pause before the next run, if it is not the usual one.
    next_pause: Option<Duration>,
    stop: CancellationToken,
}

impl Periodic {
    /// Runs at once, and then again after each `pause`.
    pub fn now(pause: Duration, stop: &CancellationToken) -> Self {
        Self {
            pause,
            next_pause: Some(Duration::ZERO),
            stop: stop.clone(),
        }
    }

    /// Runs after the first `pause`, and then again after each `pause`.
    pub fn later(pause: Duration, stop: &CancellationToken) -> Self {
        Self {
            next_pause: None,
            ..Self::now(pause, stop)
        }
    }

    /// Sets the pause before the next run only.
    pub fn set_next_pause(&mut self, pause: Duration) {
        self.next_pause = Some(pause);
    }

    /// Waits until the next run is due. Returns `false` at the shutdown.
    pub async fn next_run(&mut self) -> bool {
        let due = Instant::now() + self.next_pause.take().unwrap_or(self.pause);
        self.stop.run_until_cancelled(sleep_until(due)).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_task_runs_at_once_or_later_and_then_after_each_pause() {
        let stop = CancellationToken::new();
        let began = Instant::now();
        let (mut now, mut later) = (Periodic::now(PAUSE, &stop), Periodic::later(PAUSE, &stop));
        assert!(now.next_run().await);
        assert_eq!(began.elapsed().as_secs(), 0);
        assert!(later.next_run().await);
        assert_eq!(began.elapsed().as_secs(), 60);
        later.set_next_pause(Duration::from_secs(5));
        assert!(later.next_run().await);
        assert_eq!(began.elapsed().as_secs(), 65, "only the next pause is another one");
        assert!(later.next_run().await);
        assert_eq!(began.elapsed().as_secs(), 125);
    }

    #[tokio::test(start_paused = true)]
    async fn the_shutdown_ends_a_pause() {
        let stop = CancellationToken::new();
        let mut periodic = Periodic::later(PAUSE, &stop);
        let began = Instant::now();
        let (goes_on, ()) = tokio::join!(periodic.next_run(), async { stop.cancel() });
        assert!(!goes_on);
        assert_eq!(began.elapsed().as_secs(), 0);
    }
}
