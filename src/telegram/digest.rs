//! Writes one message about many orders and bookings. Such a message is a digest, or an answer to `/orders` or
//! `/today`.

use std::collections::BTreeMap;

use super::message::{Message, status_name};
use super::note;
use crate::delivery::event_view::{EventView, Item as Delivered};
use crate::delivery::next_message::{Button, ChatFormat, DigestReason, OpenButton};
use crate::delivery::reopen::OpenOrders;
use crate::domain::Subject;
use crate::domain::event::{EventType, PartnerEvent};
use crate::domain::status::Status;
use crate::text::catalog::{self, Catalog};
use crate::text::html::{Html, MESSAGE_UNITS};
use crate::text::value::{amount, inline, moment};

/// The most buttons of one message. Telegram allows up to 100.
const BUTTONS: usize = 96;
/// The most buttons in one row.
const BUTTONS_OF_A_ROW: usize = 4;
/// Maximum number of open orders in one message of the answer to `/orders`. The lines and the buttons of so many orders
/// fit into one message.
const LISTED_TOGETHER: usize = 40;
/// The prefix of the data of a button that sends an order's message. The id of the order's event follows.
const OPEN: &str = "o:";
/// Maximum length of an order's number on a button, characters.
const NUMBER_CHARACTERS: usize = 20;

/// Selects as many items from the start of `items` as fit into one digest (one message for many events), at least one.
/// Returns them sorted by event, oldest first.
pub fn that_fit(style: &ChatFormat, mut items: Vec<Delivered>) -> Vec<Delivered> {
    let words = catalog::of_store(&style.language, &style.store);
    let mut html = Html::new(MESSAGE_UNITS);
    head(&mut html, words, style, items.len(), DigestReason::ChatWasAway);
    html.line(words.get("digest.others"), &[]);
    let lines = items.iter().take_while(|item| {
        line(&mut html, words, style, &item.event);
        !html.is_full()
    });
    let fitting = lines.count().max(1);
    items.truncate(fitting);
    items.sort_unstable_by_key(|item| item.event.id);
    items
}

/// Writes a digest: one message with a line for each event. Each pending order has a button that sends the order's own
/// message. The title says why the events are in a digest.
pub(super) fn digest(style: &ChatFormat, items: &[Delivered], reason: DigestReason) -> Message {
    let words = catalog::of_store(&style.language, &style.store);
    let mut html = Html::new(MESSAGE_UNITS);
    head(&mut html, words, style, items.len(), reason);
    let waiting = waiting(items.iter().map(|item| &item.event));
    if waiting.len() > BUTTONS {
        html.line(words.get("digest.others"), &[]);
    }
    for Delivered { event, .. } in items {
        line(&mut html, words, style, event);
    }
    Message {
        text: html.finish(),
        buttons: buttons(words, waiting),
    }
}

/// Writes the first lines of a digest: the title with the number of events, and the store's name.
fn head(html: &mut Html, words: &Catalog, style: &ChatFormat, count: usize, reason: DigestReason) {
    let title = match reason {
        DigestReason::ChatWasAway => "digest.title_away",
        DigestReason::EngineWasAway => "digest.title_late",
        DigestReason::ManyAtOnce => "digest.title_many",
    };
    html.line(words.get(title), &[("count", &count.to_string())]);
    if let Some(store) = &style.store_name {
        html.line(words.get("message.store"), &[("store", store)]);
    }
}

/// Writes the line of a digest that shows one event.
fn line(html: &mut Html, words: &Catalog, style: &ChatFormat, event: &EventView) {
    let it = &event.subject;
    let status = it
        .status_word
        .as_deref()
        .map_or_else(|| status_name(words, it.kind, it.status.as_str()).to_owned(), inline);
    let total = it.total.map(|total| amount(total, it.currency, words));
    let name = match (event.kind, &total) {
        (EventType::NewOrder, None) => "digest.new_order_free".to_owned(),
        (kind, _) => format!("digest.{}", kind.as_str()),
    };
    let (total, number) = (total.unwrap_or_default(), inline(&it.number));
    let time = moment(event.at, &style.time_zone, words);
    let values = [
        ("time", time.as_str()),
        ("key", &number),
        ("status", &status),
        ("total", &total),
    ];
    html.line(words.get(&name), &values);
}

/// Returns the answer to `/orders`: the text and the buttons of one or more messages. Each message has a line and a
/// button for each of its open orders. The button sends the order's own message.
pub(super) fn list(words: &Catalog, open: &OpenOrders) -> Vec<(String, Vec<Vec<Button>>)> {
    if open.listed.is_empty() {
        return vec![(words.get("orders.none").to_owned(), Vec::new())];
    }
    let count = (open.listed.len() + open.more).to_string();
    let pages = open.listed.chunks(LISTED_TOGETHER);
    let last = pages.len() - 1;
    let page = |(number, orders): (usize, &[Delivered])| {
        let mut html = Html::new(MESSAGE_UNITS);
        match number {
            0 => html.line(words.get("orders.title"), &[("count", &count)]),
            _ => html.line(words.get("orders.title_more"), &[]),
        }
        open_lines(&mut html, words, orders);
        if number == last && open.more > 0 {
            html.line(words.get("orders.more"), &[("count", &open.more.to_string())]);
        }
        let buttons = buttons(words, orders.iter().map(|item| &item.event).collect());
        (html.finish(), buttons)
    };
    pages.enumerate().map(page).collect()
}

fn open_lines(html: &mut Html, words: &Catalog, orders: &[Delivered]) {
    for Delivered { event, age, .. } in orders {
        let it = &event.subject;
        let status = it
            .status_word
            .as_deref()
            .map_or_else(|| status_name(words, it.kind, it.status.as_str()).to_owned(), inline);
        let (number, time) = (inline(&it.number), note::time(words, *age));
        let name = format!("orders.line_{}", it.kind.as_str());
        html.line(
            words.get(&name),
            &[("number", number.as_str()), ("status", &status), ("time", &time)],
        );
    }
}

/// Returns the newest event of each pending order and booking, sorted by the id of the event.
fn waiting<'a>(events: impl Iterator<Item = &'a EventView>) -> Vec<&'a EventView> {
    let mut last = BTreeMap::new();
    for event in events {
        last.insert(event.subject.id.clone(), event);
    }
    let mut waiting: Vec<&EventView> = last.into_values().collect();
    waiting.retain(|event| event.subject.visible_status() == Some(Status::Pending));
    waiting.sort_unstable_by_key(|event| event.id);
    waiting
}

/// Returns a button for each pending order. `last` has the newest event of each order of a store's day. The second
/// value is false if some pending orders have no button, because a message cannot have so many.
pub(super) fn waiting_buttons<'a>(
    words: &Catalog,
    last: impl Iterator<Item = &'a PartnerEvent>,
) -> (Vec<Vec<Button>>, bool) {
    let waiting = last.filter_map(|event| {
        let subject = event.subject.as_deref()?;
        (subject.visible_status() == Some(Status::Pending)).then_some((event.id.0, subject))
    });
    let waiting: Vec<(i64, &Subject)> = waiting.collect();
    let are_all = waiting.len() <= BUTTONS;
    (rows(words, waiting.into_iter()), are_all)
}

/// Returns a button for each of these events, up to the limit of one message. A press of the button sends the data
/// `o:EVENT` to the bot, which then sends the order's own message.
fn buttons(words: &Catalog, events: Vec<&EventView>) -> Vec<Vec<Button>> {
    rows(words, events.into_iter().map(|event| (event.id, &*event.subject)))
}

fn rows<'a>(words: &Catalog, events: impl Iterator<Item = (i64, &'a Subject)>) -> Vec<Vec<Button>> {
    let button = |(event, subject): (i64, &Subject)| {
        let number: String = inline(&subject.number).chars().take(NUMBER_CHARACTERS).collect();
        let label = words.get("button.open").replace("{number}", &number);
        OpenButton { event, label }
    };
    let buttons: Vec<OpenButton> = events.take(BUTTONS).map(button).collect();
    open_rows(&buttons)
}

/// Puts the buttons of a list of orders into rows. A press of a button sends the message of one order.
pub(super) fn open_rows(buttons: &[OpenButton]) -> Vec<Vec<Button>> {
    let row = |row: &[OpenButton]| {
        row.iter()
            .map(|button| (button.label.clone(), format!("{OPEN}{}", button.event)))
            .collect()
    };
    buttons.chunks(BUTTONS_OF_A_ROW).map(row).collect()
}

/// Selects the buttons that send the message of one order when somebody presses them.
pub(super) fn open_buttons(rows: &[Vec<Button>]) -> Vec<OpenButton> {
    let button = |(label, press): &Button| {
        let event = press.strip_prefix(OPEN)?.parse().ok()?;
        let label = label.clone();
        Some(OpenButton { event, label })
    };
    rows.iter().flatten().filter_map(button).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::render::tests::{style, view};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_digest_takes_as_many_events_as_it_has_room_for_and_shows_each_of_them() {
        let event = |id: i64| Delivered {
            id,
            event: EventView {
                id,
                ..view(
                    EventType::NewOrder,
                    &json!({"id": format!("{id:040}"), "status": "pending", "total": 100}),
                )
            },
            age: Duration::ZERO,
        };
        let fitting = that_fit(&style("en"), (0..200).map(event).collect());
        let text = digest(&style("en"), &fitting, DigestReason::ChatWasAway).text;
        assert!((40..100).contains(&fitting.len()), "{}", fitting.len());
        for item in &fitting {
            assert!(text.contains(&format!("{:040}", item.id)), "{}", item.id);
        }
        assert!(!text.contains('…'));
        let huge = Delivered {
            id: 1,
            event: view(
                EventType::NewOrder,
                &json!({"id": "x".repeat(5000), "status": "pending"}),
            ),
            age: Duration::ZERO,
        };
        assert_eq!(that_fit(&style("en"), vec![huge]).len(), 1);
    }

    #[test]
    fn what_waits_for_an_answer_can_be_opened_and_nothing_else() {
        let of = |id: i64, key: &str, status: &str| EventView {
            id,
            ..view(EventType::NewOrder, &json!({"id": key, "status": status}))
        };
        let events = [
            of(1, "a", "pending"),
            of(2, "b", "pending"),
            of(3, "b", "preparing"),
            of(4, "c", "pending"),
        ];
        let buttons = buttons(catalog::of("en"), waiting(events.iter()));
        let presses: Vec<&str> = buttons.iter().flatten().map(|(_, press)| press.as_str()).collect();
        assert_eq!(presses, ["o:1", "o:4"]);
    }
}
