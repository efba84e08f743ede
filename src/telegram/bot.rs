//! Hears what people write to the bot and which buttons they press: one long poll for the whole fleet, under a lease in
//! Postgres. An update is dealt with before its number is stored, so a crash repeats it rather than loses it, and every
//! one of them may be repeated.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use teloxide::payloads::GetUpdatesSetters as _;
use teloxide::prelude::Requester as _;
use teloxide::types::{AllowedUpdate, ChatMemberUpdated, Update, UpdateKind};
use teloxide::{ApiError, RequestError};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::client::{Client, Unreachable, is_token, reason};
use super::command::Commands;
use super::press;
use crate::backoff::Backoff;
use crate::db::{Failed, Pool};
use crate::link;
use crate::poll::{self, Lease};
use crate::sources::registry::Registry;

/// How long Telegram keeps a poll open while nothing comes, seconds.
const POLL_S: u32 = 10;
/// How long a poll may take in all: then the connection is half open.
const POLL_DEADLINE: Duration = Duration::from_secs(20);
/// How long the lease of the poll holds: longer than a poll and what follows it.
const LEASE: Duration = Duration::from_secs(40);
/// Between two looks at whether another node still polls.
const ELSEWHERE_PAUSE: Duration = Duration::from_secs(2);
/// After a 409: another program polls with the same token, which is an administrator's mistake and takes a while.
const CONFLICT_PAUSE: Duration = Duration::from_secs(5);
/// Between two times that it is said.
const CONFLICT_SILENCE: Duration = Duration::from_secs(10 * 60);
/// Between two looks at whether a stopped bot's token is let in again.
const STOPPED_PAUSE: Duration = Duration::from_secs(60);
/// Updates that may be asked for at once.
const BATCH_UPDATES: u8 = 100;
/// The longest that Telegram is believed when it wants no poll.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Attempts to deal with an update. One that cannot be dealt with must not keep those behind it for ever.
const ATTEMPTS: u32 = 3;

/// The bot's ear.
pub struct Bot {
    /// For all of its SQL.
    pub pool: Pool,
    /// The bot.
    pub client: Client,
    /// What the rows of the journal mean.
    pub sources: Arc<Registry>,
}

/// How a look at the updates went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Polled {
    /// Updates were dealt with, or none came.
    Ours,
    /// Another node polls.
    Elsewhere,
    /// Another program polls with our token.
    Conflict,
    /// The token is not let in.
    Stopped,
}

/// Why it did not go.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error("Telegram's updates cannot be read: {0}")]
    Telegram(String),
    #[error("Telegram wants no poll for {} s", .0.as_secs())]
    Throttled(Duration),
}

/// What came, or what to make of it that nothing did.
enum Asked {
    Updates(Vec<Update>),
    Nothing(Polled),
}

/// What a node remembers from poll to poll.
struct Memory {
    node: String,
    /// The bot's name, once Telegram has said who we are.
    name: Option<String>,
    /// The update that could not be dealt with, and how often it was tried.
    failed: (u32, u32),
    last: Option<Polled>,
    conflict_told: Option<Instant>,
}

impl Bot {
    /// Polls until the shutdown, coming back by itself.
    pub async fn run(self, stop: CancellationToken) {
        let mut memory = Memory {
            node: format!("{:016x}", fastrand::u64(..)),
            name: None,
            failed: (0, 0),
            last: None,
            conflict_told: None,
        };
        let mut backoff = Backoff::new();
        loop {
            let polled = tokio::select! {
                polled = self.poll(&mut memory) => polled,
                () = stop.cancelled() => break,
            };
            let pause = match polled {
                Ok(polled) => {
                    backoff.reset();
                    memory.tell(polled);
                    match polled {
                        Polled::Ours => continue,
                        Polled::Elsewhere => ELSEWHERE_PAUSE,
                        Polled::Conflict => CONFLICT_PAUSE,
                        Polled::Stopped => STOPPED_PAUSE,
                    }
                }
                Err(error) => {
                    let pause = match &error {
                        PollError::Throttled(pause) => *pause,
                        _ => backoff.next_pause(),
                    };
                    tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "the bot hears nothing for now");
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => break,
            }
        }
        if let Err(error) = poll::release(&self.pool, &memory.node).await {
            tracing::debug!(%error, "the lease of the poll ends by itself");
        }
    }

    /// Asks Telegram who we are: a new token, or one that is let in again, starts a stopped bot. The bot's name, where
    /// Telegram tells it.
    async fn prove_token(&self) -> Result<Option<String>, Failed> {
        match self.client.name().await {
            Ok(name) => poll::start_bot(&self.pool, self.client.token.expose_secret())
                .await
                .map(|()| Some(name)),
            Err(error @ Unreachable::Token) => self.stop(&error.to_string()).await.map(|()| None),
            Err(error) => {
                tracing::warn!(%error, "the bot's token is not proven yet");
                Ok(None)
            }
        }
    }

    async fn stop(&self, why: &str) -> Result<(), Failed> {
        poll::stop_bot(&self.pool, self.client.token.expose_secret(), why).await
    }

    async fn poll(&self, memory: &mut Memory) -> Result<Polled, PollError> {
        if memory.name.is_none() || memory.last == Some(Polled::Stopped) {
            memory.name = self.prove_token().await?.or(memory.name.take());
        }
        let next_update = match poll::lease(&self.pool, &memory.node, LEASE).await? {
            Lease::Ours { next_update } => next_update,
            Lease::Elsewhere => return Ok(Polled::Elsewhere),
            Lease::Stopped => return Ok(Polled::Stopped),
        };
        let updates = match self.ask(next_update).await? {
            Asked::Updates(updates) => updates,
            // We may have been away for so long that another node of ours polls.
            Asked::Nothing(Polled::Conflict) => match poll::lease(&self.pool, &memory.node, LEASE).await? {
                Lease::Elsewhere => return Ok(Polled::Elsewhere),
                _ => return Ok(Polled::Conflict),
            },
            Asked::Nothing(polled) => return Ok(polled),
        };
        for update in &updates {
            self.deal_with(update, memory).await?;
            let next_update = i64::from(update.id.0) + 1;
            if !poll::dealt_with(&self.pool, &memory.node, next_update, LEASE).await? {
                return Ok(Polled::Elsewhere);
            }
        }
        Ok(Polled::Ours)
    }

    async fn ask(&self, next_update: i64) -> Result<Asked, PollError> {
        let asked = self
            .client
            .bot
            .get_updates()
            .offset(i32::try_from(next_update).unwrap_or(0))
            .timeout(POLL_S)
            .limit(BATCH_UPDATES)
            .allowed_updates([
                AllowedUpdate::Message,
                AllowedUpdate::CallbackQuery,
                AllowedUpdate::MyChatMember,
            ]);
        match timeout(POLL_DEADLINE, asked).await {
            Ok(Ok(updates)) => Ok(Asked::Updates(updates)),
            Ok(Err(error)) if is_token(&error) => {
                self.stop("Telegram does not know the bot's token").await?;
                Ok(Asked::Nothing(Polled::Stopped))
            }
            Ok(Err(RequestError::Api(error))) if is_conflict(&error) => Ok(Asked::Nothing(Polled::Conflict)),
            Ok(Err(RequestError::RetryAfter(seconds))) => Err(PollError::Throttled(
                Duration::from_secs(seconds.seconds().into()).min(LONGEST_WAIT),
            )),
            // One of them cannot be read at all: the others can.
            Ok(Err(RequestError::InvalidJson { raw, .. })) if readable(&raw).is_some() => {
                Ok(Asked::Updates(readable(&raw).unwrap_or_default()))
            }
            Ok(Err(error)) => Err(PollError::Telegram(reason(&error))),
            Err(_) => Err(PollError::Telegram("no answer in time".into())),
        }
    }

    /// Deals with an update, or gives it up: an error is only returned where trying again may help.
    async fn deal_with(&self, update: &Update, memory: &mut Memory) -> Result<(), Failed> {
        let Err(error) = self.hear(update, memory.name.as_deref()).await else {
            return Ok(());
        };
        let tries = match memory.failed {
            (id, tries) if id == update.id.0 => tries + 1,
            _ => 1,
        };
        memory.failed = (update.id.0, tries);
        if error.may_pass() && tries < ATTEMPTS {
            return Err(error);
        }
        metrics::counter!("vestnik_telegram_updates_given_up_total").increment(1);
        tracing::error!(%error, update = update.id.0, tries, "what somebody wrote or pressed was given up");
        if let UpdateKind::CallbackQuery(query) = &update.kind {
            press::failed(&self.client, query).await;
        }
        Ok(())
    }

    async fn hear(&self, update: &Update, name: Option<&str>) -> Result<(), Failed> {
        let (pool, client) = (&self.pool, &self.client);
        match &update.kind {
            UpdateKind::Message(message) => Commands { pool, client, name }.obey(message).await,
            UpdateKind::CallbackQuery(query) => press::press(pool, &*self.sources.loaded(pool).await?, client, query).await,
            UpdateKind::MyChatMember(change) => self.membership(change).await,
            _ => Ok(()),
        }
    }

    /// The bot was thrown out or blocked, or is let in again.
    async fn membership(&self, change: &ChatMemberUpdated) -> Result<(), Failed> {
        const OUT: &str = "the bot was blocked, or removed from the chat";
        let chat = change.chat.id.0;
        if change.new_chat_member.kind.is_present() {
            link::revive(&self.pool, chat).await
        } else {
            link::disable(&self.pool, chat, OUT).await
        }
    }
}

fn is_conflict(error: &ApiError) -> bool {
    *error == ApiError::CantGetUpdates || error.to_string().starts_with("Conflict")
}

/// The updates of an answer that as a whole is not what the Bot API answers; `None`: there are none that can be read.
fn readable(answer: &str) -> Option<Vec<Update>> {
    let answer: serde_json::Value = serde_json::from_str(answer).ok()?;
    let updates = answer.get("result")?.as_array()?;
    let read = |update: &serde_json::Value| {
        serde_json::from_value(update.clone()).unwrap_or_else(|error| {
            tracing::warn!(%error, "an update cannot be read");
            None
        })
    };
    let read: Vec<Update> = updates.iter().filter_map(read).collect();
    // Where none can be, nothing moves the poll on before the next one comes: it waits, as for any other answer.
    (!read.is_empty()).then_some(read)
}

impl Memory {
    /// Says what has changed. Two programs that take the poll from each other are told of once in a while, not each time.
    fn tell(&mut self, polled: Polled) {
        if polled == Polled::Conflict {
            if self.conflict_told.is_none_or(|told| told.elapsed() > CONFLICT_SILENCE) {
                tell(polled);
                self.conflict_told = Some(Instant::now());
            }
        } else if self.last != Some(polled) && !(polled == Polled::Ours && self.last == Some(Polled::Conflict)) {
            tell(polled);
        }
        self.last = Some(polled);
    }
}

fn tell(polled: Polled) {
    match polled {
        Polled::Ours => tracing::info!("this node hears the bot for all"),
        Polled::Elsewhere => tracing::info!("another node hears the bot"),
        Polled::Conflict => tracing::warn!(
            "409 from Telegram: another program polls with this bot's token, or a webhook is set for it, and takes what \
             people press; end that, or give each its own bot"
        ),
        Polled::Stopped => {
            tracing::error!("the bot is stopped, for Telegram does not know its token: check telegram.token");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_updates_that_cannot_all_be_read_those_that_can_are() {
        let answer = r#"{"ok":true,"result":[{"update_id":"seven","message":{}},{"update_id":8,"unheard_of":{}},
            {"update_id":99999999999,"message":{}},null,{"update_id":9,"message":{"strange":1}}]}"#;
        let ids: Vec<u32> = readable(answer).unwrap().iter().map(|update| update.id.0).collect();
        assert_eq!(ids, [8, 9]);
        assert!(readable(r#"{"ok":true,"result":[{"update_id":"seven"}]}"#).is_none());
        assert!(readable("<html>").is_none() && readable(r#"{"ok":true,"result":{}}"#).is_none());
    }
}
