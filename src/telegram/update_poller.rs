//! Polls Telegram for updates: texts that people write, and presses of buttons. One node polls for all nodes of a
//! database. An update is saved before Telegram may drop it, and deleted after a node has handled it. So an update may
//! be handled twice, but no update is lost.

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
use super::refusal::{RefusalKind, Request};
use super::updates::Updates;
use crate::delivery::channel::ChatChannel as _;
use crate::delivery::shared_bot::{self, Lease, Update};
use crate::infra::backoff::Backoff;
use crate::infra::db::QueryError;

/// How long Telegram may keep a poll open while there are no updates, seconds.
const POLL_S: u32 = 10;
/// The deadline of a poll. If no response arrives before the deadline, the connection counts as broken.
const POLL_DEADLINE: Duration = Duration::from_secs(15);
/// If another node polls, this is the time between two attempts to take over polling.
const ELSEWHERE_PAUSE: Duration = Duration::from_secs(1);
/// The pause after the first status 409 (conflict). The cause may be an earlier poll of this node that is still open at
/// Telegram.
const FIRST_CONFLICT_PAUSE: Duration = Duration::from_millis(500);
/// The pause after each further status 409 (conflict) in a row. The cause is then another program that polls with the
/// same token.
const CONFLICT_PAUSE: Duration = Duration::from_secs(5);
/// The shortest time between two log messages about conflicts.
const CONFLICT_SILENCE: Duration = Duration::from_secs(10 * 60);
/// The time between two checks whether Telegram accepts the token of a stopped bot.
const STOPPED_PAUSE: Duration = Duration::from_secs(60);
/// If this node already has too many unhandled updates, this is the time between two checks whether it can take more.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// The most updates that one poll returns.
const BATCH_UPDATES: u8 = 100;
/// Maximum number of saved updates that this node reads at once when it takes over polling from another node.
const BATCH_LEFT_OVER: i64 = 1000;
/// The longest pause between two polls, even if Telegram asks for a longer pause.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long this node still answers presses of buttons after it has lost the connection to Postgres. After this time it
/// stops polling, because another node may have taken the right to poll.
const ALONE_FOR: Duration = Duration::from_secs(5 * 60);
/// The longest pause between two polls while this node does not reach Postgres. Each of these polls stays open at
/// Telegram for at most this time, too.
const AWAY_PAUSE: Duration = Duration::from_secs(1);
/// How long a shutdown waits until updates under way are handled.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// The outcome of one poll by this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Polled {
    /// The poll succeeded, with or without updates.
    Ours,
    /// This node did not poll, because it already has too many unhandled updates.
    Full,
    /// This node did not poll, because another node has the right to poll.
    Elsewhere,
    /// Telegram answered 409 (conflict): another program polls with the same token, or the bot has a webhook.
    Conflict,
    /// Telegram refuses the token, so the bot is stopped.
    Stopped,
}

/// The reason why a poll failed.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Failed(#[from] QueryError),
    #[error("Telegram's updates cannot be read: {0}")]
    Telegram(String),
    #[error("Telegram wants no poll for {} s", .0.as_secs())]
    Throttled(Duration),
}

/// The result of a request for updates: the updates, or the reason why there are none.
enum PollOutcome {
    Updates(Vec<Update>),
    Nothing(Polled),
}

/// What the poller remembers between two polls.
#[derive(Default)]
struct Memory {
    last: Option<Polled>,
    conflict_logged_at: Option<Instant>,
    /// The id of the next update, and the last time at which this node surely held the lease (the right to poll).
    /// `None`: this node never held it.
    ours: Option<(i64, Instant)>,
    /// Whether Postgres may still have updates that another node saved, but did not handle.
    is_left_over: bool,
    /// The ids of the presses of buttons that this node has answered during an outage of Postgres. Each press gets only
    /// one such answer.
    answered: HashSet<i64>,
}

impl Bot {
    /// Polls until the shutdown, and retries after errors. Before the first poll, waits until the first heartbeat of
    /// this node is saved in Postgres.
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
                        // Keep the pause short, because presses need an answer during an outage of Postgres.
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

    /// Waits for this pause. During an outage of Telegram, also waits for the end of the outage.
    async fn rest(&self, pause: Duration) {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        self.client.until_reached().await;
    }

    /// Checks the token by a request for the bot's name. If Telegram returns the name, a stopped bot starts again. If
    /// Telegram refuses the token, the bot is stopped.
    async fn check_token(&self) -> Result<(), QueryError> {
        match self.client.name().await {
            Ok(name) => {
                shared_bot::start_bot(&self.pool, self.client.token().expose_secret()).await?;
                let _ = self.name.set(name);
                let client = self.client.clone();
                // Set the menu in a task, so that polling does not wait for it.
                tokio::spawn(async move {
                    if let Err(error) = client.set_menu().await {
                        tracing::debug!(%error, "the bot's menu was not set");
                    }
                });
                Ok(())
            }
            Err(error @ Unreachable::Token) => self.stop(&error.to_string()).await,
            Err(error) => {
                tracing::warn!(%error, "the bot's token could not be checked yet");
                Ok(())
            }
        }
    }

    async fn stop(&self, why: &str) -> Result<(), QueryError> {
        shared_bot::stop_bot(&self.pool, self.client.token().expose_secret(), why).await
    }

    async fn poll(&self, memory: &mut Memory, updates: &Updates) -> Result<Polled, PollError> {
        if self.name().is_none() || memory.last == Some(Polled::Stopped) {
            self.check_token().await?;
        }
        if updates.is_full() {
            return Ok(Polled::Full);
        }
        let (next_update, seconds) = match shared_bot::lease(&self.pool, &self.node).await {
            Ok(Lease::Ours {
                next_update,
                is_new: true,
            }) => {
                memory.is_left_over = true;
                // This is the first poll after this node got the lease. Let it return at once (0 seconds), to find out
                // whether Telegram responds.
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
            // If this node was suspended for long, another node of the same bot may poll now. So ask Postgres which
            // node has the lease.
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
            // A poll that was open before an outage of Telegram gets no response any more, so start a new poll.
            () = self.client.reached_again() => return Ok(PollOutcome::Nothing(Polled::Ours)),
        };
        match answer {
            Ok(updates) => read(&updates).map(PollOutcome::Updates),
            Err(problem) if problem.is_token() => {
                self.stop("Telegram does not know the bot's token").await?;
                Ok(PollOutcome::Nothing(Polled::Stopped))
            }
            Err(Problem::Refused(refusal)) => match refusal.meaning(Request::Message) {
                RefusalKind::Conflict => Ok(PollOutcome::Nothing(Polled::Conflict)),
                RefusalKind::TooMany(pause) => Err(PollError::Throttled(pause.min(LONGEST_WAIT))),
                _ => Err(PollError::Telegram(refusal.description)),
            },
            Err(Problem::NoAnswer(reason)) => {
                self.client.is_reached().await;
                Err(PollError::Telegram(reason))
            }
        }
    }

    /// Answers presses of buttons during an outage of Postgres, because Telegram shows only answers that arrive within
    /// seconds. Telegram keeps these updates, and the bot handles them when Postgres is reached again.
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

/// Parses the response to a poll. Of each update, only the id is parsed here. An update without an id is skipped,
/// because otherwise it would block later updates.
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
    // If no update has an id, the next poll would return the same updates at once. Return an error, so that the next
    // poll waits.
    if read.is_empty() && !updates.is_empty() {
        return Err(PollError::Telegram("updates without numbers".into()));
    }
    Ok(read)
}

impl Memory {
    /// Returns the pause after a poll with this outcome.
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

    /// Logs an outcome if it differs from the previous one. A conflict is logged at most once per `CONFLICT_SILENCE`.
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
