//! A pause shorter than a timer's tick.

use std::time::Duration;

/// tokio's timers tick in whole milliseconds, and a sleep takes one more than was asked for.
const TICK: Duration = Duration::from_millis(2);

/// Waits for about so long.
pub async fn nap(pause: Duration) {
    if pause >= TICK {
        return tokio::time::sleep(pause).await;
    }
    // A thread that sleeps wakes within 0.1 ms. It cannot fail: it does nothing.
    let _ = tokio::task::spawn_blocking(move || std::thread::sleep(pause)).await;
}
