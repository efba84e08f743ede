//! Handles presses of buttons. A press changes the order only in Postgres. This change is an event, which then updates
//! every panel, and the message with the button.

use std::time::Duration;

use crate::infra::db::Pool;
use teloxide::types::CallbackQuery;

use super::bot::Bot;
use super::chat::NAME_CHARACTERS;
use super::message::{self, status_name};
use super::pause;
use crate::delivery::chat_links::{self, Pressed};
use crate::delivery::next_message::Button;
use crate::delivery::reopen;
use crate::domain::status::{Status, StatusSet, SubjectKind};
use crate::infra::db::QueryError;
use crate::receipts::writer;
use crate::sources::Sources;
use crate::sources::status_change::{self, AnswerChannel, StatusChange, StatusChangeOutcome};
use crate::text::catalog::{self, Catalog};
use crate::text::html::plain;
use crate::text::value::inline;

/// The longest text that Telegram shows after a person pressed a button, characters.
const ANSWER_CHARACTERS: usize = 200;
/// The longest reason for a rejection, characters. A longer reason is cut.
const REASON_CHARACTERS: usize = 300;

/// The action of a button, parsed from the data of the button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Press<'a> {
    Become(Status, Option<i32>),
    Open,
    AskWhy,
    Reject(&'a str),
    Back,
}

/// Parses the data of a button: `s:91:preparing` or `s:91:preparing:30` (new status, minutes), `r:91` (ask for a
/// reason), `x:91:2` (reject for reason 2), `b:91` (back) or `o:91` (open). Returns the id of the event that the
/// message shows (here 91), and the action. `None`: the data has another form.
fn read(data: &str) -> Option<(i64, Press<'_>)> {
    let mut parts = data.splitn(3, ':');
    let (what, event, rest) = (parts.next()?, parts.next()?.parse().ok()?, parts.next());
    let press = match (what, rest) {
        ("s", Some(to)) => {
            let (status, minutes) = to
                .split_once(':')
                .map_or((to, None), |(status, minutes)| (status, Some(minutes)));
            let minutes = minutes.map(str::parse).transpose().ok()?;
            Press::Become(
                Status::from_name(status)?,
                minutes.filter(|minutes| (1..=600).contains(minutes)),
            )
        }
        ("x", Some(number)) => Press::Reject(number),
        ("r", None) => Press::AskWhy,
        ("b", None) => Press::Back,
        ("o", None) => Press::Open,
        _ => return None,
    };
    Some((event, press))
}

/// Executes the action of a pressed button. Telegram shows the outcome to the person as a pop-up text.
pub async fn press(bot: &Bot, query: &CallbackQuery) -> Result<(), QueryError> {
    let pool = &bot.pool;
    let sources = &*bot.sources.loaded(pool).await?;
    let Some(place) = &query.message else { return Ok(()) };
    let chat = place.chat().id;
    if let Some(text) = pause::press(bot, query).await? {
        bot.answers.give(query.id.clone(), text);
        return Ok(());
    }
    let Some((event, press)) = query.data.as_deref().and_then(read) else {
        return Ok(());
    };
    let Some(pressed) = chat_links::pressed(pool, chat.0, event).await? else {
        let words = catalog::of(catalog::known(query.from.language_code.as_deref()));
        bot.answers
            .give(query.id.clone(), words.get("pressed.unknown").to_owned());
        return Ok(());
    };
    let words = catalog::of_store(&pressed.language, pressed.store.as_str());
    let text = match press {
        Press::AskWhy => ask_why(bot, sources, query, &pressed, words, event).await?,
        Press::Back => {
            let current = current(pool, sources, &pressed).await?;
            let next = current.as_ref().map_or_else(Vec::new, |current| {
                message::answers(words, pressed.kind, event, &next(sources, &pressed, current))
            });
            show(bot, query, &next).await?;
            String::new()
        }
        Press::Become(to, minutes) => {
            let request = StatusRequest {
                to,
                minutes,
                reason: None,
            };
            change(bot, sources, &query.from.full_name(), chat.0, &pressed, &request).await?
        }
        Press::Reject(number) => {
            let reason = words.find(&format!("reject_reason.{number}"));
            change(
                bot,
                sources,
                &query.from.full_name(),
                chat.0,
                &pressed,
                &StatusRequest::reject(reason),
            )
            .await?
        }
        Press::Open => {
            reopen::bring(pool, chat.0, &pressed).await?;
            bot.enqueued.notify_one();
            words.get("pressed.open").to_owned()
        }
    };
    bot.answers.give(query.id.clone(), text);
    Ok(())
}

/// Tells the person who pressed a button that the action failed.
pub fn failed(bot: &Bot, query: &CallbackQuery) {
    let words = catalog::of(catalog::known(query.from.language_code.as_deref()));
    bot.answers
        .give(query.id.clone(), words.get("pressed.failed").to_owned());
}

/// Tells the person who pressed a button during an outage of Postgres that the change will follow. `update` is any
/// update from Telegram, as JSON. Does nothing if the update is not a press of a button.
pub fn later(bot: &Bot, update: &str) {
    #[derive(serde::Deserialize)]
    struct Update {
        callback_query: Option<CallbackQuery>,
    }
    let update: Option<Update> = serde_json::from_str(update).ok();
    if let Some(query) = update.and_then(|update| update.callback_query) {
        let words = catalog::of(catalog::known(query.from.language_code.as_deref()));
        bot.answers.give(query.id, words.get("pressed.later").to_owned());
    }
}

/// Replaces the buttons of the message with one button for each reason, because a person wants to reject the order. If
/// the order cannot be rejected any more, changes nothing. Returns the pop-up text for the person.
async fn ask_why(
    bot: &Bot,
    sources: &Sources,
    query: &CallbackQuery,
    pressed: &Pressed,
    words: &Catalog,
    event: i64,
) -> Result<String, QueryError> {
    let Some(current) = current(&bot.pool, sources, pressed).await? else {
        return Ok(words.get("pressed.unknown").to_owned());
    };
    if next(sources, pressed, &current).contains(&Status::Rejected) {
        show(bot, query, &message::reasons(words, event)).await?;
        if let Some(place) = &query.message {
            chat_links::ask_why(&bot.pool, place.chat().id.0, place.id().0).await?;
        }
        return Ok(words.get("pressed.why").to_owned());
    }
    let outcome = StatusChangeOutcome::NotAllowed(current);
    Ok(outcome_text(words, pressed.kind, &outcome, Status::Rejected))
}

/// The statuses to which a person may change the order or booking from its current status.
fn next(sources: &Sources, pressed: &Pressed, current: &status_change::CurrentStatus) -> Vec<Status> {
    let words = sources
        .by_name(&current.source)
        .map_or(StatusSet::ALL, |source| source.mapping.reachable());
    current.status.next_of(pressed.kind, current.is_delivered, words)
}

async fn current(
    pool: &Pool,
    sources: &Sources,
    pressed: &Pressed,
) -> Result<Option<status_change::CurrentStatus>, QueryError> {
    status_change::current_status(
        pool,
        sources,
        &pressed.store,
        pressed.kind,
        Some(&pressed.source),
        &pressed.key,
    )
    .await
}

/// Rejects an order for the reason that a person wrote as a reply. `message` is the id of the message to which the
/// person replied. Returns the answer to the person. `None`: the bot did not ask for a reason in this message, so the
/// reply is an ordinary text.
pub async fn reason(bot: &Bot, chat: i64, message: i32, by: &str, reason: &str) -> Result<Option<String>, QueryError> {
    let Some(event) = chat_links::asked_why(&bot.pool, chat, message).await? else {
        return Ok(None);
    };
    let Some(pressed) = chat_links::pressed(&bot.pool, chat, event).await? else {
        return Ok(None);
    };
    let sources = &*bot.sources.loaded(&bot.pool).await?;
    let reason: String = inline(reason).chars().take(REASON_CHARACTERS).collect();
    change(bot, sources, by, chat, &pressed, &StatusRequest::reject(Some(&reason)))
        .await
        .map(Some)
}

/// A status change that a person requests by a button, or by a reply with a reason.
struct StatusRequest<'a> {
    to: Status,
    minutes: Option<i32>,
    reason: Option<&'a str>,
}

impl<'a> StatusRequest<'a> {
    fn reject(reason: Option<&'a str>) -> Self {
        Self {
            to: Status::Rejected,
            minutes: None,
            reason,
        }
    }
}

/// Changes the status of the order or booking. Returns the outcome as text for the person.
async fn change(
    bot: &Bot,
    sources: &Sources,
    by: &str,
    chat: i64,
    pressed: &Pressed,
    request: &StatusRequest<'_>,
) -> Result<String, QueryError> {
    let by: String = by.chars().take(NAME_CHARACTERS).collect();
    let wanted = StatusChange {
        request: None,
        store: &pressed.store,
        kind: pressed.kind,
        source: Some(&pressed.source),
        key: &pressed.key,
        to: request.to,
        from: None,
        reason: request.reason,
        minutes: request.minutes,
        by: &by,
        token: None,
        channel: AnswerChannel::Telegram,
        step_back: Duration::ZERO,
    };
    let changed = status_change::change_status(&bot.pool, sources, &bot.shop_api, &wanted, ()).await?;
    if let StatusChangeOutcome::Done { .. } = &changed {
        writer::answered(&bot.pool, pressed.event, chat, &by).await?;
    }
    Ok(outcome_text(
        catalog::of_store(&pressed.language, pressed.store.as_str()),
        pressed.kind,
        &changed,
        request.to,
    ))
}

/// The outcome of a status change, as text for people.
fn outcome_text(words: &Catalog, kind: SubjectKind, outcome: &StatusChangeOutcome, to: Status) -> String {
    let (text, current) = match outcome {
        StatusChangeOutcome::Done { .. } => ("pressed.done", None),
        StatusChangeOutcome::Already(current) if current.by.is_none() => ("pressed.already", Some(current)),
        StatusChangeOutcome::Already(current) => ("pressed.already_by", Some(current)),
        StatusChangeOutcome::Refused {
            message: Some(message), ..
        } => {
            return plain(words.get("pressed.refused"), &[("message", message)], ANSWER_CHARACTERS);
        }
        StatusChangeOutcome::NotAllowed(current)
        | StatusChangeOutcome::Overtaken(current)
        | StatusChangeOutcome::Refused { current, .. } => {
            let text = if current.by.is_none() {
                "pressed.not_allowed"
            } else {
                "pressed.not_allowed_by"
            };
            (text, Some(current))
        }
        StatusChangeOutcome::Unavailable(_) => ("pressed.shop_unavailable", None),
        StatusChangeOutcome::Denied => ("pressed.denied", None),
        StatusChangeOutcome::Locked => ("pressed.locked", None),
        StatusChangeOutcome::NoWord(_) => ("pressed.no_word", None),
        StatusChangeOutcome::Ambiguous(_) => ("pressed.ambiguous", None),
        StatusChangeOutcome::Unknown => ("pressed.unknown", None),
    };
    let status = current.map_or(to, |current| current.status);
    let word = current.and_then(|current| current.word.as_deref());
    let status = word.unwrap_or_else(|| status_name(words, kind, status.as_str()));
    let by = current.and_then(|current| current.by.as_deref()).unwrap_or_default();
    plain(words.get(text), &[("status", status), ("by", by)], ANSWER_CHARACTERS)
}

/// Enqueues new buttons for the message whose button was pressed. The queue respects Telegram's rate limits, and
/// repeats failed sends.
async fn show(bot: &Bot, query: &CallbackQuery, rows: &[Vec<Button>]) -> Result<(), QueryError> {
    let Some(place) = &query.message else { return Ok(()) };
    let rows = serde_json::json!(rows);
    chat_links::show(&bot.pool, place.chat().id.0, place.id().0, &rows).await?;
    bot.enqueued.notify_one();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_is_read_and_nonsense_is_not() {
        assert_eq!(
            read("s:91:preparing"),
            Some((91, Press::Become(Status::Preparing, None)))
        );
        assert_eq!(
            read("s:91:preparing:30"),
            Some((91, Press::Become(Status::Preparing, Some(30))))
        );
        assert_eq!(read("o:91"), Some((91, Press::Open)));
        assert_eq!(read("r:91"), Some((91, Press::AskWhy)));
        assert_eq!(read("x:91:2"), Some((91, Press::Reject("2"))));
        assert_eq!(read("b:91"), Some((91, Press::Back)));
        for wrong in [
            "",
            "s",
            "s:91",
            "s:x:ready",
            "s:91:eaten",
            "s:91:preparing:soon",
            "r:91:1",
            "q:91",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
