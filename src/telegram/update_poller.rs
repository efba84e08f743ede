//! Polls Telegram for what people write and press: one long poll for all nodes. An update is stored before Telegram may
//! forget it, and removed when it has been dealt with: each of them may be repeated, and none is lost.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use teloxide::payloads::{GetUpdates, GetUpdatesSetters as _};
use teloxide::types::AllowedUpdate;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::api::Problem;
use super::callback_query::{self, Answers};
use super::client::{Client, Unreachable};
use super::refusal::{Meaning, Request};
use super::updates::Updates;
use crate::delivery::shared_bot::{self, Lease, Update};
use crate::infra::backoff::Backoff;
use crate::infra::db::{Pool, QueryError};
use crate::sources::registry::Registry;

/// How long Telegram keeps a poll open while nothing comes, seconds.
const POLL_S: u32 = 10;
/// How long a poll may take in all: then the connection is half open.
const POLL_DEADLINE: Duration = Duration::from_secs(15);
/// Between two looks at whether another node still polls.
const ELSEWHERE_PAUSE: Duration = Duration::from_secs(1);
/// After a first 409, for a poll of ours that was just given up may still have been open; and after a further one, for then
/// another program polls with the same token.
const FIRST_CONFLICT_PAUSE: Duration = Duration::from_millis(500);
const CONFLICT_PAUSE: Duration = Duration::from_secs(5);
/// Between two times that it is said.
const CONFLICT_SILENCE: Duration = Duration::from_secs(10 * 60);
/// Between two looks at whether a stopped bot's token is let in again.
const STOPPED_PAUSE: Duration = Duration::from_secs(60);
/// Between two looks at whether there is room for more updates.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// Updates that may be asked for at once; and of those that a node before has left.
const BATCH_UPDATES: u8 = 100;
const BATCH_LEFT_OVER: i64 = 1000;
/// The longest that Telegram is believed when it wants no poll.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// While Postgres is away, who presses is told so for as long as no other node can have taken the poll.
const ALONE_FOR: Duration = Duration::from_secs(5 * 60);
/// Between two looks at what is pressed meanwhile, and the time that Telegram keeps each open.
const AWAY_PAUSE: Duration = Duration::from_secs(1);
/// How long the end waits for what is being dealt with.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// The bot, listening.
pub struct Bot {
    /// For all of its SQL.
    pub pool: Pool,
    /// The bot at Telegram.
    pub client: Client,
    /// What the rows of the journal mean.
    pub sources: Arc<Registry>,
    /// The node, as it stands in `vestnik.vst_bot_node`.
    pub node: String,
    /// There is something to send.
    pub planned: Arc<Notify>,
    /// Answers to presses.
    pub(super) answers: Answers,
    /// Its name, once Telegram has said who we are.
    name: OnceLock<String>,
}

/// How a look at the updates went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Polled {
    /// Updates were taken, or none came.
    Ours,
    /// As many wait as may.
    Full,
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
    Failed(#[from] QueryError),
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
#[derive(Default)]
struct Memory {
    last: Option<Polled>,
    conflict_told: Option<Instant>,
    /// Where the poll stood when it was known last that it is ours.
    ours: Option<(i64, Instant)>,
    /// Whether a node before may have left updates that are not dealt with.
    is_left_over: bool,
    /// Presses that were told that Postgres is away.
    told: HashSet<i64>,
}

impl Bot {
    /// Of this node.
    pub fn new(pool: Pool, client: Client, sources: Arc<Registry>, node: String, planned: Arc<Notify>) -> Self {
        Self {
            answers: Answers::new(client.clone()),
            pool,
            client,
            sources,
            node,
            planned,
            name: OnceLock::new(),
        }
    }

    /// Its name at Telegram, where that is known: in a group, commands may be meant for another one.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.get().map(String::as_str)
    }

    /// Polls until the shutdown, coming back by itself; begins once the node's heartbeat has been heard.
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
                    memory.tell(polled);
                    pause
                }
                Err(error) => {
                    let pause = match &error {
                        PollError::Throttled(pause) => *pause,
                        // Who presses meanwhile is to be told so.
                        PollError::Failed(_) => backoff.next_pause().min(AWAY_PAUSE),
                        PollError::Telegram(_) => backoff.next_pause(),
                    };
                    tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "the bot hears nothing for now");
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

    /// A pause, and the end of an outage: what is pressed is taken as soon as Telegram is reached.
    async fn rest(&self, pause: Duration) {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        self.client.until_reached().await;
    }

    /// Asks Telegram who we are: a new token, or one that is let in again, starts a stopped bot.
    async fn prove_token(&self) -> Result<(), QueryError> {
        match self.client.name().await {
            Ok(name) => {
                shared_bot::start_bot(&self.pool, self.client.token().expose_secret()).await?;
                let _ = self.name.set(name);
                let client = self.client.clone();
                // Nobody waits for it.
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
                updates.deal_with(shared_bot::left_over(&self.pool, BATCH_LEFT_OVER).await?);
                // Answered at once, so that it is known that there is an answer.
                (next_update, 0)
            }
            Ok(Lease::Ours { next_update, .. }) => (next_update, POLL_S),
            Ok(Lease::Elsewhere) => return Ok(Polled::Elsewhere),
            Ok(Lease::Stopped) => return Ok(Polled::Stopped),
            Err(error) => {
                self.tell_that_postgres_is_away(memory).await;
                return Err(error.into());
            }
        };
        if memory.is_left_over {
            let left = shared_bot::left_over(&self.pool, BATCH_LEFT_OVER).await?;
            memory.is_left_over = left.len() as i64 == BATCH_LEFT_OVER;
            updates.deal_with(left);
        }
        memory.ours = Some((next_update, Instant::now()));
        memory.told.clear();
        let came = match self.ask(next_update, seconds).await? {
            Asked::Updates(came) => came,
            // We may have been away for so long that another node of ours polls.
            Asked::Nothing(Polled::Conflict) => match shared_bot::lease(&self.pool, &self.node).await? {
                Lease::Elsewhere => return Ok(Polled::Elsewhere),
                _ => {
                    metrics::counter!("vestnik_telegram_conflicts_total").increment(1);
                    shared_bot::note_conflict(&self.pool).await?;
                    return Ok(Polled::Conflict);
                }
            },
            Asked::Nothing(polled) => return Ok(polled),
        };
        let next_update = came.iter().map(|update| update.id + 1).max().unwrap_or(next_update);
        let taken = match shared_bot::take(&self.pool, &self.node, next_update, &came).await {
            Ok(taken) => taken,
            Err(error) => {
                self.tell_presses(&came, memory);
                return Err(error.into());
            }
        };
        if !taken {
            return Ok(Polled::Elsewhere);
        }
        updates.deal_with(came);
        Ok(Polled::Ours)
    }

    async fn ask(&self, next_update: i64, seconds: u32) -> Result<Asked, PollError> {
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
            // A poll that was open when the line was lost is answered by nobody.
            () = self.client.reached_again() => return Ok(Asked::Nothing(Polled::Ours)),
        };
        match answer {
            Ok(updates) => read(&updates).map(Asked::Updates),
            Err(problem) if problem.is_token() => {
                self.stop("Telegram does not know the bot's token").await?;
                Ok(Asked::Nothing(Polled::Stopped))
            }
            Err(Problem::Refused(refusal)) => match refusal.meaning(Request::Message) {
                Meaning::Conflict => Ok(Asked::Nothing(Polled::Conflict)),
                Meaning::TooMany(pause) => Err(PollError::Throttled(pause.min(LONGEST_WAIT))),
                _ => Err(PollError::Telegram(refusal.description)),
            },
            Err(Problem::NoAnswer(reason)) => {
                self.client.is_reached().await;
                Err(PollError::Telegram(reason))
            }
        }
    }

    /// Postgres is away: who presses now is told so, as long as Telegram shows an answer. Telegram keeps the presses, and they
    /// are done when it is back.
    async fn tell_that_postgres_is_away(&self, memory: &mut Memory) {
        let Some((next_update, _)) = memory.ours.filter(|(_, known)| known.elapsed() < ALONE_FOR) else {
            return;
        };
        if let Ok(Asked::Updates(came)) = self.ask(next_update, AWAY_PAUSE.as_secs() as u32).await {
            self.tell_presses(&came, memory);
        }
    }

    fn tell_presses(&self, came: &[Update], memory: &mut Memory) {
        for update in came {
            if memory.told.insert(update.id) {
                callback_query::later(self, &update.body);
            }
        }
    }
}

/// The updates of an answer. Of each only its number is read here: one that cannot be read otherwise is passed over, and
/// keeps none of those behind it.
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
    // Where none can be read, nothing moves the poll on before the next one comes: it waits, as for any other answer.
    if read.is_empty() && !updates.is_empty() {
        return Err(PollError::Telegram("updates without numbers".into()));
    }
    Ok(read)
}

impl Memory {
    /// Until the next poll.
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
        Polled::Full => tracing::warn!("people write and press faster than it can be dealt with"),
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
