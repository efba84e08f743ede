//! Runs the durable sends of a node: enqueues deliveries for new events, sends them, and advances escalations. Every
//! node runs all of these tasks. Row locks in Postgres ensure that two nodes never do the same work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::infra::db::Pool;
use metrics::Label;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::channel::{ChatChannel, Claim, Outage, SendOutcome};
use super::choice::DigestRule;
use super::enqueue::{self, Enqueued};
use super::gauges::{self, database_label};
use super::next_state::is_last_refusal;
use super::queue::{self, Claimed, Rules};
use super::send_outcome::{self, Completion};
use super::{escalation, escalation_webhook, late_order, unattended_alarm};
use crate::delivery::shared_bot;
use crate::infra::backoff::Backoff;
use crate::infra::config::{Telegram, Webhook};
use crate::infra::db::{self, QueryError};
use crate::infra::periodic::Periodic;
use crate::sources::registry::Registry;
use crate::text::catalog;

/// The most sends of this node at the same time.
const SENDS_AT_ONCE: usize = 30;
/// The longest wait of an idle task for a signal. After this time, the task looks for work without a signal, because
/// other nodes send no signals.
const IDLE: Duration = Duration::from_secs(1);
/// The shortest time between two searches for new events, so that the events of a busy journal are enqueued in batches.
const ENQUEUE_SPACING: Duration = Duration::from_millis(50);
/// The number of attempts to save the outcome of a send. If all of them fail, the lease ends by itself, and the message
/// may be sent twice.
const COMPLETE_ATTEMPTS: u32 = 5;
/// The number of failed sends in a row, on this node, that counts as an outage. The next successful send then ends the
/// pauses of all failed deliveries.
const FAILURES_OF_ALL: u32 = 3;

/// The durable sends of a node. The fields are shared by all tasks.
pub struct Worker<C> {
    /// The connection pool for all SQL of the tasks.
    pub pool: Pool,
    /// The bot that sends messages to chats.
    pub client: C,
    /// The bot's settings.
    pub settings: Telegram,
    /// The settings of the webhook, which is the last escalation step.
    pub webhook: Webhook,
    /// The id of this node's row in `vestnik.vst_bot_node`.
    pub node: String,
    /// Signals that the feed has read new events.
    pub news: watch::Receiver<()>,
    /// Signals that a delivery was enqueued.
    pub enqueued: Arc<Notify>,
    /// The database's name, for the labels of metrics. `None`: the node serves only one database.
    pub database: Option<String>,
    /// The attached sources with their mappings, which translate rows of the journal.
    pub sources: Arc<Registry>,
}

impl<C: ChatChannel> Worker<C> {
    /// Runs all tasks until the shutdown. Sends that have begun are finished first.
    pub async fn run(self, stop: CancellationToken) {
        let worker = Arc::new(self);
        worker.warn_of_unused_texts().await;
        tokio::join!(
            worker.enqueue(&worker.enqueued, &stop),
            Arc::clone(&worker).send(&worker.enqueued, &stop),
            worker.advance(&worker.enqueued, &stop),
            worker.client.keep_probing(&stop),
            worker.tell_of_outages(&stop),
            escalation_webhook::run(&worker.pool, &worker.webhook, &stop),
            gauges::run(&worker.pool, worker.database.as_deref(), &stop),
        );
    }

    /// An operator can replace the bot's texts for one store, in a directory with the store's id. Logs a warning for
    /// each such directory whose store is not set up.
    async fn warn_of_unused_texts(&self) {
        const UNKNOWN: &str = "select unnest($1::text[]) except select id from vestnik.vst_store order by 1";
        let stores = catalog::stores_with_own_texts();
        if stores.is_empty() {
            return;
        }
        let unknown = db::with_timeout(async {
            let rows = self.pool.get().await?.query(UNKNOWN, &[&stores]).await?;
            Ok::<Vec<String>, QueryError>(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
        });
        match unknown.await {
            Ok(unknown) => {
                for store in unknown {
                    tracing::warn!(
                        store,
                        "the texts in this store's directory are not used: no such store is set up"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "the stores of the own texts were not looked up"),
        }
    }

    async fn enqueue(&self, enqueued: &Notify, stop: &CancellationToken) {
        let mut backoff = Backoff::new();
        let mut news = self.news.clone();
        loop {
            news.borrow_and_update();
            let pause = match enqueue::enqueue_batch(&self.pool, &self.sources, self.settings.digest_after).await {
                Ok(Enqueued::Batch) => {
                    enqueued.notify_one();
                    continue;
                }
                Ok(Enqueued::All | Enqueued::Elsewhere) => {
                    enqueued.notify_one();
                    backoff.reset();
                    ENQUEUE_SPACING
                }
                Err(error) => {
                    let pause = backoff.next_pause();
                    tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "deliveries could not be enqueued; the cursor is kept");
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                Ok(()) = news.changed() => {}
                () = tokio::time::sleep(IDLE) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn send(self: Arc<Self>, enqueued: &Notify, stop: &CancellationToken) {
        let rules = Rules {
            lease: self.settings.lease,
            deadline: self.settings.deadline,
            digest: DigestRule {
                threshold: self.settings.digest_threshold,
                that_fit: C::that_fit,
            },
            idle: IDLE,
            bot: Sha256::digest(self.client.token().expose_secret()).into(),
            node: self.node.clone(),
        };
        let failures = Arc::new(AtomicU32::new(0));
        let mut outage = self.client.outage();
        let mut sends = JoinSet::new();
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            if sends.len() >= SENDS_AT_ONCE {
                sends.join_next().await;
            }
            tokio::select! {
                _ = outage.wait_for(Option::is_none) => {}
                () = stop.cancelled() => break,
            }
            let wait = match queue::claim(&self.pool, &self.sources, &rules).await {
                Ok(Claimed::Work(claim)) => {
                    backoff.reset();
                    sends.spawn(Arc::clone(&self).carry(*claim, Arc::clone(&failures)));
                    continue;
                }
                Ok(Claimed::Empty) => continue,
                Ok(Claimed::Idle(wait)) => {
                    backoff.reset();
                    wait
                }
                Err(error) => {
                    let pause = backoff.next_pause();
                    tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "nothing can be claimed for sending");
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = enqueued.notified() => {}
                Some(_) = sends.join_next() => {}
                () = stop.cancelled() => {}
            }
        }
        while sends.join_next().await.is_some() {}
    }

    /// Sends the message of one claim, and saves the outcome. `failures` counts this node's failed sends since its last
    /// success.
    async fn carry(self: Arc<Self>, claim: Claim, failures: Arc<AtomicU32>) {
        let outcome = self.client.send(&claim, self.settings.deadline).await;
        count(&claim, &outcome);
        log(&claim, &outcome);
        if let SendOutcome::Stopped(why) = &outcome {
            let stopped = shared_bot::stop_bot(&self.pool, self.client.token().expose_secret(), why).await;
            stopped.unwrap_or_else(|error| tracing::warn!(%error, "could not save that the bot is stopped"));
        }
        self.complete(&claim, &outcome).await;
        match outcome {
            SendOutcome::Failed(_) => {
                failures.fetch_add(1, Ordering::Relaxed);
            }
            SendOutcome::Sent(_) if failures.swap(0, Ordering::Relaxed) >= FAILURES_OF_ALL => {
                match send_outcome::hurry(&self.pool).await {
                    Ok(()) => self.enqueued.notify_one(),
                    Err(error) => tracing::warn!(%error, "what failed before waits out its pauses"),
                }
            }
            _ => {}
        }
    }

    async fn complete(&self, claim: &Claim, outcome: &SendOutcome) {
        let mut backoff = Backoff::new();
        for _ in 0..COMPLETE_ATTEMPTS {
            match send_outcome::complete(&self.pool, claim, outcome).await {
                Ok(Completion::Saved(chats)) => {
                    if chats.is_any() {
                        self.enqueued.notify_one();
                    }
                    return;
                }
                Ok(Completion::Overtaken) => {
                    tracing::warn!(chat = claim.chat.0, "a send outlived its lease: another one counts");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, chat = claim.chat.0, "the outcome of a send is not saved yet");
                    tokio::time::sleep(backoff.next_pause()).await;
                }
            }
        }
    }

    /// Reports each outage of Telegram and its end: in the log, in a metric, and in `vestnik telegram status`.
    async fn tell_of_outages(&self, stop: &CancellationToken) {
        let mut outage = self.client.outage();
        let labels: Vec<Label> = database_label(self.database.as_deref()).collect();
        let mut lost: Option<Outage> = None;
        loop {
            let now = outage.borrow_and_update().clone();
            metrics::gauge!("vestnik_telegram_reached", labels.iter()).set(if now.is_none() { 1.0 } else { 0.0 });
            match (&lost, &now) {
                (None, Some(now)) => {
                    tracing::warn!(reason = now.reason, "Telegram is not reached: what is to be sent waits");
                }
                (Some(before), None) => {
                    let away_ms = before.since.elapsed().as_millis() as u64;
                    tracing::info!(away_ms, "Telegram is reached again");
                }
                _ => {}
            }
            if lost != now {
                let reason = now.as_ref().map(|now| now.reason.as_str());
                if let Err(error) = shared_bot::note(&self.pool, reason).await {
                    tracing::debug!(%error, "could not save the state of the connection to Telegram");
                }
            }
            lost = now;
            tokio::select! {
                changed = outage.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    async fn advance(&self, enqueued: &Notify, stop: &CancellationToken) {
        let mut periodic = Periodic::now(IDLE, stop);
        while periodic.next_run().await {
            match escalation::advance(&self.pool, &self.sources).await {
                Ok(0) => {}
                Ok(_) => enqueued.notify_one(),
                Err(error) => tracing::warn!(%error, "the escalations of unanswered orders could not be advanced"),
            }
            match late_order::report(&self.pool).await {
                Ok(0) => {}
                Ok(_) => enqueued.notify_one(),
                Err(error) => tracing::warn!(%error, "which orders are late is not known"),
            }
            match unattended_alarm::watch(&self.pool).await {
                Ok(0) => {}
                Ok(_) => enqueued.notify_one(),
                Err(error) => tracing::warn!(%error, "could not check which stores have a panel online"),
            }
        }
    }
}

/// Logs the outcome of a failed send. If Telegram refused the message, the log leaves out the reason, because the
/// reason may quote the message. The reason is saved with the delivery.
fn log(claim: &Claim, outcome: &SendOutcome) {
    let chat = claim.chat.0;
    match outcome {
        SendOutcome::Sent(_) | SendOutcome::MessageGone | SendOutcome::NotBegun => {}
        // Other code logs these outcomes, once for each chat or once for all chats.
        SendOutcome::Gone(_) | SendOutcome::Blocked { .. } | SendOutcome::NotReached(_) => {}
        SendOutcome::Throttled(pause) => {
            let pause_s = pause.as_secs();
            tracing::warn!(chat, lane = ?claim.lane, pause_s, "429 from Telegram: the chat is left alone");
        }
        SendOutcome::Migrated(_) => tracing::info!(chat, "a group has a new number"),
        SendOutcome::Refused(_) if is_last_refusal(claim) => {
            let deliveries = claim.work.items();
            tracing::error!(
                chat,
                ?deliveries,
                "Telegram refuses a message, also as plain text: it is a dead letter; `vestnik audit` has the reason"
            );
        }
        SendOutcome::Refused(_) => {
            let deliveries = claim.work.items();
            tracing::warn!(
                chat,
                ?deliveries,
                "Telegram refuses a message: it is tried again as plain text"
            );
        }
        SendOutcome::Stopped(why) => {
            tracing::error!(
                why,
                "the bot is stopped: nothing goes to Telegram until its token is let in again"
            );
        }
        SendOutcome::Failed(reason) => tracing::warn!(chat, reason, "a message was not sent yet"),
    }
}

fn count(claim: &Claim, outcome: &SendOutcome) {
    let name = match outcome {
        SendOutcome::Sent(_) => "sent",
        SendOutcome::MessageGone => "message_gone",
        SendOutcome::Throttled(_) => "throttled",
        SendOutcome::Gone(_) => "chat_gone",
        SendOutcome::Blocked { .. } => "blocked",
        SendOutcome::Migrated(_) => "migrated",
        SendOutcome::Refused(_) if is_last_refusal(claim) => "dead_lettered",
        SendOutcome::Refused(_) => "refused",
        SendOutcome::Stopped(_) => "stopped",
        SendOutcome::Failed(_) => "failed",
        SendOutcome::NotReached(_) => "not_reached",
        SendOutcome::NotBegun => "not_begun",
    };
    metrics::counter!("vestnik_telegram_sends_total", "outcome" => name).increment(1);
}
