//! A timer for sleeps that are shorter than a tick of tokio's timer. The feed uses it between two reads.

use std::io;
use std::time::Duration;

/// Sleeps of this length or longer use tokio's timer. Its resolution is one millisecond, and a sleep can last a
/// millisecond too long. For shorter sleeps, this error is too large.
const TICK: Duration = Duration::from_millis(2);

/// A timer for short and long sleeps, one sleep at a time.
#[derive(Debug)]
pub struct PreciseSleep(io::Result<timer::Timer>);

impl PreciseSleep {
    /// Creates the timer. It must be called within a tokio runtime.
    pub fn new() -> Self {
        Self(timer::Timer::new())
    }

    /// Sleeps for about this time, and never for less.
    pub async fn sleep(&mut self, pause: Duration) {
        if pause >= TICK {
            return tokio::time::sleep(pause).await;
        }
        if let Ok(timer) = &mut self.0
            && timer.wait(pause).await.is_ok()
        {
            return;
        }
        // Without the kernel's timer, a blocking thread sleeps; it wakes at most 0.1 ms late. The error is ignored,
        // because the closure cannot fail.
        let _ = tokio::task::spawn_blocking(move || std::thread::sleep(pause)).await;
    }
}

/// A timer of the Linux kernel, polled like a socket. The alternative, a thread that sleeps, needs two wake-ups for
/// each sleep: the feed wakes the thread, and the thread wakes the feed. At 2,000 orders/s, the thread raised the
/// context switches for each order from 3.5 to 6.2, and caused 6 % of the delivery time.
#[cfg(target_os = "linux")]
mod timer {
    use std::io;
    use std::time::Duration;

    use rustix::fd::OwnedFd;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    #[derive(Debug)]
    pub struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd; what takes its place has to be called unsafe, for descriptors that are not"
        )]
        pub fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?).map(Self)
        }

        /// Waits for `pause`, which must be shorter than a second. An earlier wait that was dropped before its end has
        /// no effect.
        pub async fn wait(&mut self, pause: Duration) -> io::Result<()> {
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                // The value 0 would disarm the timer.
                it_value: Timespec {
                    tv_sec: 0,
                    tv_nsec: pause.subsec_nanos().max(1).into(),
                },
            };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            loop {
                let mut ready = self.0.readable().await?;
                let expired = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?));
                // If there is no value to read, the timer was ready because of an earlier pause that was dropped. Wait
                // again.
                if let Ok(expired) = expired {
                    return expired.map(drop);
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use std::io;
    use std::time::Duration;

    #[derive(Debug)]
    pub struct Timer;

    impl Timer {
        pub fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub async fn wait(&mut self, _: Duration) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::FutureExt as _;

    use super::*;

    async fn is_whole(sleep: &mut PreciseSleep, pause: Duration) {
        let begin = Instant::now();
        sleep.sleep(pause).await;
        assert!(begin.elapsed() >= pause, "{:?} of {pause:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn a_sleep_is_never_too_short_even_after_a_dropped_one() {
        let mut sleep = PreciseSleep::new();
        for pause in [0, 1, 300, 1_900, 2_100].map(Duration::from_micros) {
            is_whole(&mut sleep, pause).await;
            // The timer expires while no task waits for it.
            let left = sleep.sleep(Duration::from_micros(100)).now_or_never();
            assert_eq!(left, None, "the sleep must not be over");
            std::thread::sleep(Duration::from_micros(300));
            is_whole(&mut sleep, Duration::from_micros(1_500)).await;
        }
    }

    #[tokio::test]
    async fn without_a_kernel_timer_a_thread_sleeps() {
        is_whole(
            &mut PreciseSleep(Err(io::ErrorKind::Unsupported.into())),
            Duration::from_micros(300),
        )
        .await;
    }
}
