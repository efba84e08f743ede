//! Protects the shop and the nodes if other programs disturb notifications. While Postgres' notification queue fills
//! up, the guard stops writers from notifying, because a full queue makes their COMMIT fail. While another program
//! holds a lock of NOTIFY suppression, nodes poll. docs/notify-suppression.md explains why no event is lost.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::feed::listener::ListenerSignals;
use crate::feed::suppression_locks::disturbance::{self, Holder, QueueCheck};
use crate::feed::suppression_locks::{LockWait, SuppressorSession};
use crate::infra::db::{Pool, QueryError};
use crate::infra::periodic::Periodic;

/// Time between two checks. At the highest rate of Postgres, the queue needs about 8 s to reach 30 %.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Number of checks from one look-up to the next. A look-up finds the programs that hold the locks of NOTIFY
/// suppression. While writers are denied the writer lock, or such a program is known, every check has a look-up.
const HOLDERS_CHECK_EVERY: u64 = 10;
/// Number of attempts to get the idle lock, 100 ms each. Idle nodes hold this lock in shared mode, and release it
/// during this time. If all attempts fail, the guard takes only the writer lock. Then idle nodes notice that writers
/// are denied the writer lock, and poll.
const IDLE_LOCK_WAITS: u32 = 10;
/// Number of attempts to get the writer lock in one check, 100 ms each. Writers that notify hold this lock in shared
/// mode. Each attempt waits for writers that have already notified, and other writers do not notify meanwhile.
const WRITER_LOCK_WAITS: u32 = 50;
/// The guard lets writers notify again when the used share of the queue falls below the limit times `CALM_SHARE`. This
/// second threshold is lower than the limit, so that the state does not change every second.
const CALM_SHARE: f64 = 0.5;

/// Protects one database if other programs fill the notification queue, or hold a lock of NOTIFY suppression.
pub(super) struct NotifyGuard {
    pub pool: Pool,
    /// The direct address of Postgres, for the Postgres sessions that hold locks. A pooler would share these sessions
    /// between its clients.
    pub url: SecretString,
    pub signals: Arc<ListenerSignals>,
    /// Used share of Postgres' notification queue above which writers must not notify, 0 to 1.
    pub limit: f64,
    /// The name of the database for log lines; `None`: the node serves a single database.
    pub database: Option<String>,
}

/// The guard's Postgres session for the idle lock and the writer lock. While the session holds the writer lock, writers
/// do not notify.
struct Suppression {
    session: SuppressorSession,
    has_idle_lock: bool,
    has_writer_lock: bool,
}

impl NotifyGuard {
    /// Runs a check every second until the shutdown.
    pub async fn run(self, stop: CancellationToken) {
        let mut periodic = Periodic::now(CHECK_INTERVAL, &stop);
        let (mut suppression, mut is_filling, mut known) = (None, false, Vec::new());
        let (mut has_failed, mut count) = (false, 0);
        while periodic.next_run().await {
            let check = match disturbance::check_queue(&self.pool).await {
                Ok(check) => check,
                Err(error) => {
                    tracing::debug!(%error, "could not check the notification queue");
                    continue;
                }
            };
            if check.is_refused {
                // Writers are denied the writer lock now, so they do not notify. An idle node would wait for the
                // missing notifications. So ask this node to end its idle state and to poll.
                self.signals.release_request.notify_one();
            }
            if check.is_refused || count % HOLDERS_CHECK_EVERY == 0 || !known.is_empty() {
                self.report_holders(&mut known).await;
            }
            count += 1;
            is_filling = self.is_queue_filling(check, is_filling).await;
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
                    tracing::debug!(%error, "could not suppress NOTIFY: writers go on notifying");
                }
                Some(Err(error)) => {
                    (suppression, has_failed) = (None, true);
                    tracing::error!(database = self.database, %error, "could not suppress NOTIFY: writers go on notifying");
                }
            }
        }
    }

    /// Whether the queue is so full that writers must not notify. `was_filling` is the result of the last check. Logs
    /// each change of the result.
    async fn is_queue_filling(&self, QueueCheck { queue_usage, .. }: QueueCheck, was_filling: bool) -> bool {
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
                tracing::debug!(%error, "could not look up the oldest transaction");
                None
            });
            tracing::error!(
                database = self.database,
                percent,
                oldest,
                "the notification queue of this cluster fills up because a listening session does not read: writers do not notify, and \
                 nodes poll every 50 ms; end that session (`vestnik doctor`)"
            );
        } else {
            suppressing.decrement(1.0);
            tracing::info!(
                database = self.database,
                percent,
                "the notification queue has room: writers notify again"
            );
        }
        is_filling
    }

    async fn oldest(&self) -> Result<Option<String>, QueryError> {
        disturbance::oldest_transaction(&*self.pool.get().await?).await
    }

    /// Takes the idle lock and the writer lock, so that writers do not notify. If a lock is still held by others, the
    /// next check continues the wait. A node that suppresses NOTIFY under load takes the same two locks.
    async fn suppress(&self, suppression: &mut Option<Suppression>) -> Result<(), QueryError> {
        let held = match suppression.take().filter(|held| !held.session.is_lost()) {
            Some(held) => held,
            None => Suppression {
                session: SuppressorSession::connect_with_trigger_key(&self.url).await?,
                has_idle_lock: false,
                has_writer_lock: false,
            },
        };
        let held = suppression.insert(held);
        for _ in 0..IDLE_LOCK_WAITS {
            if held.has_idle_lock || held.has_writer_lock {
                break;
            }
            // Ask only this node to release the lock, because NOTIFY may already fail. Every other node checks the
            // queue itself.
            self.signals.release_request.notify_one();
            held.has_idle_lock = held.session.wait_for_idle_lock().await? == LockWait::Held;
        }
        for _ in 0..WRITER_LOCK_WAITS {
            if held.has_writer_lock {
                break;
            }
            held.has_writer_lock = held.session.wait_for_writer_lock().await? == LockWait::Held;
        }
        Ok(())
    }

    /// Logs each program that holds a lock of NOTIFY suppression. A program is logged only once: `known` has the
    /// holders that were logged before.
    async fn report_holders(&self, known: &mut Vec<Holder>) {
        let holders = async { disturbance::holders(&*self.pool.get().await?).await };
        let holders = match holders.await {
            Ok(holders) => holders,
            Err(error) => return tracing::debug!(%error, "could not look up the holders of the locks"),
        };
        for Holder { pid, who, effect } in holders.iter().filter(|holder| !known.contains(holder)) {
            tracing::error!(
                database = self.database,
                pid,
                who,
                "a foreign session holds a lock of the nodes: {effect}; end it: select pg_terminate_backend({pid})"
            );
        }
        gauge!("vestnik_notify_locks_held_by_others").increment(holders.len() as f64 - known.len() as f64);
        *known = holders;
    }
}
