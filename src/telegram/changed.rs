//! Writes the changed fields of an order or booking into a message, with the old and the new value of each. For items,
//! writes only the removed and the added ones.

use std::collections::HashMap;

use super::message::{field_name, payment};
use crate::delivery::event_view::EventView;
use crate::delivery::next_message::ChatFormat;
use crate::domain::Subject;
use crate::domain::subject::{Item, OrderType, Quantity};
use crate::text::catalog::Catalog;
use crate::text::html::Html;
use crate::text::value::{amount, inline, moment, said_of};

/// The most lines about removed and added items. If there are more items, a last line says how many.
const ITEMS: usize = 20;
/// The longest value of a field in the message, characters. A longer value is cut.
const VALUE_CHARACTERS: usize = 200;

/// Writes the changed fields of the order or booking. Writes nothing if the event is not a change of fields, or if the
/// previous state is not known.
pub(super) fn changed(html: &mut Html, words: &Catalog, style: &ChatFormat, latest: &EventView) {
    let Some(before) = latest.before.as_deref().filter(|_| !latest.changed.is_empty()) else {
        return;
    };
    html.line(words.get("message.changed"), &[]);
    for field in &latest.changed {
        if *field == "items" && !is_unreadable(before, field) && !is_unreadable(&latest.subject, field) {
            items(html, words, before, &latest.subject);
            continue;
        }
        let (old, new) = (
            value(words, style, before, field),
            value(words, style, &latest.subject, field),
        );
        let name = match (old.is_empty(), new.is_empty()) {
            (false, false) => "message.changed_field",
            (true, _) => "message.changed_set",
            (false, true) => "message.changed_unset",
        };
        html.line(
            words.get(name),
            &[("field", field_name(words, field)), ("old", &old), ("new", &new)],
        );
    }
}

fn is_unreadable(it: &Subject, field: &str) -> bool {
    it.unreadable.iter().any(|unreadable| unreadable.field == field)
}

/// The value of a field, as text for people. Empty: the field has no value.
fn value(words: &Catalog, style: &ChatFormat, it: &Subject, field: &str) -> String {
    if let Some(unreadable) = it.unreadable.iter().find(|unreadable| unreadable.field == field) {
        return short(&inline(&unreadable.text));
    }
    let text = |text: &Option<String>| text.as_deref().map(inline);
    let value = match field {
        "number" => Some(inline(&it.number)),
        "customer_name" => text(&it.customer_name),
        "phone" => text(&it.phone),
        "address" => text(&it.address),
        "comment" => text(&it.comment),
        "persons" | "guests" => it.persons.as_ref().map(said_of),
        "order_type" => it.order_type.as_ref().map(|order_type| match order_type {
            OrderType::Other(word) => inline(word),
            known => words.get(&format!("message.type_{}", known.as_str())).to_owned(),
        }),
        "payment" => payment(it, words),
        "total" => it.total.map(|total| amount(total, it.currency, words)),
        "due_at" | "starts_at" => it.due_at.map(|at| moment(at, &style.time_zone, words)),
        "promised_minutes" => it
            .promised_minutes
            .map(|minutes| words.get("time.minutes").replace("{count}", &minutes.to_string())),
        "extra" => {
            let extra: Vec<String> = it
                .extra
                .iter()
                .map(|extra| format!("{}: {}", inline(&extra.label), inline(&extra.value)))
                .collect();
            Some(extra.join("; "))
        }
        _ => None,
    };
    short(&value.unwrap_or_default())
}

fn short(text: &str) -> String {
    match text.chars().count() > VALUE_CHARACTERS {
        true => text.chars().take(VALUE_CHARACTERS - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// Writes the items that were removed, and then the items that were added.
fn items(html: &mut Html, words: &Catalog, before: &Subject, after: &Subject) {
    let mut surplus: HashMap<String, i64> = HashMap::new();
    for (subject, by) in [(after, 1), (before, -1)] {
        for item in &subject.items.list {
            *surplus.entry(said(item)).or_default() += by;
        }
    }
    let mut lines = Vec::new();
    for (subject, sign, name) in [
        (before, -1, "message.changed_item_out"),
        (after, 1, "message.changed_item_in"),
    ] {
        for item in subject.items.list.iter().map(said) {
            if let Some(left) = surplus.get_mut(&item).filter(|left| **left * sign > 0) {
                *left -= sign;
                lines.push((name, item));
            }
        }
    }
    for (name, item) in lines.iter().take(ITEMS) {
        html.line(words.get(name), &[("item", &short(item))]);
    }
    // Each state of the order may itself omit items. So add the difference of these numbers to the lines beyond the
    // limit.
    let more = lines.len().saturating_sub(ITEMS) + before.items.omitted.abs_diff(after.items.omitted);
    if more > 0 {
        html.line(words.get("message.changed_more"), &[("count", &more.to_string())]);
    }
}

/// Returns an item as one line, such as `2 × Pizza (jalapeño; no onions)`.
fn said(item: &Item) -> String {
    let mut text = match item.quantity == Quantity::ONE {
        true => inline(&item.name),
        false => format!("{} × {}", said_of(&item.quantity), inline(&item.name)),
    };
    let details: Vec<String> = item.options.iter().chain(&item.note).map(|text| inline(text)).collect();
    if !details.is_empty() {
        text = format!("{text} ({})", details.join("; "));
    }
    text
}
