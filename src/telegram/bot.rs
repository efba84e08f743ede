//! Hears what people write to the bot and which buttons they press: one long poll for the whole fleet, under a lease in
//! Postgres. An update is dealt with before its number is stored, so a crash repeats it rather than loses it, and every
//! one of them may be repeated.

use std::time::Duration;

use deadpool_postgres::Pool;
use secrecy::ExposeSecret as _;
use teloxide::RequestError;
use teloxide::payloads::GetUpdatesSetters as _;
use teloxide::prelude::Requester as _;
use teloxide::types::{AllowedUpdate, ChatMemberUpdated, Message, Update, UpdateKind};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::client::{ASK_DEADLINE, Client, Unreachable, is_token, reason};
use super::html::filled;
use super::press;
use super::words::{self, Words};
use crate::backoff::Backoff;
use crate::db::Failed;
use crate::link::{self, Applicant, Link, Linked, Mode};
use crate::poll::{self, Lease};

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
/// Between two looks at whether a stopped bot's token is let in again.
const STOPPED_PAUSE: Duration = Duration::from_secs(60);
/// Updates that may be asked for at once.
const BATCH_UPDATES: u8 = 100;
/// The longest that a chat may be muted for.
const LONGEST_MUTE: Duration = Duration::from_secs(24 * 60 * 60);

/// The bot's ear.
pub struct Bot {
    /// For all of its SQL.
    pub pool: Pool,
    /// The bot.
    pub client: Client,
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
}

impl Bot {
    /// Polls until the shutdown, coming back by itself.
    pub async fn run(self, stop: CancellationToken) {
        let node = format!("{:016x}", fastrand::u64(..));
        let mut backoff = Backoff::new();
        let mut last = Polled::Ours;
        self.prove_token().await;
        loop {
            let polled = tokio::select! {
                polled = self.poll(&node) => polled,
                () = stop.cancelled() => break,
            };
            let pause = match polled {
                Ok(polled) => {
                    backoff.reset();
                    if polled != last {
                        tell(polled);
                        last = polled;
                    }
                    match polled {
                        Polled::Ours => continue,
                        Polled::Elsewhere => ELSEWHERE_PAUSE,
                        Polled::Conflict => CONFLICT_PAUSE,
                        Polled::Stopped => STOPPED_PAUSE,
                    }
                }
                Err(error) => {
                    let pause = backoff.next_pause();
                    tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "the bot hears nothing for now");
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => break,
            }
            if last == Polled::Stopped {
                self.prove_token().await;
            }
        }
        if let Err(error) = poll::release(&self.pool, &node).await {
            tracing::debug!(%error, "the lease of the poll ends by itself");
        }
    }

    /// Asks Telegram who we are: a new token, or one that is let in again, starts a stopped bot.
    async fn prove_token(&self) {
        let stored = match self.client.name().await {
            Ok(_) => poll::start_bot(&self.pool).await,
            Err(error @ Unreachable::Token) => self.stop(&error.to_string()).await,
            Err(error) => return tracing::warn!(%error, "the bot's token is not proven yet"),
        };
        stored.unwrap_or_else(|error| tracing::warn!(%error, "what Telegram says of the token was not stored"));
    }

    async fn stop(&self, why: &str) -> Result<(), Failed> {
        poll::stop_bot(&self.pool, self.client.token.expose_secret(), why).await
    }

    async fn poll(&self, node: &str) -> Result<Polled, PollError> {
        let next_update = match poll::lease(&self.pool, node, LEASE).await? {
            Lease::Ours { next_update } => next_update,
            Lease::Elsewhere => return Ok(Polled::Elsewhere),
            Lease::Stopped => return Ok(Polled::Stopped),
        };
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
        let updates = match timeout(POLL_DEADLINE, asked).await {
            Ok(Ok(updates)) => updates,
            Ok(Err(error)) if is_token(&error) => {
                self.stop("Telegram does not know the bot's token").await?;
                return Ok(Polled::Stopped);
            }
            Ok(Err(RequestError::Api(error))) if error.to_string().starts_with("Conflict") => {
                return Ok(Polled::Conflict);
            }
            Ok(Err(RequestError::Api(teloxide::ApiError::TerminatedByOtherGetUpdates))) => return Ok(Polled::Conflict),
            Ok(Err(error)) => return Err(PollError::Telegram(reason(&error))),
            Err(_) => return Err(PollError::Telegram("no answer in time".into())),
        };
        for update in &updates {
            self.hear(update).await?;
            poll::dealt_with(&self.pool, i64::from(update.id.0) + 1).await?;
        }
        Ok(Polled::Ours)
    }

    async fn hear(&self, update: &Update) -> Result<(), Failed> {
        match &update.kind {
            UpdateKind::Message(message) => self.command(message).await,
            UpdateKind::CallbackQuery(query) => press::press(&self.pool, &self.client, query).await,
            UpdateKind::MyChatMember(change) => self.membership(change).await,
            _ => Ok(()),
        }
    }

    /// The bot was thrown out, or blocked.
    async fn membership(&self, change: &ChatMemberUpdated) -> Result<(), Failed> {
        if change.new_chat_member.kind.is_present() {
            return Ok(());
        }
        link::disable(
            &self.pool,
            change.chat.id.0,
            "the bot was blocked, or removed from the chat",
        )
        .await
    }

    async fn command(&self, message: &Message) -> Result<(), Failed> {
        let Some((command, argument)) = message.text().and_then(read_command) else {
            return Ok(());
        };
        let chat = message.chat.id.0;
        let links = link::links(&self.pool, chat).await?;
        let asked_in = message.from.as_ref().and_then(|from| from.language_code.as_deref());
        let language = links
            .first()
            .map_or_else(|| known(asked_in), |link| link.language.as_str());
        let words = words::of(language);
        let answer = match command {
            Command::Help => Some(words.get("command.help").to_owned()),
            Command::Status => Some(status(words, &links)),
            Command::Link | Command::Mode | Command::Mute | Command::Unlink => match self.may(message).await {
                Some(true) => self.change(message, command, argument, &links, words).await?,
                Some(false) => Some(words.get("command.admins_only").to_owned()),
                None => Some(words.get("pressed.failed").to_owned()),
            },
        };
        match answer {
            Some(answer) => link::answer(&self.pool, chat, message.chat.title(), &answer).await,
            None => Ok(()),
        }
    }

    async fn change(
        &self,
        message: &Message,
        command: Command,
        argument: &str,
        links: &[Link],
        words: &Words,
    ) -> Result<Option<String>, Failed> {
        let chat = message.chat.id.0;
        if command == Command::Link {
            return self.link(message, argument, words).await.map(Some);
        }
        if links.is_empty() {
            return Ok(Some(words.get("command.not_linked").to_owned()));
        }
        let answer = match command {
            Command::Mode => match Mode::from_name(argument) {
                Some(mode) => {
                    link::set_mode(&self.pool, chat, mode).await?;
                    filled(words.get("command.mode_set"), &[("mode", mode_name(words, mode))])
                }
                None => {
                    let names = Mode::ALL.map(|mode| (mode.as_str(), mode_name(words, mode)));
                    filled(words.get("command.mode_help"), &names)
                }
            },
            Command::Mute => match minutes(argument) {
                Some(time) => {
                    link::mute(&self.pool, chat, time).await?;
                    let minutes = (time.as_secs() / 60).to_string();
                    filled(words.get("command.muted"), &[("minutes", &minutes)])
                }
                None => words.get("command.mute_help").to_owned(),
            },
            _ => {
                link::unlink(&self.pool, chat).await?;
                words.get("command.unlinked").to_owned()
            }
        };
        Ok(Some(answer))
    }

    async fn link(&self, message: &Message, code: &str, words: &Words) -> Result<String, Failed> {
        if code.is_empty() {
            return Ok(words.get("command.no_code").to_owned());
        }
        let applicant = Applicant {
            chat: message.chat.id.0,
            title: message.chat.title().or(message.chat.username()),
            person: message.from.as_ref().map_or(0, |from| from.id.0 as i64),
        };
        Ok(match link::link(&self.pool, applicant, code).await? {
            Linked::Done(link) => {
                let words = words::of(&link.language);
                let store = link.store_name.as_deref().unwrap_or(&link.store);
                let mode = mode_name(words, link.mode);
                filled(words.get("command.linked"), &[("store", store), ("mode", mode)])
            }
            Linked::Unknown => words.get("command.unknown_code").to_owned(),
            Linked::TooMany => words.get("command.too_many").to_owned(),
        })
    }

    /// Whether who wrote may change things here: anybody in a chat of their own, administrators in a group. `None`:
    /// Telegram does not say.
    async fn may(&self, message: &Message) -> Option<bool> {
        if message.chat.is_private() {
            return Some(true);
        }
        // An administrator who is hidden writes as the group itself.
        if message
            .sender_chat
            .as_ref()
            .is_some_and(|sender| sender.id == message.chat.id)
        {
            return Some(true);
        }
        let Some(from) = &message.from else { return Some(false) };
        match timeout(ASK_DEADLINE, self.client.bot.get_chat_member(message.chat.id, from.id)).await {
            Ok(Ok(member)) => Some(member.kind.is_privileged()),
            Ok(Err(error)) => {
                tracing::warn!(reason = reason(&error), "who is an administrator could not be asked");
                None
            }
            Err(_) => None,
        }
    }
}

fn tell(polled: Polled) {
    match polled {
        Polled::Ours => tracing::info!("this node hears the bot for all"),
        Polled::Elsewhere => tracing::info!("another node hears the bot"),
        Polled::Conflict => tracing::warn!(
            "409 from Telegram: another program polls with this bot's token, and takes what people press; \
             stop it, or give each its own bot"
        ),
        Polled::Stopped => {
            tracing::error!("the bot is stopped, for Telegram does not know its token: check telegram.token");
        }
    }
}

/// What a person may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Link,
    Status,
    Mode,
    Mute,
    Unlink,
    Help,
}

/// `/link@our_bot CODE`, and what follows it. Other text is none of ours.
fn read_command(text: &str) -> Option<(Command, &str)> {
    let (command, argument) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    let name = command.strip_prefix('/')?;
    let argument = argument.trim();
    let command = match name.split('@').next()? {
        "start" if argument.is_empty() => Command::Help,
        "start" | "link" => Command::Link,
        "status" => Command::Status,
        "mode" => Command::Mode,
        "mute" => Command::Mute,
        "unlink" => Command::Unlink,
        "help" => Command::Help,
        _ => return None,
    };
    Some((command, argument))
}

/// `30m`, `2h`: a day at most.
fn minutes(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "m" => 60,
        "h" => 60 * 60,
        _ => return None,
    };
    let time = Duration::from_secs(number.parse::<u32>().ok()?.checked_mul(unit)?.into());
    (!time.is_zero() && time <= LONGEST_MUTE).then_some(time)
}

fn known(language: Option<&str>) -> &'static str {
    let language = language.and_then(|asked| words::languages().find(|known| asked.starts_with(known)));
    language.unwrap_or(words::DEFAULT)
}

fn mode_name(words: &Words, mode: Mode) -> &str {
    words.get(match mode {
        Mode::Mirror => "command.mode_mirror",
        Mode::Fallback => "command.mode_fallback",
        Mode::Manager => "command.mode_manager",
    })
}

fn status(words: &Words, links: &[Link]) -> String {
    let line = |link: &Link| {
        let store = link.store_name.as_deref().unwrap_or(&link.store);
        let mode = mode_name(words, link.mode);
        let minutes = link.muted_minutes.to_string();
        let name = if link.muted_minutes > 0 {
            "command.status_muted"
        } else {
            "command.status"
        };
        filled(
            words.get(name),
            &[("store", store), ("mode", mode), ("minutes", &minutes)],
        )
    };
    if links.is_empty() {
        return words.get("command.not_linked").to_owned();
    }
    links.iter().map(line).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_and_without_the_bots_name() {
        assert_eq!(read_command("/link@our_bot  ABC "), Some((Command::Link, "ABC")));
        assert_eq!(read_command("/start ABC"), Some((Command::Link, "ABC")));
        assert_eq!(read_command("/start"), Some((Command::Help, "")));
        assert_eq!(read_command("/weather"), None);
        assert_eq!(read_command("two pizzas"), None);
    }

    #[test]
    fn a_chat_is_muted_for_a_day_at_most() {
        assert_eq!(minutes("30m"), Some(Duration::from_secs(1800)));
        assert_eq!(minutes("24h"), Some(LONGEST_MUTE));
        for wrong in ["", "m", "0m", "25h", "-1h", "30", "30s", "99999999999h", "5µ"] {
            assert_eq!(minutes(wrong), None, "{wrong}");
        }
    }
}
