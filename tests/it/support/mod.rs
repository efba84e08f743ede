//! What the tests stand on.

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
pub mod sse;
pub mod telegram;

use std::time::Duration;

/// Between two looks at what says nothing by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// A pause before the next look: what is waited for needs the processor, too.
pub async fn look_again() {
    tokio::time::sleep(LOOK_INTERVAL).await;
}
