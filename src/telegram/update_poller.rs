//! Polls Telegram for texts and presses: one long poll for all nodes. An update is saved before Telegram may drop it,
//! and deleted after it was handled. So an update may repeat, but none is lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use teloxide::payloads::{GetUpdates, GetUpdatesSetters as _};
use teloxide::types::AllowedUpdate;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::api::Problem;
use super::api::Unreachable;
use super::bot::Bot;
use super::callback_query;
use super::refusal::{Meaning, Request};
use super::updates::Updates;
use crate::delivery::channel::ChatChannel as _;
use crate::delivery::shared_bot::{self, Lease, Update};
use crate::infra::backoff::Backoff;
use crate::infra::db::QueryError;

/// How long Telegram keeps a poll open without updates, seconds.
const POLL_S: u32 = 10;
/// The deadline of a poll; after it, the connection is half open.
const POLL_DEADLINE: Duration = Duration::from_secs(15);
/// The time between two checks whether another node still polls.
const ELSEWHERE_PAUSE: Duration = Duration::from_secs(1);
/// The pause after a first 409: an abandoned poll of this bot may still have been open. The pause after a further one:
/// another program polls with the same token.
const FIRST_CONFLICT_PAUSE: Duration = Duration::from_millis(500);
const CONFLICT_PAUSE: Duration = Duration::from_secs(5);
/// The time between two log messages about a conflict.
const CONFLICT_SILENCE: Duration = Duration::from_secs(10 * 60);
/// The time between two checks whether Telegram accepts a stopped bot's token again.
const STOPPED_PAUSE: Duration = Duration::from_secs(60);
/// The time between two checks whether there is room for more updates.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// The most updates of one poll, and the most updates of a previous node that are handled at once.
const BATCH_UPDATES: u8 = 100;
const BATCH_LEFT_OVER: i64 = 1000;
/// The longest pause that Telegram may ask for; it is cut to this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long presses are answered without Postgres: no other node can have taken the lease yet.
const ALONE_FOR: Duration = Duration::from_secs(5 * 60);
/// The time between two polls without Postgres, and how long Telegram keeps each of them open.
const AWAY_PAUSE: Duration = Duration::from_secs(1);
/// How long a shutdown waits for updates that are being handled.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// The result of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Polled {
    /// The poll succeeded, with or without updates.
    Ours,
    /// Too many updates wait in this node.
    Full,
    /// Another node polls.
    Elsewhere,
    /// Another program polls with the same token.
    Conflict,
    /// Telegram refused the token.
    Stopped,
}

/// Why a poll failed.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Failed(#[from] QueryError),
    #[error("Telegram's updates cannot be read: {0}")]
    Telegram(String),
    #[error("Telegram wants no poll for {} s", .0.as_secs())]
    Throttled(Duration),
}

/// The updates of a response, or the result of a poll without any.
enum PollOutcome {
    Updates(Vec<Update>),
    Nothing(Polled),
}

/// The poller's state between two polls.
#[derive(Default)]
struct Memory {
    last: Option<Polled>,
    conflict_logged_at: Option<Instant>,
    /// The next update, and when this node last knew that it has the lease.
    ours: Option<(i64, Instant)>,
    /// Whether a previous node may have left updates that were not handled.
    is_left_over: bool,
    /// Button presses that were answered with "Postgres is not reached".
    answered: HashSet<i64>,
}

impl Bot {
    /// Polls until the shutdown, and retries after errors. Starts after the node's first heartbeat.
    pub async fn run(self, mut beating: watch::Receiver<bool>, stop: CancellationToken) {
        let bot = Arc::new(self);
        let updates = Updates::new(Arc::clone(&bot));
        let mut memory = Memory::default();
        let mut backoff = Backoff::new();
        tokio::select! {
            _ = beating.wait_for(|beating| *beating) => {}
            () = stop.cancelled() => {}
        }
        while !stop.is_cancelled() {
            let polled = tokio::select! {
                polled = bot.poll(&mut memory, &updates) => polled,
                () = stop.cancelled() => break,
            };
            let pause = match polled {
                Ok(polled) => {
                    backoff.reset();
                    let pause = memory.pause(polled);
                    memory.log(polled);
                    pause
                }
                Err(error) => {
                    let pause = match &error {
                        PollError::Throttled(pause) => *pause,
                        // A short pause, because presses during the outage need an answer.
                        PollError::Failed(_) => backoff.next_pause().min(AWAY_PAUSE),
                        PollError::Telegram(_) => backoff.next_pause(),
                    };
                    tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "a poll of Telegram failed");
                    pause
                }
            };
            tokio::select! {
                () = bot.rest(pause) => {}
                () = stop.cancelled() => break,
            }
        }
        if timeout(STOP_DEADLINE, updates.stop()).await.is_err() {
            tracing::debug!("what is being dealt with is left to the next node");
        }
        if let Err(error) = shared_bot::release(&bot.pool, &bot.node).await {
            tracing::debug!(%error, "that this node polls no more is found out by itself");
        }
    }

    /// Waits for the pause, and for the end of an outage: polling resumes as soon as Telegram is reached.
    async fn rest(&self, pause: Duration) {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        self.client.until_reached().await;
    }

    /// Asks Telegram for the bot's name. A new token, or one that is accepted again, starts a stopped bot.
    async fn prove_token(&self) -> Result<(), QueryError> {
        match self.client.name().await {
            Ok(name) => {
                shared_bot::start_bot(&self.pool, self.client.token().expose_secret()).await?;
                let _ = self.name.set(name);
                let client = self.client.clone();
                // Polling need not wait for the menu.
                tokio::spawn(async move {
                    if let Err(error) = client.set_menu().await {
                        tracing::debug!(%error, "the bot's menu was not set");
                    }
                });
                Ok(())
            }
            Err(error @ Unreachable::Token) => self.stop(&error.to_string()).await,
            Err(error) => {
                tracing::warn!(%error, "the bot's token is not proven yet");
                Ok(())
            }
        }
    }

    async fn stop(&self, why: &str) -> Result<(), QueryError> {
        shared_bot::stop_bot(&self.pool, self.client.token().expose_secret(), why).await
    }

    async fn poll(&self, memory: &mut Memory, updates: &Updates) -> Result<Polled, PollError> {
        if self.name().is_none() || memory.last == Some(Polled::Stopped) {
            self.prove_token().await?;
        }
        if updates.is_full() {
            return Ok(Polled::Full);
        }
        let (next_update, seconds) = match shared_bot::lease(&self.pool, &self.node).await {
            Ok(Lease::Ours {
                next_update,
                is_new: true,
            }) => {
                updates.handle_all(shared_bot::left_over(&self.pool, BATCH_LEFT_OVER).await?);
                // The first poll returns at once, to show that Telegram responds.
                (next_update, 0)
            }
            Ok(Lease::Ours { next_update, .. }) => (next_update, POLL_S),
            Ok(Lease::Elsewhere) => return Ok(Polled::Elsewhere),
            Ok(Lease::Stopped) => return Ok(Polled::Stopped),
            Err(error) => {
                self.answer_that_postgres_is_away(memory).await;
                return Err(error.into());
            }
        };
        if memory.is_left_over {
            let left = shared_bot::left_over(&self.pool, BATCH_LEFT_OVER).await?;
            memory.is_left_over = left.len() as i64 == BATCH_LEFT_OVER;
            updates.handle_all(left);
        }
        memory.ours = Some((next_update, Instant::now()));
        memory.answered.clear();
        let came = match self.request(next_update, seconds).await? {
            PollOutcome::Updates(came) => came,
            // After a long interruption, another node of this bot may poll.
            PollOutcome::Nothing(Polled::Conflict) => match shared_bot::lease(&self.pool, &self.node).await? {
                Lease::Elsewhere => return Ok(Polled::Elsewhere),
                _ => {
                    metrics::counter!("vestnik_telegram_conflicts_total").increment(1);
                    shared_bot::note_conflict(&self.pool).await?;
                    return Ok(Polled::Conflict);
                }
            },
            PollOutcome::Nothing(polled) => return Ok(polled),
        };
        let next_update = came.iter().map(|update| update.id + 1).max().unwrap_or(next_update);
        let taken = match shared_bot::save_updates(&self.pool, &self.node, next_update, &came).await {
            Ok(taken) => taken,
            Err(error) => {
                self.answer_presses(&came, memory);
                return Err(error.into());
            }
        };
        if !taken {
            return Ok(Polled::Elsewhere);
        }
        updates.handle_all(came);
        Ok(Polled::Ours)
    }

    async fn request(&self, next_update: i64, seconds: u32) -> Result<PollOutcome, PollError> {
        let request = GetUpdates::new()
            .offset(i32::try_from(next_update).unwrap_or(0))
            .timeout(seconds)
            .limit(BATCH_UPDATES)
            .allowed_updates([
                AllowedUpdate::Message,
                AllowedUpdate::ChannelPost,
                AllowedUpdate::CallbackQuery,
                AllowedUpdate::MyChatMember,
            ]);
        let answer = tokio::select! {
            answer = self.client.call(&request, POLL_DEADLINE) => answer,
            // An open poll from before an outage gets no response.
            () = self.client.reached_again() => return Ok(PollOutcome::Nothing(Polled::Ours)),
        };
        match answer {
            Ok(updates) => read(&updates).map(PollOutcome::Updates),
            Err(problem) if problem.is_token() => {
                self.stop("Telegram does not know the bot's token").await?;
                Ok(PollOutcome::Nothing(Polled::Stopped))
            }
            Err(Problem::Refused(refusal)) => match refusal.meaning(Request::Message) {
                Meaning::Conflict => Ok(PollOutcome::Nothing(Polled::Conflict)),
                Meaning::TooMany(pause) => Err(PollError::Throttled(pause.min(LONGEST_WAIT))),
                _ => Err(PollError::Telegram(refusal.description)),
            },
            Err(Problem::NoAnswer(reason)) => {
                self.client.is_reached().await;
                Err(PollError::Telegram(reason))
            }
        }
    }

    /// Answers presses while Postgres is not reached, as long as Telegram shows an answer. Telegram keeps the presses,
    /// and the bot handles them when Postgres is back.
    async fn answer_that_postgres_is_away(&self, memory: &mut Memory) {
        let Some((next_update, _)) = memory.ours.filter(|(_, known)| known.elapsed() < ALONE_FOR) else {
            return;
        };
        if let Ok(PollOutcome::Updates(came)) = self.request(next_update, AWAY_PAUSE.as_secs() as u32).await {
            self.answer_presses(&came, memory);
        }
    }

    fn answer_presses(&self, came: &[Update], memory: &mut Memory) {
        for update in came {
            if memory.answered.insert(update.id) {
                callback_query::later(self, &update.body);
            }
        }
    }
}

/// Reads the updates of a response; only the id of each is parsed here. An update without an id is skipped, so that it
/// does not block later ones.
fn read(updates: &RawValue) -> Result<Vec<Update>, PollError> {
    #[derive(Deserialize)]
    struct Numbered {
        update_id: i64,
    }
    let not_updates = |_| PollError::Telegram("an answer that is not the Bot API's".into());
    let updates: Vec<&RawValue> = serde_json::from_str(updates.get()).map_err(not_updates)?;
    let read = |update: &&RawValue| {
        let body = update.get();
        let numbered = serde_json::from_str::<Numbered>(body)
            .inspect_err(|error| tracing::warn!(%error, "an update has no number"))
            .ok()?;
        Some(Update {
            id: numbered.update_id,
            body: body.to_owned(),
        })
    };
    let read: Vec<Update> = updates.iter().filter_map(read).collect();
    // Without any id the poll's position cannot advance, so wait as after other errors.
    if read.is_empty() && !updates.is_empty() {
        return Err(PollError::Telegram("updates without numbers".into()));
    }
    Ok(read)
}

impl Memory {
    /// The pause before the next poll.
    fn pause(&self, polled: Polled) -> Duration {
        match polled {
            Polled::Ours => Duration::ZERO,
            Polled::Full => FULL_PAUSE,
            Polled::Elsewhere => ELSEWHERE_PAUSE,
            Polled::Conflict if self.last != Some(Polled::Conflict) => FIRST_CONFLICT_PAUSE,
            Polled::Conflict => CONFLICT_PAUSE,
            Polled::Stopped => STOPPED_PAUSE,
        }
    }

    /// Logs a changed result. Two programs that compete for the poll are logged once in a while, not each time.
    fn log(&mut self, polled: Polled) {
        if polled == Polled::Conflict {
            if self
                .conflict_logged_at
                .is_none_or(|logged_at| logged_at.elapsed() > CONFLICT_SILENCE)
            {
                log(polled);
                self.conflict_logged_at = Some(Instant::now());
            }
        } else if self.last != Some(polled) && !(polled == Polled::Ours && self.last == Some(Polled::Conflict)) {
            log(polled);
        }
        self.last = Some(polled);
    }
}

fn log(polled: Polled) {
    match polled {
        Polled::Ours => tracing::info!("this node polls Telegram for all nodes"),
        Polled::Full => tracing::warn!("updates arrive faster than they can be handled"),
        Polled::Elsewhere => tracing::info!("another node polls Telegram"),
        Polled::Conflict => tracing::warn!(
            "409 from Telegram: another program polls with this bot's token, or a webhook is set for it, and receives the \
             button presses; stop it, or give each program its own bot"
        ),
        Polled::Stopped => {
            tracing::error!("the bot is stopped because Telegram does not know its token: check telegram.token");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_updates_that_cannot_all_be_read_those_that_can_are() {
        let of = |text: &str| read(&RawValue::from_string(text.to_owned()).unwrap());
        let deep = "[".repeat(300) + &"]".repeat(300);
        let updates = format!(
            r#"[{{"update_id":"seven","message":{{}}}},{{"update_id":8,"unheard_of":{{}}}},null,
                {{"update_id":9,"message":{deep}}},{{"update_id":10,"message":{{"n":1e400}}}}]"#
        );
        let ids: Vec<i64> = of(&updates).unwrap().iter().map(|update| update.id).collect();
        assert_eq!(ids, [8, 9, 10]);
        assert!(of("[]").unwrap().is_empty());
        assert!(of(r#"[{"update_id":"seven"}]"#).is_err() && of("{}").is_err());
    }
}
