//! Writes the text that replaces an order's message in a chat, when an operator erases the customer's data.

use super::message::{Message, answers, status_name};
use crate::domain::Subject;
use crate::text::catalog;
use crate::text::html::render_template;
use crate::text::value::inline;

/// Builds the message of an order after the customer's data was erased: only the order's number and status, and buttons
/// if the order is open. The caller enqueues this message as an edit of the message in the chat. `event` is the id of
/// the event that the message in the chat shows.
pub fn erased(language: &str, store: &str, subject: &Subject, event: i64) -> Message {
    let words = catalog::of_store(language, store);
    let status = match &subject.status_word {
        Some(word) => inline(word),
        None => status_name(words, subject.kind, subject.status.as_str()).to_owned(),
    };
    let name = format!("erased.{}", subject.kind.as_str());
    let values = [("number", &*inline(&subject.number)), ("status", &*status)];
    Message {
        text: render_template(words.get(&name), &values),
        buttons: answers(words, subject.kind, event, &subject.next()),
    }
}
