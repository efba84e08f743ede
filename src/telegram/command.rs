//! What people write to the bot: they link their chat, ask how it is linked, change that.

use std::time::Duration;

use teloxide::prelude::Requester as _;
use teloxide::types::Message;
use tokio::time::timeout;

use super::client::{ASK_DEADLINE, Client, reason};
use super::html::filled;
use super::words::{self, Words};
use crate::db::{Failed, Pool};
use crate::link::{self, Applicant, Link, Linked, Mode};

/// The longest that a chat may be muted for.
const LONGEST_MUTE: Duration = Duration::from_secs(24 * 60 * 60);
/// Stores that a status tells of: more than a chat has, and few enough for one message.
const STATUS_STORES: usize = 20;

/// Does what a message asks for, if it asks us for anything.
pub struct Commands<'a> {
    /// For all of its SQL.
    pub pool: &'a Pool,
    /// The bot.
    pub client: &'a Client,
    /// Its name at Telegram, where that is known: in a group, commands may be meant for another one.
    pub name: Option<&'a str>,
}

impl Commands<'_> {
    /// Answers are queued, so that they keep Telegram's budgets, too.
    pub async fn obey(&self, message: &Message) -> Result<(), Failed> {
        let Some((command, argument)) = message.text().and_then(|text| read_command(text, self.name)) else {
            return Ok(());
        };
        let chat = message.chat.id.0;
        let links = link::links(self.pool, chat).await?;
        let asked_in = message.from.as_ref().and_then(|from| from.language_code.as_deref());
        let language = links
            .first()
            .map_or_else(|| words::known(asked_in), |link| link.language.as_str());
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
            Some(answer) => link::answer(self.pool, chat, message.chat.title(), &answer).await,
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
                    link::set_mode(self.pool, chat, mode).await?;
                    filled(words.get("command.mode_set"), &[("mode", mode_name(words, mode))])
                }
                None => {
                    let names = Mode::ALL.map(|mode| (mode.as_str(), mode_name(words, mode)));
                    filled(words.get("command.mode_help"), &names)
                }
            },
            Command::Mute => match minutes(argument) {
                Some(time) => {
                    link::mute(self.pool, chat, time).await?;
                    let minutes = (time.as_secs() / 60).to_string();
                    filled(words.get("command.muted"), &[("minutes", &minutes)])
                }
                None => words.get("command.mute_help").to_owned(),
            },
            _ => {
                link::unlink(self.pool, chat).await?;
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
        Ok(match link::link(self.pool, applicant, code).await? {
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

/// `/link@our_bot CODE`, and what follows it. Other text, and what another bot is asked for, is none of ours.
fn read_command<'a>(text: &'a str, our_name: Option<&str>) -> Option<(Command, &'a str)> {
    let (command, argument) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    let command = command.strip_prefix('/')?;
    let (command, whose) = command.split_once('@').unwrap_or((command, ""));
    if !whose.is_empty() && our_name.is_some_and(|name| !name.eq_ignore_ascii_case(whose)) {
        return None;
    }
    let argument = argument.trim();
    let command = match command {
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
    let mut stores: Vec<String> = links.iter().take(STATUS_STORES).map(line).collect();
    if links.len() > STATUS_STORES {
        stores.push("…".to_owned());
    }
    stores.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_and_without_the_bots_name() {
        let read = |text| read_command(text, Some("our_bot"));
        assert_eq!(read("/link@Our_bot  ABC "), Some((Command::Link, "ABC")));
        assert_eq!(read("/start ABC"), Some((Command::Link, "ABC")));
        assert_eq!(read("/start"), Some((Command::Help, "")));
        assert_eq!(read("/link@other_bot ABC"), None, "it is another bot's");
        assert_eq!(read_command("/link@any_bot ABC", None), Some((Command::Link, "ABC")));
        assert_eq!(read("/weather"), None);
        assert_eq!(read("two pizzas"), None);
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
