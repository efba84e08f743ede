//! Helpers of the tests: the engine, Postgres, clients, and fakes of other services.

pub mod app;
pub mod attackers;
pub mod breakable;
pub mod corpus;
pub mod db;
pub mod forward;
pub mod hook;
pub mod http;
pub mod issuer;
pub mod node;
pub mod pooler;
pub mod proxy;
pub mod running;
pub mod sse;
pub mod telegram;
pub mod tls;
pub mod watch;

use std::time::{Duration, Instant};

use tokio::time::timeout;

/// The pause between two checks of a state that sends no signal.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Waits before the next check, because the observed task needs the processor too.
pub async fn look_again() {
    tokio::time::sleep(LOOK_INTERVAL).await;
}

/// The engine's limit for the wait for a turn, and for the wait for a lock of an order's row.
pub const LOCK_LIMIT: Duration = Duration::from_secs(3);
/// The most rounds of a test that must be faster than a time limit of the engine.
const ROUNDS: usize = 5;

/// Runs a round, and returns its result if the round took less than `limit`. A busy machine may delay a round for
/// longer than a time limit of the engine. Then the round proves nothing.
pub async fn within<T>(limit: Duration, round: impl Future<Output = T>) -> Option<T> {
    let begin = Instant::now();
    let result = timeout(limit, round).await.ok()?;
    (begin.elapsed() < limit).then_some(result)
}

/// Repeats a round until it has a result.
pub async fn in_rounds<T>(mut round: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..ROUNDS {
        if let Some(result) = round().await {
            return result;
        }
    }
    panic!("each of {ROUNDS} rounds took too long");
}

/// How long the chaos test runs, if `scripts/chaos` has set `VESTNIK_CHAOS_MINUTES`.
pub fn minutes_of_chaos() -> Option<Duration> {
    let minutes: u64 = std::env::var("VESTNIK_CHAOS_MINUTES").ok()?.parse().unwrap();
    Some(Duration::from_secs(60 * minutes))
}
