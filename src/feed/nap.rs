//! A pause shorter than a timer's tick.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// tokio's timers tick in whole milliseconds, and a sleep takes one more than was asked for.
const TICK: Duration = Duration::from_millis(2);

/// A timer of the kernel, which wakes the task as a socket does: within 0.1 ms.
pub struct Nap {
    /// None where there are no descriptors left: then a pause takes a tick.
    timer: Option<AsyncFd<OwnedFd>>,
}

impl Nap {
    /// Not set yet. Only within a runtime.
    pub fn new() -> Self {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(Into::into);
        Self {
            timer: timer.and_then(AsyncFd::new).ok(),
        }
    }

    /// Waits for about so long. One at a time: the next call sets the timer anew.
    pub async fn take(&self, pause: Duration) {
        match &self.timer {
            Some(timer) if pause < TICK => {
                if wait(timer, pause).await.is_err() {
                    tokio::time::sleep(pause).await;
                }
            }
            _ => tokio::time::sleep(pause).await,
        }
    }
}

async fn wait(timer: &AsyncFd<OwnedFd>, pause: Duration) -> Result<(), std::io::Error> {
    if pause.is_zero() {
        // Which would switch it off.
        return Ok(());
    }
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: 0,
            tv_nsec: pause.subsec_nanos().into(),
        },
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    loop {
        let mut ready = timer.readable().await?;
        match read(timer, &mut [0; size_of::<u64>()]) {
            Ok(_) => return Ok(()),
            // Left over from a pause that was broken off.
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_pause_that_was_broken_off_shortens_none_after_it() {
        let (nap, long, short) = (Nap::new(), Duration::from_micros(1900), Duration::from_micros(100));
        for _ in 0..20 {
            tokio::select! {
                biased;
                () = nap.take(short) => {}
                () = std::future::ready(()) => {}
            }
            // Long enough for the kernel to say that it is over.
            Nap::new().take(2 * short).await;
            let begin = Instant::now();
            nap.take(long).await;
            assert!(begin.elapsed() >= long, "it ended {:?} after it began", begin.elapsed());
        }
    }

    #[tokio::test]
    async fn no_pause_is_none_and_a_long_one_is_a_timers() {
        let nap = Nap::new();
        nap.take(Duration::ZERO).await;
        let begin = Instant::now();
        nap.take(2 * TICK).await;
        assert!(begin.elapsed() >= 2 * TICK);
    }
}
