//! Executes the commands that people write to the bot, such as `/link` and `/mute`. The command `/link` links a chat to
//! a store, so that the chat gets the store's orders. Other commands show or change such links. In a private chat, the
//! bot also answers any other text.

use std::time::Duration;

use serde::Deserialize;
use teloxide::payloads::GetChatMember;
use teloxide::types::{Chat, Message, MessageKind};

use super::bot::Bot;
use super::chat::{name, of_topic, pause_of, topic, words_of};
use super::client::ASK_DEADLINE;
use super::client::COMMANDS;
use super::digest;
use super::duration::duration;
use crate::delivery::chat_links::{self, Applicant, Change, ChatLink, ChatTopic, Linked, Mode};
use crate::delivery::reopen;
use crate::infra::db::QueryError;
use crate::store::hours::{self, Span};
use crate::text::catalog::{self, Catalog};
use crate::text::html::render_template;

/// The longest time for which `/mute` may switch off the sound.
const LONGEST_MUTE: Duration = Duration::from_secs(24 * 60 * 60);
/// The most stores in the answer to `/status`. Few chats have more, and the lines of 20 stores fit into one message.
const STATUS_STORES: usize = 20;

/// Executes the commands in messages to the bot.
pub(super) struct Commands<'a> {
    pub bot: &'a Bot,
}

impl Commands<'_> {
    /// Executes the command in a message, and enqueues the answer. The queue respects Telegram's rate limits.
    pub async fn handle(&self, message: &Message) -> Result<(), QueryError> {
        let Some(said) = said(message, self.bot.name()) else {
            return Ok(());
        };
        let chat = message.chat.id.0;
        let all = chat_links::links(&self.bot.pool, chat).await?;
        let links = of_topic(&all, topic(message));
        let asked_in = message.from.as_ref().and_then(|from| from.language_code.as_deref());
        let words = words_of(&links, asked_in);
        let answer = match said {
            ParsedText::Command(Command::Help, _) => help(words),
            ParsedText::Command(Command::Status, _) => status(words, &links),
            ParsedText::Command(Command::Orders, _) if !links.is_empty() => {
                return self.orders(message, &links, words).await;
            }
            ParsedText::Command(Command::Today, _) if !links.is_empty() => return self.today(message, &links).await,
            ParsedText::Command(Command::Pause, argument) if links.iter().any(|link| link.topic == topic(message)) => {
                return self.pause(message, argument, &links, words).await;
            }
            ParsedText::Command(Command::Pause, _) if !links.is_empty() => {
                words.get("command.not_linked_here").to_owned()
            }
            ParsedText::Command(command, argument) => match self.may(message).await {
                Some(true) => self.change(message, command, argument, &links, words).await?,
                Some(false) => words.get("command.admins_only").to_owned(),
                None => words.get("command.admins_unknown").to_owned(),
            },
            ParsedText::Other if links.is_empty() => words.get("command.not_linked").to_owned(),
            ParsedText::Other => help(words),
        };
        self.reply(message, &answer, None).await
    }

    /// Answers `/orders` with the open orders of the chat's stores. Each order has a button that sends the order's
    /// message again.
    async fn orders(&self, message: &Message, links: &[ChatLink], words: &Catalog) -> Result<(), QueryError> {
        let stores: Vec<String> = links.iter().map(|link| link.store.clone()).collect();
        let open = reopen::open(&self.bot.pool, &self.bot.sources, message.chat.id.0, &stores).await?;
        for (text, buttons) in digest::list(words, &open) {
            self.reply(message, &text, Some(&serde_json::json!(buttons))).await?;
        }
        Ok(())
    }

    /// Enqueues an answer to a message, in the same chat and topic. `buttons` contains the rows of buttons below the
    /// answer.
    pub async fn reply(
        &self,
        message: &Message,
        answer: &str,
        buttons: Option<&serde_json::Value>,
    ) -> Result<(), QueryError> {
        let title = name(&message.chat);
        let topic = ChatTopic {
            chat: message.chat.id.0,
            title: title.as_deref(),
            topic: topic(message),
        };
        chat_links::answer(&self.bot.pool, topic, answer, buttons).await?;
        self.bot.enqueued.notify_one();
        Ok(())
    }

    async fn change(
        &self,
        message: &Message,
        command: Command,
        argument: &str,
        links: &[ChatLink],
        words: &Catalog,
    ) -> Result<String, QueryError> {
        if command == Command::Link {
            return self.link(message, argument, words).await;
        }
        if links.is_empty() {
            return Ok(words.get("command.not_linked").to_owned());
        }
        // A command changes only the links of the topic in which it was written. Otherwise it would change the links of
        // all topics.
        let links: Vec<&ChatLink> = links.iter().filter(|link| link.topic == topic(message)).collect();
        if links.is_empty() {
            return Ok(words.get("command.not_linked_here").to_owned());
        }
        let (pool, chat) = (&self.bot.pool, message.chat.id.0);
        let stores: Vec<String> = links.iter().map(|link| link.store.clone()).collect();
        if command == Command::Unlink {
            chat_links::unlink(pool, chat, &stores).await?;
            return Ok(words.get("command.unlinked").to_owned());
        }
        let Some(change) = change_of(command, argument) else {
            return Ok(match command {
                Command::Mode => {
                    let names = Mode::ALL.map(|mode| (mode.as_str(), mode_name(words, mode)));
                    render_template(words.get("command.mode_help"), &names)
                }
                Command::Quiet => words.get("command.quiet_help").to_owned(),
                _ => words.get("command.mute_help").to_owned(),
            });
        };
        chat_links::change(pool, chat, &stores, change).await?;
        Ok(match change {
            Change::Mode(mode) => render_template(words.get("command.mode_set"), &[("mode", mode_name(words, mode))]),
            Change::Mute(Duration::ZERO) => words.get("command.unmuted").to_owned(),
            Change::Mute(time) => {
                let minutes = (time.as_secs() / 60).to_string();
                render_template(words.get("command.muted"), &[("minutes", &minutes)])
            }
            Change::Quiet(None) => words.get("command.quiet_off").to_owned(),
            Change::Quiet(Some(span)) => with_hours(words.get("command.quiet_set"), span),
        })
    }

    async fn link(&self, message: &Message, code: &str, words: &Catalog) -> Result<String, QueryError> {
        if code.is_empty() {
            return Ok(words.get("command.no_code").to_owned());
        }
        let title = name(&message.chat);
        let applicant = Applicant {
            chat: message.chat.id.0,
            title: title.as_deref(),
            topic: topic(message),
            person: message.from.as_ref().map_or(0, |from| from.id.0 as i64),
        };
        Ok(match chat_links::link(&self.bot.pool, applicant, code).await? {
            Linked::Done(link) => {
                let words = catalog::of_store(&link.language, &link.store);
                let store = link.store_name.as_deref().unwrap_or(&link.store);
                let mode = mode_name(words, link.mode);
                render_template(words.get("command.linked"), &[("store", store), ("mode", mode)])
            }
            Linked::Unknown => words.get("command.unknown_code").to_owned(),
            Linked::TooMany => words.get("command.too_many").to_owned(),
        })
    }

    /// Greets a group to which the bot was added: enqueues a text that explains how to link the chat. A chat that is
    /// already linked gets no greeting.
    pub async fn greet(&self, chat: &Chat, language: Option<&str>) -> Result<(), QueryError> {
        if chat.is_private() || chat.is_channel() || !chat_links::links(&self.bot.pool, chat.id.0).await?.is_empty() {
            return Ok(());
        }
        let words = catalog::of(catalog::known(language));
        let bot = self.bot.name().unwrap_or_default();
        let title = name(chat);
        let topic = ChatTopic {
            chat: chat.id.0,
            title: title.as_deref(),
            topic: None,
        };
        let text = render_template(words.get("command.greeting"), &[("bot", bot)]);
        chat_links::answer(&self.bot.pool, topic, &text, None).await?;
        self.bot.enqueued.notify_one();
        Ok(())
    }

    /// Whether the author of this message may change the chat's links to stores. In a private chat and in a channel:
    /// always. In a group: if the author is an administrator. `None`: Telegram did not say whether the author is an
    /// administrator.
    async fn may(&self, message: &Message) -> Option<bool> {
        if message.chat.is_private() || message.chat.is_channel() {
            return Some(true);
        }
        // A message in the name of the group itself comes from an anonymous administrator.
        if message
            .sender_chat
            .as_ref()
            .is_some_and(|sender| sender.id == message.chat.id)
        {
            return Some(true);
        }
        let Some(from) = &message.from else { return Some(false) };
        #[derive(Deserialize)]
        struct Member {
            status: String,
        }
        let request = GetChatMember::new(message.chat.id, from.id);
        match self.bot.client.call(&request, ASK_DEADLINE).await {
            Ok(member) => {
                let member: Option<Member> = serde_json::from_str(member.get()).ok();
                member.map(|member| ["creator", "administrator"].contains(&member.status.as_str()))
            }
            Err(problem) => {
                tracing::warn!(
                    reason = problem.reason(),
                    "the administrators of a chat could not be read"
                );
                None
            }
        }
    }
}

/// The parsed text of a message that somebody wrote to the bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParsedText<'a> {
    /// A known command, and the text after it.
    Command(Command, &'a str),
    /// A text without a known command.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Link,
    Status,
    Orders,
    Today,
    Pause,
    Mode,
    Mute,
    Unmute,
    Quiet,
    Unlink,
    Help,
}

/// Parses the text of a message. `None`: the message is not for the bot. In a private chat, every text is for the bot.
/// In other chats, a command is for the bot, unless it names another bot.
fn said<'a>(message: &'a Message, our_name: Option<&str>) -> Option<ParsedText<'a>> {
    // Skip service messages, such as a new title of the group: no person wrote them.
    if !matches!(message.kind, MessageKind::Common(_)) {
        return None;
    }
    read(message.text().unwrap_or_default(), our_name, message.chat.is_private())
}

/// Parses a text such as `/link@our_bot CODE`. In a private chat, a code without a command counts as `/link`. `None`:
/// the text is not for the bot.
fn read<'a>(text: &'a str, our_name: Option<&str>, is_private: bool) -> Option<ParsedText<'a>> {
    let other = is_private.then_some(ParsedText::Other);
    let (first, argument) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    let Some(command) = first.strip_prefix('/') else {
        let is_code = is_private && chat_links::looks_like_code(first) && argument.is_empty();
        return if is_code {
            Some(ParsedText::Command(Command::Link, first))
        } else {
            other
        };
    };
    let (command, whose) = command.split_once('@').unwrap_or((command, ""));
    let is_ours = our_name.is_none_or(|name| name.eq_ignore_ascii_case(whose));
    if !whose.is_empty() && !is_ours {
        return other;
    }
    let argument = argument.trim();
    let command = match command.to_ascii_lowercase().as_str() {
        "start" if argument.is_empty() => Command::Help,
        "start" | "link" => Command::Link,
        "status" => Command::Status,
        "orders" => Command::Orders,
        "today" => Command::Today,
        "pause" => Command::Pause,
        "mode" => Command::Mode,
        "mute" => Command::Mute,
        "unmute" => Command::Unmute,
        "quiet" => Command::Quiet,
        "unlink" => Command::Unlink,
        "help" => Command::Help,
        _ if !whose.is_empty() => return Some(ParsedText::Other),
        _ => return other,
    };
    Some(ParsedText::Command(command, argument))
}

/// Parses the argument of a command that changes the chat's links to stores. Returns the change. `None`: the argument
/// is invalid, and the caller must explain the command to the person.
fn change_of(command: Command, argument: &str) -> Option<Change> {
    let is_off = ["off", "0", "none", "нет"].contains(&argument.to_lowercase().as_str());
    match command {
        Command::Mode => Mode::from_name(argument).map(Change::Mode),
        Command::Mute if is_off => Some(Change::Mute(Duration::ZERO)),
        Command::Mute => duration(argument)
            .filter(|time| *time <= LONGEST_MUTE)
            .map(Change::Mute),
        Command::Unmute => Some(Change::Mute(Duration::ZERO)),
        Command::Quiet if is_off => Some(Change::Quiet(None)),
        Command::Quiet => hours::span(argument)
            .filter(|span| span.opens != span.closes)
            .map(|span| Change::Quiet(Some(span))),
        _ => None,
    }
}

fn mode_name(words: &Catalog, mode: Mode) -> &str {
    words.get(match mode {
        Mode::Mirror => "command.mode_mirror",
        Mode::Fallback => "command.mode_fallback",
        Mode::Manager => "command.mode_manager",
    })
}

fn with_hours(text: &str, span: Span) -> String {
    let clock = |time: time::Time| format!("{:02}:{:02}", time.hour(), time.minute());
    render_template(text, &[("from", &clock(span.opens)), ("to", &clock(span.closes))])
}

/// The answer to `/help`: a description of the bot, and a line for each command of its menu.
fn help(words: &Catalog) -> String {
    let commands = COMMANDS.map(|name| {
        let text = words.get("command.help_line");
        render_template(text, &[("command", name), ("what", words.get(&format!("menu.{name}")))])
    });
    format!("{}\n{}", words.get("command.help"), commands.join("\n"))
}

fn status(words: &Catalog, links: &[ChatLink]) -> String {
    let line = |link: &ChatLink| {
        let store = link.store_name.as_deref().unwrap_or(&link.store);
        let mode = mode_name(words, link.mode);
        let mut lines = vec![render_template(
            words.get("command.status"),
            &[("store", store), ("mode", mode)],
        )];
        if link.muted_minutes > 0 {
            let minutes = link.muted_minutes.to_string();
            lines.push(render_template(
                words.get("command.status_muted"),
                &[("minutes", &minutes)],
            ));
        }
        lines.extend(pause_of(words, link));
        lines.extend(
            link.quiet
                .map(|span| with_hours(words.get("command.status_quiet"), span)),
        );
        lines.join("\n")
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
        let group = |text| read(text, Some("our_bot"), false);
        let command = |command, argument| Some(ParsedText::Command(command, argument));
        assert_eq!(group("/link@Our_bot  ABC "), command(Command::Link, "ABC"));
        assert_eq!(group("/start ABC"), command(Command::Link, "ABC"));
        assert_eq!(group("/start"), command(Command::Help, ""));
        assert_eq!(group("/STATUS"), command(Command::Status, ""));
        assert_eq!(group("/link@other_bot ABC"), None, "the command names another bot");
        assert_eq!(read("/link@any_bot ABC", None, false), command(Command::Link, "ABC"));
        for text in ["/weather", "two pizzas", "", "ABCDEFGHJKLM"] {
            assert_eq!(group(text), None, "{text}: a group text without a command");
            assert!(
                read(text, Some("our_bot"), true).is_some(),
                "{text}: a private chat has only this bot"
            );
        }
        assert_eq!(group("/weather@our_bot"), Some(ParsedText::Other));
        assert_eq!(
            read(" abcdefghjklm ", Some("our_bot"), true),
            command(Command::Link, "abcdefghjklm")
        );
    }

    #[test]
    fn a_chat_is_muted_for_a_day_at_most() {
        let mute = |time| change_of(Command::Mute, time);
        assert!(matches!(mute("30"), Some(Change::Mute(time)) if time == Duration::from_secs(1800)));
        assert!(matches!(mute("24h"), Some(Change::Mute(LONGEST_MUTE))));
        assert!(mute("25h").is_none() && mute("").is_none());
    }

    #[test]
    fn sound_comes_back_by_each_word_that_people_try() {
        for (command, argument) in [
            (Command::Mute, "off"),
            (Command::Mute, "0"),
            (Command::Unmute, ""),
            (Command::Unmute, "please"),
        ] {
            let change = change_of(command, argument);
            assert!(matches!(change, Some(Change::Mute(Duration::ZERO))), "{argument}");
        }
        assert!(matches!(change_of(Command::Quiet, "off"), Some(Change::Quiet(None))));
        assert!(matches!(
            change_of(Command::Quiet, "23-7"),
            Some(Change::Quiet(Some(_)))
        ));
        assert!(change_of(Command::Quiet, "9:00-9:00").is_none() && change_of(Command::Quiet, "").is_none());
    }
}
