//! Writes notes: short, urgent messages next to the order's own message. For example, a note says that the order was
//! cancelled, or that nobody answers it. This module also writes the first line of the message of an order that nobody
//! answered in time. The line says why the chat gets the order.

use std::time::Duration;

use super::message::{self, Message};
use crate::delivery::event_view::{EventView, Item};
use crate::delivery::next_message::Escalated;
use crate::delivery::next_message::{Note, Noted};
use crate::text::catalog::{self, Catalog};
use crate::text::html::{Html, MESSAGE_UNITS, plain};
use crate::text::value::{inline, moment};

/// Maximum length of a text that is inserted into a line, such as the title of a chat, characters. A longer text is
/// cut.
const LINE_CHARACTERS: usize = 200;

/// Writes a message with one note (a short, urgent message about an order), or with several notes of the same kind.
pub(super) fn render(noted: &Noted) -> Message {
    let words = catalog::of_store(&noted.style.language, &noted.style.store);
    let mut html = Html::new(MESSAGE_UNITS);
    match noted.about.as_slice() {
        [item] => one(&mut html, words, noted, item),
        items => several(&mut html, words, noted.note, items),
    }
    if let Some(store) = &noted.style.store_name {
        html.line(words.get("message.store"), &[("store", store)]);
    }
    message::only(html.finish())
}

fn one(html: &mut Html, words: &Catalog, noted: &Noted, item: &Item) {
    let note = noted.note;
    let subject = &item.event.subject;
    let number = inline(&subject.number);
    match note {
        // Repeat the title of the order's message, because this message may be far above the note.
        Note::Cancelled | Note::Shown => html.line(words.get(&message::title(&item.event)), &[("number", &number)]),
        Note::Unanswered => unanswered(html, words, &item.event, item.age),
        Note::Late => {
            let time = item
                .event
                .promised_at()
                .map(|at| moment(at, &noted.style.time_zone, words))
                .unwrap_or_default();
            html.line(words.get("note.order_late"), &[("number", &number), ("time", &time)]);
        }
    }
    if let Some(reason) = subject.reason.as_ref().filter(|_| note == Note::Cancelled) {
        html.line(words.get("message.reason"), &[("reason", &inline(reason))]);
    }
}

fn several(html: &mut Html, words: &Catalog, note: Note, items: &[Item]) {
    let count = items.len().to_string();
    html.line(words.get(&format!("note.many_{}", note.as_str())), &[("count", &count)]);
    for item in items {
        let subject = &item.event.subject;
        let name = format!("note.line_{}", subject.kind.as_str());
        html.line(words.get(&name), &[("number", &inline(&subject.number))]);
    }
}

fn unanswered(html: &mut Html, words: &Catalog, view: &EventView, waited: Duration) {
    let name = format!("note.{}_unanswered", view.subject.kind.as_str());
    let values = [("number", inline(&view.subject.number)), ("time", time(words, waited))];
    html.line(
        words.get(&name),
        &values.each_ref().map(|(name, value)| (*name, value.as_str())),
    );
}

/// Writes why this chat gets an order that nobody has answered: how long the order has waited, and who already has it.
pub(super) fn escalated(html: &mut Html, words: &Catalog, view: &EventView, escalated: &Escalated) {
    unanswered(html, words, view, escalated.waited);
    let panel = escalated.panel.then(|| words.get("note.panel").to_owned());
    let chats = escalated
        .chats
        .iter()
        .map(|chat| plain(words.get("note.chat"), &[("chat", &inline(chat))], LINE_CHARACTERS));
    let informed: Vec<String> = panel.into_iter().chain(chats).collect();
    match informed.is_empty() {
        true => html.line(words.get("note.told_nobody"), &[]),
        false => html.line(words.get("note.told"), &[("who", &informed.join(", "))]),
    }
}

/// A duration in words, such as `3 min`.
pub(super) fn time(words: &Catalog, time: Duration) -> String {
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
