//! A button was pressed: the order changes in Postgres, and nowhere else. Its event comes back by itself, to every panel
//! and to the message that was pressed.

use std::time::Duration;

use deadpool_postgres::Pool;
use teloxide::payloads::{AnswerCallbackQuerySetters as _, EditMessageReplyMarkupSetters as _};
use teloxide::prelude::Requester as _;
use teloxide::types::CallbackQuery;
use tokio::time::timeout;

use super::client::{ASK_DEADLINE, Client, reason};
use super::html::plain;
use super::message::{self, Button, status_name};
use super::sender::keyboard;
use super::words::{self, Words};
use crate::db::Failed;
use crate::domain::status::{Status, StatusSet, SubjectKind};
use crate::link::{self, Pressed};
use crate::reach;
use crate::sources::Sources;
use crate::sources::status_change::{self, StatusChange, StatusChangeOutcome, Way};

/// What Telegram shows of an answer to a press, characters.
const ANSWER_CHARACTERS: usize = 200;
/// Of a person's name, characters.
const NAME_CHARACTERS: usize = 60;

/// What a button sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Press<'a> {
    Become(Status),
    AskWhy,
    Reject(&'a str),
    Back,
}

/// `s:91:preparing`, `r:91`, `x:91:2`, `b:91`.
fn read(data: &str) -> Option<(i64, Press<'_>)> {
    let mut parts = data.splitn(3, ':');
    let (what, event, rest) = (parts.next()?, parts.next()?.parse().ok()?, parts.next());
    let press = match (what, rest) {
        ("s", Some(status)) => Press::Become(Status::from_name(status)?),
        ("x", Some(number)) => Press::Reject(number),
        ("r", None) => Press::AskWhy,
        ("b", None) => Press::Back,
        _ => return None,
    };
    Some((event, press))
}

/// Does what a press asks for, and tells who pressed what came of it.
pub async fn press(pool: &Pool, sources: &Sources, client: &Client, query: &CallbackQuery) -> Result<(), Failed> {
    let Some(place) = &query.message else { return Ok(()) };
    let chat = place.chat().id;
    let Some((event, press)) = query.data.as_deref().and_then(read) else {
        return Ok(());
    };
    let Some(pressed) = link::pressed(pool, chat.0, event).await? else {
        let words = words::of(words::known(query.from.language_code.as_deref()));
        answer(client, query, words.get("pressed.unknown").to_owned()).await;
        return Ok(());
    };
    let words = words::of(&pressed.language);
    let text = match press {
        Press::AskWhy => ask_why(pool, sources, client, query, &pressed, words, event).await?,
        Press::Back => {
            let standing = current(pool, sources, &pressed).await?;
            let next = standing.as_ref().map_or_else(Vec::new, |standing| {
                message::answers(words, pressed.kind, event, &next(sources, &pressed, standing))
            });
            show(client, query, &next).await;
            String::new()
        }
        Press::Become(to) => change(pool, sources, query, &pressed, to, None, words).await?,
        Press::Reject(number) => {
            let reason = words.find(&format!("reject_reason.{number}"));
            change(pool, sources, query, &pressed, Status::Rejected, reason, words).await?
        }
    };
    answer(client, query, text).await;
    Ok(())
}

/// Tells who pressed that it came to nothing.
pub async fn failed(client: &Client, query: &CallbackQuery) {
    let words = words::of(words::known(query.from.language_code.as_deref()));
    answer(client, query, words.get("pressed.failed").to_owned()).await;
}

/// Shows the reasons for a rejection, where there may still be one; what to answer.
async fn ask_why(
    pool: &Pool,
    sources: &Sources,
    client: &Client,
    query: &CallbackQuery,
    pressed: &Pressed,
    words: &Words,
    event: i64,
) -> Result<String, Failed> {
    let Some(standing) = current(pool, sources, pressed).await? else {
        return Ok(words.get("pressed.unknown").to_owned());
    };
    if next(sources, pressed, &standing).contains(&Status::Rejected) {
        show(client, query, &message::reasons(words, event)).await;
        return Ok(words.get("pressed.why").to_owned());
    }
    let outcome = StatusChangeOutcome::NotAllowed(standing);
    Ok(told(words, pressed.kind, &outcome, Status::Rejected))
}

/// What a person may make of it.
fn next(sources: &Sources, pressed: &Pressed, standing: &status_change::CurrentStatus) -> Vec<Status> {
    let words = sources.by_name(&standing.source).map_or(StatusSet::ALL, |source| source.mapping.reachable());
    standing.status.next_of(pressed.kind, standing.is_delivered, words)
}

async fn current(pool: &Pool, sources: &Sources, pressed: &Pressed) -> Result<Option<status_change::CurrentStatus>, Failed> {
    status_change::current_status(pool, sources, &pressed.store, pressed.kind, Some(&pressed.source), &pressed.key).await
}

/// Changes the order; what to answer.
async fn change(
    pool: &Pool,
    sources: &Sources,
    query: &CallbackQuery,
    pressed: &Pressed,
    to: Status,
    reason: Option<&str>,
    words: &Words,
) -> Result<String, Failed> {
    let by: String = query.from.full_name().chars().take(NAME_CHARACTERS).collect();
    let wanted = StatusChange {
        store: &pressed.store,
        kind: pressed.kind,
        source: Some(&pressed.source),
        key: &pressed.key,
        to,
        from: None,
        reason,
        minutes: None,
        by: &by,
        token: None,
        way: Way::Telegram,
        step_back: Duration::ZERO,
    };
    let changed = status_change::change_status(pool, sources, &wanted).await?;
    if let (StatusChangeOutcome::Done { .. }, Some(place)) = (&changed, &query.message) {
        reach::answered(pool, pressed.event, place.chat().id.0, &by).await?;
    }
    Ok(told(words, pressed.kind, &changed, to))
}

/// What came of it, as people read it.
fn told(words: &Words, kind: SubjectKind, outcome: &StatusChangeOutcome, to: Status) -> String {
    let (text, current) = match outcome {
        StatusChangeOutcome::Done { .. } => ("pressed.done", None),
        StatusChangeOutcome::Already(current) if current.by.is_none() => ("pressed.already", Some(current)),
        StatusChangeOutcome::Already(current) => ("pressed.already_by", Some(current)),
        StatusChangeOutcome::Refused { message: Some(message), .. } => {
            return plain(words.get("pressed.refused"), &[("message", message)], ANSWER_CHARACTERS);
        }
        StatusChangeOutcome::NotAllowed(current) | StatusChangeOutcome::Denied(current) | StatusChangeOutcome::Refused { current, .. } => {
            let text = if current.by.is_none() { "pressed.not_allowed" } else { "pressed.not_allowed_by" };
            (text, Some(current))
        }
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

/// Swaps the buttons below the message. That is all it does, so a failure is only logged: the press can be repeated.
async fn show(client: &Client, query: &CallbackQuery, rows: &[Vec<Button>]) {
    let Some(place) = &query.message else { return };
    let request = client
        .bot
        .edit_message_reply_markup(place.chat().id, place.id())
        .reply_markup(keyboard(rows));
    match timeout(ASK_DEADLINE, request).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(reason = reason(&error), "buttons were not swapped"),
        Err(_) => tracing::debug!("buttons were not swapped in time"),
    }
}

/// Ends the button's spinning. Old presses cannot be answered any more, which is no harm.
async fn answer(client: &Client, query: &CallbackQuery, text: String) {
    let request = client.bot.answer_callback_query(query.id.clone()).text(text);
    match timeout(ASK_DEADLINE, request).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(reason = reason(&error), "a press was not answered"),
        Err(_) => tracing::debug!("a press was not answered in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_is_read_and_nonsense_is_not() {
        assert_eq!(read("s:91:preparing"), Some((91, Press::Become(Status::Preparing))));
        assert_eq!(read("r:91"), Some((91, Press::AskWhy)));
        assert_eq!(read("x:91:2"), Some((91, Press::Reject("2"))));
        assert_eq!(read("b:91"), Some((91, Press::Back)));
        for wrong in ["", "s", "s:91", "s:x:ready", "s:91:eaten", "r:91:1", "q:91"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
