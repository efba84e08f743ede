//! What is said of an order beside its own message: that it was cancelled, that nobody answers, and why it comes to a chat
//! that does not get each order.

use std::time::Duration;

use super::html::{Html, MESSAGE_UNITS, plain};
use super::message::{self, Message};
use super::words::{self, Words};
use crate::delivery::note::{Note, Noted};
use crate::delivery::work::{Escalated, Told};

/// Of what is put into a line, characters.
const LINE_CHARACTERS: usize = 200;

/// Writes a note.
pub(super) fn render(noted: &Noted) -> Message {
    let words = words::of(&noted.style.language);
    let mut html = Html::new(MESSAGE_UNITS);
    let mut about = noted.about.iter().map(|item| &item.event);
    match (about.next(), noted.about.len()) {
        (Some(told), 1) => one(&mut html, words, noted.note, told),
        _ => several(&mut html, words, noted),
    }
    if let Some(store) = &noted.style.store_name {
        html.line(words.get("message.store"), &[("store", store)]);
    }
    message::only(html.finish())
}

fn one(html: &mut Html, words: &Words, note: Note, told: &Told) {
    let name = format!("note.{}_{}", message::kind_of(told.kind).as_str(), note.as_str());
    let waited = time(words, told.age);
    html.line(
        words.get(&name),
        &[("key", &one_line(message::key(told))), ("time", &waited)],
    );
    if let Some(reason) = message::text(told, "reason").filter(|_| note == Note::Cancelled) {
        html.line(words.get("message.reason"), &[("reason", &one_line(reason))]);
    }
}

fn several(html: &mut Html, words: &Words, noted: &Noted) {
    let count = noted.about.len().to_string();
    html.line(
        words.get(&format!("note.many_{}", noted.note.as_str())),
        &[("count", &count)],
    );
    for item in &noted.about {
        let name = format!("note.line_{}", message::kind_of(item.event.kind).as_str());
        let waited = time(words, item.event.age);
        html.line(
            words.get(&name),
            &[("key", &one_line(message::key(&item.event))), ("time", &waited)],
        );
    }
}

/// Why an order comes to this chat: what stands above it.
pub(super) fn escalated(html: &mut Html, words: &Words, told: &Told, escalated: &Escalated) {
    let name = format!("note.{}_unanswered", message::kind_of(told.kind).as_str());
    let waited = time(words, escalated.waited);
    html.line(
        words.get(&name),
        &[("key", &one_line(message::key(told))), ("time", &waited)],
    );
    let panel = escalated.panel.then(|| words.get("note.panel").to_owned());
    let chats = escalated
        .chats
        .iter()
        .map(|chat| plain(words.get("note.chat"), &[("chat", &one_line(chat))], LINE_CHARACTERS));
    let told: Vec<String> = panel.into_iter().chain(chats).collect();
    match told.is_empty() {
        true => html.line(words.get("note.told_nobody"), &[]),
        false => html.line(words.get("note.told"), &[("who", &told.join(", "))]),
    }
}

/// How long something took, in words: `3 min`.
pub(super) fn time(words: &Words, time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    let (hours, rest) = (minutes / 60, minutes % 60);
    let (name, values) = match (hours, minutes) {
        (0, 0) => ("time.seconds", [("count", time.as_secs()), ("minutes", 0)]),
        (0, _) => ("time.minutes", [("count", minutes), ("minutes", 0)]),
        _ if rest == 0 => ("time.hours", [("count", hours), ("minutes", 0)]),
        _ => ("time.hours_minutes", [("count", hours), ("minutes", rest)]),
    };
    let values = values.map(|(name, value)| (name, value.to_string()));
    let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    plain(words.get(name), &values, LINE_CHARACTERS)
}

/// No text of a customer's looks like a line of ours.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
