//! A pause shorter than a timer's tick.

use std::io;
use std::time::Duration;

/// tokio's timers tick in whole milliseconds, and a sleep takes one more than was asked for.
const TICK: Duration = Duration::from_millis(2);

/// Waits, one pause at a time.
#[derive(Debug)]
pub struct PreciseSleep(io::Result<timer::Timer>);

impl PreciseSleep {
    /// Within a runtime.
    pub fn new() -> Self {
        Self(timer::Timer::new())
    }

    /// Waits for about so long, and not for less.
    pub async fn take(&mut self, pause: Duration) {
        if pause >= TICK {
            return tokio::time::sleep(pause).await;
        }
        if let Ok(timer) = &mut self.0
            && timer.ring(pause).await.is_ok()
        {
            return;
        }
        // A thread that sleeps wakes within 0.1 ms. It cannot fail: it does nothing.
        let _ = tokio::task::spawn_blocking(move || std::thread::sleep(pause)).await;
    }
}

/// The kernel's, which rings where the sockets do. A thread that sleeps has to be woken, and to wake this one: at 2,000
/// orders/s that was 6.2 switches an order instead of 3.5, and 6 % of the way to the socket.
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

        /// Waits until it rings, after this pause of less than a second. What it was set to before is forgotten.
        pub async fn ring(&mut self, pause: Duration) -> io::Result<()> {
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                // 0 would mean never.
                it_value: Timespec {
                    tv_sec: 0,
                    tv_nsec: pause.subsec_nanos().max(1).into(),
                },
            };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            loop {
                let mut ready = self.0.readable().await?;
                let rung = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?));
                // Otherwise it rang for a pause that nobody waited for to the end.
                if let Ok(rung) = rung {
                    return rung.map(drop);
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

        pub async fn ring(&mut self, _: Duration) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::FutureExt as _;

    use super::*;

    async fn is_whole(nap: &mut PreciseSleep, pause: Duration) {
        let begin = Instant::now();
        nap.take(pause).await;
        assert!(begin.elapsed() >= pause, "{:?} of {pause:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn a_nap_is_not_shorter_than_asked_also_after_one_that_was_left() {
        let mut nap = PreciseSleep::new();
        for pause in [0, 1, 300, 1_900, 2_100].map(Duration::from_micros) {
            is_whole(&mut nap, pause).await;
            // It rings, and nobody is there.
            let left = nap.take(Duration::from_micros(100)).now_or_never();
            assert_eq!(left, None, "it was waited for");
            std::thread::sleep(Duration::from_micros(300));
            is_whole(&mut nap, Duration::from_micros(1_500)).await;
        }
    }

    #[tokio::test]
    async fn without_a_timer_of_the_kernel_a_thread_sleeps() {
        is_whole(
            &mut PreciseSleep(Err(io::ErrorKind::Unsupported.into())),
            Duration::from_micros(300),
        )
        .await;
    }
}
