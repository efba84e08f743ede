//! The canary is a self-test. At intervals, a node writes a synthetic order, and waits until a session at its own
//! server receives it. So each round tests the trigger, the notification, the journal, the feed, the router, the
//! server, and a session.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;

use crate::domain::event::StoreId;
use crate::http::{Canary, CanaryFailure, DatabaseContext, Loopback, Unreached};
use crate::infra::db::QueryError;
use crate::infra::periodic::Periodic;
use crate::infra::telemetry::LogLimit;
use crate::journal::canary;
use crate::token::Token;

/// The longest time for the node to open a session at its own server.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// The longest time from the commit of the synthetic order until the session receives it.
const BACK_DEADLINE: Duration = Duration::from_secs(10);
/// The pause before the next round if a round failed or could not begin.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The task that runs the canary (self-test) of one database.
pub(super) struct CanaryTask {
    pub database: Arc<DatabaseContext>,
    pub loopback: Loopback,
    pub store: StoreId,
    pub token: Token,
    pub interval: Duration,
    pub now: watch::Sender<Canary>,
}

/// The outcome of a round.
enum Round {
    /// The round passed or failed.
    Ended(Canary),
    /// The round tested nothing, because the server was busy or the feed has not read the journal recently. The canary
    /// need not report a stale feed, because `/readyz` reports it anyway.
    Skipped,
}

impl CanaryTask {
    /// Runs one round after another until the shutdown.
    pub async fn run(self, stop: CancellationToken) {
        let mut periodic = Periodic::now(self.interval, &stop);
        while periodic.next_run().await {
            let Some(round) = stop.run_until_cancelled(self.round()).await else {
                break;
            };
            if !matches!(round, Round::Ended(Canary::Back)) {
                periodic.set_next_pause(RETRY_INTERVAL.min(self.interval));
            }
            if let Round::Ended(state) = round {
                self.tell(state);
            }
        }
        if let Err(error) = canary::retire(&self.database.hub.pool, &self.store).await {
            tracing::debug!(%error, "could not say that the canary of this node ends");
        }
    }

    async fn round(&self) -> Round {
        if !self.database.feed_health.is_fresh() {
            return match canary::is_standby(&self.database.hub.pool).await {
                Ok(true) => Round::Ended(Canary::Failed(CanaryFailure::ReadOnly)),
                _ => Round::Skipped,
            };
        }
        let round = format!("{:016x}", fastrand::u64(..));
        let Some(ended) = self.pass(&round).await else {
            return Round::Skipped;
        };
        let state = ended.map_or_else(Canary::Failed, |()| Canary::Back);
        if let Err(error) = canary::conclude(&self.database.hub.pool, &round, state.as_str()).await {
            tracing::debug!(%error, "the outcome of the canary was not saved");
        }
        Round::Ended(state)
    }

    /// Runs the test of one round: opens a session, writes the order, and waits until the session receives it. `None`:
    /// the server was too busy to open a session.
    async fn pass(&self, round: &str) -> Option<Result<(), CanaryFailure>> {
        let path = format!("/api/partner/ws/partner/{}", self.store);
        let opened = timeout(OPEN_DEADLINE, async {
            let mut socket = self.loopback.open(&path, self.token.reveal()).await?;
            until(&mut socket, |message| message["type"] == "live").await?;
            Ok::<_, Unreached>(socket)
        });
        let mut socket = match opened.await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error @ Unreached::Busy(_))) => {
                tracing::debug!(%error, "no round of the canary");
                return None;
            }
            Ok(Err(error)) => {
                self.explain(&error.to_string());
                return Some(Err(CanaryFailure::NoSession));
            }
            Err(_) => return Some(Err(CanaryFailure::NoSession)),
        };
        // The longest time until the next round writes its order: the interval, and the deadlines of all steps before
        // that.
        let next = self.interval + 2 * (OPEN_DEADLINE + BACK_DEADLINE);
        if let Err(error) = canary::send(&self.database.hub.pool, &self.store, round, next).await {
            self.explain(&error.to_string());
            return Some(Err(why(&error)));
        }
        let is_ours = |message: &serde_json::Value| message["data"]["order_ids"][0] == round;
        let back = timeout(BACK_DEADLINE, until(&mut socket, is_ours)).await;
        let _ = timeout(BACK_DEADLINE, socket.close(None)).await;
        Some(match back {
            Ok(Ok(())) => Ok(()),
            _ => Err(CanaryFailure::Lost),
        })
    }

    fn explain(&self, error: &str) {
        static LIMIT: LogLimit = LogLimit::new();
        if LIMIT.allows().is_some() {
            tracing::warn!(database = self.database.name, error, "a round of the canary failed");
        }
    }

    /// Reports the outcome of a round to operators: each change in the log, and each failure in the metric.
    fn tell(&self, state: Canary) {
        let before = self.now.send_replace(state);
        let database = self.database.name.as_deref();
        if let Canary::Failed(failure) = state {
            metrics::counter!("vestnik_canary_failures_total", "why" => failure.as_str()).increment(1);
            if before != state {
                tracing::error!(
                    database,
                    why = failure.as_str(),
                    "the canary did not come back, and the node is not ready: {failure}"
                );
            }
        } else if matches!(before, Canary::Failed(_)) {
            tracing::info!(database, "the canary comes back again");
        }
    }
}

/// Reads messages of the session until one of them satisfies `is_so`. If the session ends before that, returns an
/// error.
async fn until(
    socket: &mut (impl futures::Stream<Item = Result<Message, tungstenite::Error>> + Unpin),
    is_so: impl Fn(&serde_json::Value) -> bool,
) -> Result<(), tungstenite::Error> {
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        if serde_json::from_str(&text).is_ok_and(|message| is_so(&message)) {
            return Ok(());
        }
    }
    Err(tungstenite::Error::ConnectionClosed)
}

fn why(error: &QueryError) -> CanaryFailure {
    match error.sqlstate() {
        Some("25006") => CanaryFailure::ReadOnly,
        Some("42P01" | "3F000") => CanaryFailure::NotMigrated,
        Some("42501") => CanaryFailure::NoRight,
        _ => CanaryFailure::NotWritten,
    }
}
