//! Keeps the durable sends going: plans what came, sends what is planned, climbs where nobody answers. Every node runs
//! all of it; who does what is decided in Postgres.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::plan::{self, Planned};
use super::queue::{self, Claim, Claimed, Rules};
use super::settle::{self, Outcome, Settled};
use super::{escalation, figures, watch, webhook};
use crate::backoff::Backoff;
use crate::config::Telegram;
use crate::db::Pool;
use crate::poll;
use crate::sources::registry::Registry;
use crate::telegram::{Client, sender};

/// Sends of this node at once: what the bot may have on its way in all.
const SENDS_AT_ONCE: usize = 30;
/// The longest that an idle part waits before it looks again: another node may have planned.
const IDLE: Duration = Duration::from_secs(1);
/// Between two looks at what is new, so that a busy journal is planned in batches.
const PLAN_SPACING: Duration = Duration::from_millis(50);
/// Attempts to write a settlement down. After the last one the lease ends it, and the message may come twice.
const SETTLE_ATTEMPTS: u32 = 5;

/// The durable sends of a node.
pub struct Worker {
    /// For all of their SQL.
    pub pool: Pool,
    /// The bot.
    pub client: Client,
    /// Its settings.
    pub settings: Telegram,
    /// The feed has read something.
    pub news: Arc<Notify>,
    /// What the database is called, where the node serves several.
    pub database: Option<String>,
    /// What the rows of the journal mean.
    pub sources: Arc<Registry>,
}

impl Worker {
    /// Runs until the shutdown; a send that is under way ends first.
    pub async fn run(self, stop: CancellationToken) {
        let worker = Arc::new(self);
        let planned = Arc::new(Notify::new());
        tokio::join!(
            worker.plan(&planned, &stop),
            Arc::clone(&worker).send(&planned, &stop),
            worker.climb(&planned, &stop),
            webhook::run(&worker.pool, &stop),
            figures::run(&worker.pool, worker.database.as_deref(), &stop),
        );
    }

    async fn plan(&self, planned: &Notify, stop: &CancellationToken) {
        let mut backoff = Backoff::new();
        loop {
            let pause = match plan::plan(&self.pool, &self.sources, self.settings.stale).await {
                Ok(Planned::Batch) => {
                    planned.notify_one();
                    continue;
                }
                Ok(Planned::All | Planned::Elsewhere) => {
                    planned.notify_one();
                    backoff.reset();
                    PLAN_SPACING
                }
                Err(error) => {
                    let pause = backoff.next_pause();
                    tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "planning stopped; its position is kept");
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = self.news.notified() => {}
                () = tokio::time::sleep(IDLE) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn send(self: Arc<Self>, planned: &Notify, stop: &CancellationToken) {
        let rules = Rules {
            lease: self.settings.lease,
            deadline: self.settings.deadline,
            digest_above: self.settings.digest_above,
            idle: IDLE,
            bot: Sha256::digest(self.client.token().expose_secret()).into(),
        };
        let mut sends = JoinSet::new();
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            if sends.len() >= SENDS_AT_ONCE {
                sends.join_next().await;
            }
            let wait = match queue::claim(&self.pool, &self.sources, &rules).await {
                Ok(Claimed::Work(claim)) => {
                    backoff.reset();
                    sends.spawn(Arc::clone(&self).carry(*claim));
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
                () = planned.notified() => {}
                Some(_) = sends.join_next() => {}
                () = stop.cancelled() => {}
            }
        }
        while sends.join_next().await.is_some() {}
    }

    /// One send, and its settlement.
    async fn carry(self: Arc<Self>, claim: Claim) {
        let outcome = sender::send(&self.client, &claim, self.settings.deadline).await;
        count(&outcome);
        say(&claim, &outcome);
        if let Outcome::Stopped(why) = &outcome {
            let stopped = poll::stop_bot(&self.pool, self.client.token().expose_secret(), why).await;
            stopped.unwrap_or_else(|error| tracing::warn!(%error, "that the bot stopped was not stored"));
        }
        let mut backoff = Backoff::new();
        for _ in 0..SETTLE_ATTEMPTS {
            match settle::settle(&self.pool, &claim, &outcome).await {
                Ok(Settled::Kept) => return,
                Ok(Settled::Overtaken) => {
                    tracing::warn!(chat = claim.chat.0, "a send outlived its lease: another one counts");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, chat = claim.chat.0, "a send was not settled yet");
                    tokio::time::sleep(backoff.next_pause()).await;
                }
            }
        }
    }

    async fn climb(&self, planned: &Notify, stop: &CancellationToken) {
        loop {
            match escalation::climb(&self.pool, &self.sources).await {
                Ok(0) => {}
                Ok(_) => planned.notify_one(),
                Err(error) => tracing::warn!(%error, "the ladders of unanswered orders could not be climbed"),
            }
            match watch::watch(&self.pool).await {
                Ok(0) => {}
                Ok(_) => planned.notify_one(),
                Err(error) => tracing::warn!(%error, "whether anybody could be rung is not known"),
            }
            tokio::select! {
                () = tokio::time::sleep(IDLE) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

/// What went wrong. Telegram's own words of a refusal may repeat a part of the message: they are kept with the delivery, not
/// in the log.
fn say(claim: &Claim, outcome: &Outcome) {
    let chat = claim.chat.0;
    match outcome {
        Outcome::Sent(_) | Outcome::MessageGone | Outcome::NotBegun => {}
        Outcome::Throttled(pause) => {
            let pause_s = pause.as_secs();
            tracing::warn!(chat, pause_s, "429 from Telegram: the chat is left alone");
        }
        Outcome::Disabled(why) => tracing::warn!(chat, why, "a chat takes no messages any more"),
        Outcome::Migrated(_) => tracing::info!(chat, "a group has a new number"),
        Outcome::Refused(_) => {
            tracing::error!(chat, "Telegram refuses a message for good: `vestnik audit` says why");
        }
        Outcome::Stopped(why) => {
            tracing::error!(
                why,
                "the bot is stopped: nothing goes to Telegram until its token is let in again"
            );
        }
        Outcome::Failed { reason, pause } => {
            let pause_s = pause.as_secs();
            tracing::warn!(chat, reason, pause_s, "a message was not sent yet");
        }
    }
}

fn count(outcome: &Outcome) {
    let name = match outcome {
        Outcome::Sent(_) => "sent",
        Outcome::MessageGone => "message_gone",
        Outcome::Throttled(_) => "throttled",
        Outcome::Disabled(_) => "disabled",
        Outcome::Migrated(_) => "migrated",
        Outcome::Refused(_) => "refused",
        Outcome::Stopped(_) => "stopped",
        Outcome::Failed { .. } => "failed",
        Outcome::NotBegun => "not_begun",
    };
    metrics::counter!("vestnik_telegram_sends_total", "outcome" => name).increment(1);
}
