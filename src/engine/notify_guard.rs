//! Keeps notifications from harming the shop or stopping the nodes, whoever tries: a queue that fills up is fed no more by
//! orders, and a foreign hold on the locks is polled around. docs/notify-suppression.md says why nothing is lost by it.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use secrecy::SecretString;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::feed::listener::Bell;
use crate::feed::suppression_locks::disturbance::{self, Holder, Look};
use crate::feed::suppression_locks::{LockWait, SuppressorSession};
use crate::infra::db::{Pool, QueryError};

/// Between two looks. Whoever fills the queue as fast as Postgres lets him needs some 8 s to 30 % of it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Looks at who holds the locks, one in so many where no writer is refused.
const HOLDERS_LOOK: u64 = 10;
/// Turns of 100 ms in which the nodes may let go of their lock. Then it is done without: a node that is asleep all the same finds
/// the other lock refused at its next look, and is awake.
const GATHER_TURNS: u32 = 10;
/// Turns of 100 ms to wait for writers that have notified, before the next look. No other one notifies meanwhile.
const CLOSE_TURNS: u32 = 50;
/// Writers notify again below this share of the limit, so that it does not change each second.
const CALM_SHARE: f64 = 0.5;

/// One database's.
pub(super) struct NotifyGuard {
    pub pool: Pool,
    /// Where a session can be had for itself: past any pooler.
    pub url: SecretString,
    pub bell: Arc<Bell>,
    /// Share of the queue above which orders do not notify, 0 to 1.
    pub limit: f64,
    /// Its name among several.
    pub database: Option<String>,
}

/// What is held so that no writer notifies.
struct Suppression {
    gate: SuppressorSession,
    has_gathered: bool,
    is_closed: bool,
}

impl NotifyGuard {
    /// Looks until the shutdown.
    pub async fn run(self, stop: CancellationToken) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut suppression, mut is_filling, mut known) = (None, false, Vec::new());
        let (mut has_failed, mut count) = (false, 0);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let look = match disturbance::look(&self.pool).await {
                Ok(look) => look,
                Err(error) => {
                    tracing::debug!(%error, "the notification queue could not be looked at");
                    continue;
                }
            };
            if look.is_refused {
                // A node that is asleep would wait for notifications that do not come.
                self.bell.drain.notify_one();
            }
            if look.is_refused || count % HOLDERS_LOOK == 0 || !known.is_empty() {
                self.look_at_holders(&mut known).await;
            }
            count += 1;
            is_filling = self.judge(look, is_filling).await;
            if !is_filling {
                suppression = None;
                continue;
            }
            let suppressing = self.suppress(&mut suppression);
            match stop.run_until_cancelled(suppressing).await {
                None => return,
                Some(Ok(())) => has_failed = false,
                Some(Err(error)) if has_failed => {
                    suppression = None;
                    tracing::debug!(%error, "orders still notify");
                }
                Some(Err(error)) => {
                    (suppression, has_failed) = (None, true);
                    tracing::error!(database = self.database, %error, "orders go on notifying, for they could not be kept from it");
                }
            }
        }
    }

    /// Whether orders must not notify. Says when that changes.
    async fn judge(&self, Look { queue_usage, .. }: Look, was_filling: bool) -> bool {
        let limit = self.limit * if was_filling { CALM_SHARE } else { 1.0 };
        let is_filling = queue_usage > limit;
        if is_filling == was_filling {
            return is_filling;
        }
        let percent = (queue_usage * 100.0).round();
        let suppressing = gauge!("vestnik_notification_queue_suppressing");
        if is_filling {
            suppressing.increment(1.0);
            let oldest = self.oldest().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "the oldest transaction could not be looked up");
                None
            });
            tracing::error!(
                database = self.database,
                percent,
                oldest,
                "the notification queue of this cluster fills up, for a session that listens does not read: orders notify no more, and \
                 nodes read every 50 ms; end that session (`vestnik doctor`)"
            );
        } else {
            suppressing.decrement(1.0);
            tracing::info!(
                database = self.database,
                percent,
                "the notification queue has room: orders notify again"
            );
        }
        is_filling
    }

    async fn oldest(&self) -> Result<Option<String>, QueryError> {
        Ok(disturbance::oldest_transaction(&*self.pool.get().await?).await?)
    }

    /// Holds both locks as a node does that suppresses under load, or goes on waiting for them.
    async fn suppress(&self, suppression: &mut Option<Suppression>) -> Result<(), QueryError> {
        let held = match suppression.take().filter(|held| !held.gate.is_lost()) {
            Some(held) => held,
            None => Suppression {
                gate: SuppressorSession::connect_of_triggers(&self.url).await?,
                has_gathered: false,
                is_closed: false,
            },
        };
        let held = suppression.insert(held);
        for _ in 0..GATHER_TURNS {
            if held.has_gathered || held.is_closed {
                break;
            }
            // Told here, and not by a notification: they may be refused by now. Every node looks at the queue.
            self.bell.drain.notify_one();
            held.has_gathered = held.gate.gather().await? == LockWait::Held;
        }
        for _ in 0..CLOSE_TURNS {
            if held.is_closed {
                break;
            }
            held.is_closed = held.gate.close().await? == LockWait::Held;
        }
        Ok(())
    }

    /// Says once of each who holds a lock that is the nodes' own.
    async fn look_at_holders(&self, known: &mut Vec<Holder>) {
        let holders = async { Ok::<_, QueryError>(disturbance::holders(&*self.pool.get().await?).await?) };
        let holders = match holders.await {
            Ok(holders) => holders,
            Err(error) => return tracing::debug!(%error, "the holders of the locks could not be looked up"),
        };
        for Holder { pid, who, effect } in holders.iter().filter(|holder| !known.contains(holder)) {
            tracing::error!(
                database = self.database,
                pid,
                who,
                "somebody else holds a lock of the nodes: {effect}; end it: select pg_terminate_backend({pid})"
            );
        }
        gauge!("vestnik_notify_locks_held_by_others").increment(holders.len() as f64 - known.len() as f64);
        *known = holders;
    }
}
