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

use std::time::Duration;

/// The pause between two checks of a state that sends no signal.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Waits before the next check, because the observed task needs the processor too.
pub async fn look_again() {
    tokio::time::sleep(LOOK_INTERVAL).await;
}

/// How long the chaos test runs, if `scripts/chaos` has set `VESTNIK_CHAOS_MINUTES`.
pub fn minutes_of_chaos() -> Option<Duration> {
    let minutes: u64 = std::env::var("VESTNIK_CHAOS_MINUTES").ok()?.parse().unwrap();
    Some(Duration::from_secs(60 * minutes))
}
