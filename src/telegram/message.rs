//! What a message says, and the buttons below it. Pure: a claim's work in, text and buttons out.

use iso_currency::Currency;
use serde_json::Value;

use super::html::{Html, MESSAGE_UNITS};
use super::note;
use super::words::{self, Words};
use crate::attachment::Kind;
use crate::delivery::work::{Alarm, Escalated, Item, Style, Told, Work};
use crate::event::EventType;
use crate::order::Status;

/// Items of an order that a message lists; a person opens the panel for more.
const ITEMS: usize = 50;

/// A button: what it says, and what its press sends back, 64 bytes at most.
pub type Button = (String, String);

/// A message, ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// HTML.
    pub text: String,
    /// Rows of buttons.
    pub buttons: Vec<Vec<Button>>,
}

/// Writes it.
pub fn render(work: &Work) -> Message {
    match work {
        Work::Subject(it) => subject(&it.style, &it.base, &it.latest, it.by.as_deref(), it.escalated.as_ref()),
        Work::Digest {
            style, items, was_away, ..
        } => digest(style, items, *was_away),
        Work::Note(noted) => note::render(noted),
        Work::Alarm { style, alarm, .. } => only(alarm_text(style, *alarm)),
        Work::Words { text, .. } => only(text.clone()),
        Work::Keyboard { rows, .. } => Message {
            text: String::new(),
            buttons: rows.clone(),
        },
    }
}

/// Without buttons.
pub(super) fn only(text: String) -> Message {
    Message {
        text,
        buttons: Vec::new(),
    }
}

pub(super) fn kind_of(event: EventType) -> Kind {
    match event {
        EventType::NewBooking | EventType::BookingStatusChanged | EventType::BookingCancelled => Kind::Booking,
        _ => Kind::Order,
    }
}

pub(super) fn key(event: &Told) -> &str {
    let data = &event.data;
    data["order_id"].as_str().or(data["booking_id"].as_str()).unwrap_or("?")
}

pub(super) fn text<'a>(event: &'a Told, name: &str) -> Option<&'a str> {
    event.data[name].as_str().filter(|text| !text.is_empty())
}

/// A number, whether the shop's column has it as one, with decimals, or as text.
fn number(event: &Told, name: &str) -> Option<i64> {
    let value = &event.data[name];
    let decimal = || value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    value.as_i64().or_else(|| {
        decimal()
            .filter(|number| number.is_finite())
            .map(|number| number.round() as i64)
    })
}

/// A number as it is written here; where it is none, in the shop's own words.
fn said(event: &Told, name: &str, write: impl Fn(i64) -> String) -> Option<String> {
    let number = number(event, name).map(write);
    number.or_else(|| text(event, name).map(str::to_owned))
}

/// What it costs, of a number of minor units.
fn total(event: &Told, style: &Style, words: &Words) -> Option<String> {
    said(event, "total", |minor| amount(minor, &style.currency, words))
}

/// What certainly matters comes first and the items last, so that the items are what is cut.
fn subject(style: &Style, base: &Told, latest: &Told, by: Option<&str>, escalated: Option<&Escalated>) -> Message {
    let words = words::of(&style.language);
    let kind = kind_of(base.kind);
    let mut html = Html::new(MESSAGE_UNITS);
    let waits = text(latest, "status") == Some(Status::Pending.as_str());
    if let Some(escalated) = escalated.filter(|_| waits) {
        note::escalated(&mut html, words, base, escalated);
    }
    let title = match (base.kind, kind) {
        (EventType::NewOrder, _) => "message.new_order",
        (EventType::NewBooking, _) => "message.new_booking",
        (_, Kind::Order) => "message.order",
        (_, Kind::Booking) => "message.booking",
    };
    let mut line = |name: &str, values: &[(&str, &str)]| html.line(words.get(name), values);
    line(title, &[("key", key(base))]);
    if let Some(store) = &style.store_name {
        line("message.store", &[("store", store)]);
    }
    if let Some(name) = text(base, "customer_name") {
        line("message.customer", &[("name", name)]);
    }
    match text(base, "order_type") {
        Some("delivery") => line("message.type_delivery", &[]),
        Some("pickup") => line("message.type_pickup", &[]),
        _ => {}
    }
    if let Some(guests) = said(base, "guests", |guests| guests.to_string()) {
        line("message.guests", &[("guests", &guests)]);
    }
    if let Some(time) = base.starts_at.as_deref().or_else(|| text(base, "starts_at")) {
        line("message.starts_at", &[("time", time)]);
    }
    if let Some(total) = total(base, style, words) {
        line("message.total", &[("total", &total)]);
    }
    if matches!(base.kind, EventType::NewOrder | EventType::NewBooking) {
        line("message.at", &[("time", &base.at)]);
    }
    let status = text(latest, "status").unwrap_or_default();
    if status != Status::Pending.as_str() {
        let name = status_name(words, kind, status);
        match by {
            Some(by) => line(
                "message.status_by",
                &[("status", name), ("time", &latest.at), ("by", by)],
            ),
            None => line("message.status", &[("status", name), ("time", &latest.at)]),
        }
        if let Some(reason) = text(latest, "reason") {
            line("message.reason", &[("reason", reason)]);
        }
    }
    items(&mut html, words, base);
    Message {
        text: html.finish(),
        buttons: buttons(words, kind, base, status),
    }
}

/// What was ordered, however the shop writes it: text, or objects with a name and a quantity.
fn items(html: &mut Html, words: &Words, base: &Told) {
    if base.data["items_omitted"].as_bool() == Some(true) {
        return html.line(words.get("message.items_omitted"), &[]);
    }
    let Some(items) = base.data["items"].as_array() else {
        return;
    };
    for item in items.iter().take(ITEMS) {
        let field = |names: [&str; 3]| names.iter().map(|name| &item[*name]).find(|value| !value.is_null());
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let name = item
            .as_str()
            .map(str::to_owned)
            .or_else(|| field(["name", "title", "product"]).map(plain));
        let name = name.unwrap_or_else(|| item.to_string());
        match field(["quantity", "qty", "count"]).map(plain) {
            Some(quantity) if quantity != "1" => {
                html.line(
                    words.get("message.item_many"),
                    &[("quantity", &quantity), ("name", &name)],
                );
            }
            _ => html.line(words.get("message.item"), &[("name", &name)]),
        }
        if html.is_full() {
            return;
        }
    }
    if items.len() > ITEMS {
        html.line("…", &[]);
    }
}

/// The name of a status; its own, where the shop has others.
pub fn status_name<'a>(words: &'a Words, kind: Kind, status: &'a str) -> &'a str {
    if Status::from_name(status).is_none() {
        return status;
    }
    let name = match kind {
        Kind::Order => format!("status.{status}"),
        Kind::Booking => format!("status.booking_{status}"),
    };
    words.find(&name).unwrap_or(status)
}

/// The buttons of a message.
fn buttons(words: &Words, kind: Kind, base: &Told, status: &str) -> Vec<Vec<Button>> {
    let delivered = text(base, "order_type") == Some("delivery");
    answers(words, kind, base.id, status, delivered)
}

/// What may be done with it now. A press sends `s:EVENT:STATUS`, or `r:EVENT` to be asked for a reason.
pub fn answers(words: &Words, kind: Kind, event: i64, status: &str, delivered: bool) -> Vec<Vec<Button>> {
    let Some(status) = Status::from_name(status) else {
        return Vec::new();
    };
    let button = |to: &Status| {
        let label = match (to, kind) {
            (Status::Preparing, Kind::Order) => "button.accept",
            (Status::Preparing, Kind::Booking) => "button.accept_booking",
            (Status::Rejected, _) => "button.reject",
            (Status::Ready, _) => "button.ready",
            (Status::Delivering, _) => "button.delivering",
            (_, Kind::Order) => "button.completed",
            (_, Kind::Booking) => "button.completed_booking",
        };
        let press = match to {
            Status::Rejected => format!("r:{event}"),
            to => format!("s:{event}:{}", to.as_str()),
        };
        (words.get(label).to_owned(), press)
    };
    let row: Vec<Button> = status.next(kind, delivered).iter().map(button).collect();
    if row.is_empty() { Vec::new() } else { vec![row] }
}

/// The reasons for a rejection. A press sends `x:EVENT:NUMBER`, or `b:EVENT` to go back.
pub fn reasons(words: &Words, event: i64) -> Vec<Vec<Button>> {
    let mut rows: Vec<Vec<Button>> = words
        .keys("reject_reason")
        .map(|number| {
            let label = words.get(&format!("reject_reason.{number}")).to_owned();
            vec![(label, format!("x:{event}:{number}"))]
        })
        .collect();
    rows.push(vec![(words.get("button.back").to_owned(), format!("b:{event}"))]);
    rows
}

/// As many of them as one digest has room for, in the order in which they happened; one at least.
pub fn that_fit(style: &Style, mut items: Vec<Item>) -> Vec<Item> {
    let words = words::of(&style.language);
    let mut html = Html::new(MESSAGE_UNITS);
    head(&mut html, words, style, items.len(), true);
    let lines = items.iter().take_while(|item| {
        line(&mut html, words, style, &item.event);
        !html.is_full()
    });
    let fitting = lines.count().max(1);
    items.truncate(fitting);
    items.sort_unstable_by_key(|item| item.event.id);
    items
}

fn digest(style: &Style, items: &[Item], was_away: bool) -> Message {
    let words = words::of(&style.language);
    let mut html = Html::new(MESSAGE_UNITS);
    head(&mut html, words, style, items.len(), was_away);
    for Item { event, .. } in items {
        line(&mut html, words, style, event);
    }
    only(html.finish())
}

/// What stands above a digest.
fn head(html: &mut Html, words: &Words, style: &Style, count: usize, was_away: bool) {
    let title = if was_away {
        "digest.title_away"
    } else {
        "digest.title_rush"
    };
    html.line(words.get(title), &[("count", &count.to_string())]);
    if let Some(store) = &style.store_name {
        html.line(words.get("message.store"), &[("store", store)]);
    }
}

/// An event in a digest.
fn line(html: &mut Html, words: &Words, style: &Style, event: &Told) {
    let status = text(event, "status").unwrap_or_default();
    let status = status_name(words, kind_of(event.kind), status);
    let total = total(event, style, words);
    let name = match (event.kind, &total) {
        (EventType::NewOrder, None) => "digest.new_order_free".to_owned(),
        (kind, _) => format!("digest.{}", kind.as_str()),
    };
    let total = total.unwrap_or_default();
    let values = [
        ("time", event.at.as_str()),
        ("key", key(event)),
        ("status", status),
        ("total", &total),
    ];
    html.line(words.get(&name), &values);
}

fn alarm_text(style: &Style, alarm: Alarm) -> String {
    let words = words::of(&style.language);
    let name = match alarm {
        Alarm::Raised => "alarm.raised",
        Alarm::ClearedByPanel => "alarm.cleared_panel",
        Alarm::ClearedByClosing => "alarm.cleared_closing",
    };
    let store = style.store_name.as_deref().unwrap_or(&style.store);
    super::html::filled(words.get(name), &[("store", store)])
}

/// An amount of minor units as people of the language read it: `500,00 ₽`.
fn amount(minor: i64, currency: &str, words: &Words) -> String {
    let known = Currency::from_code(currency);
    let digits = known.and_then(Currency::exponent).map_or(2, usize::from);
    let sign = known.map_or_else(|| currency.to_owned(), |known| known.symbol().to_string());
    let text = format!("{:0>width$}", minor.unsigned_abs(), width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push_str(words.get("language.thousands"));
        }
        grouped.push(digit);
    }
    if digits > 0 {
        grouped = format!("{grouped}{}{fraction}", words.get("language.decimal"));
    }
    let minus = if minor < 0 { "-" } else { "" };
    if words.get("language.sign") == "before" {
        format!("{minus}{sign}{grouped}")
    } else {
        format!("{minus}{grouped}\u{a0}{sign}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::Duration;

    fn style(language: &str) -> Style {
        Style {
            store: "7".into(),
            store_name: Some("Пекарня <у дома>".into()),
            currency: "RUB".into(),
            language: language.into(),
            muted: false,
        }
    }

    fn told(kind: EventType, data: Value) -> Told {
        Told {
            id: 91,
            kind,
            data,
            at: "19:03".into(),
            starts_at: None,
            age: Duration::ZERO,
        }
    }

    fn order() -> Told {
        let items = json!([{"name": "Пицца & сыр", "quantity": 2}, "вода"]);
        let data = json!({"order_id": "123", "status": "pending", "customer_name": "Иван", "total": 1_250_000,
            "order_type": "delivery", "items": items});
        told(EventType::NewOrder, data)
    }

    #[test]
    fn a_new_order_says_all_that_a_kitchen_needs() {
        let message = subject(&style("ru"), &order(), &order(), None, None);
        let expected = "🔔 <b>Новый заказ №123</b>\n🏪 Пекарня &lt;у дома&gt;\n👤 Иван\n🛵 Доставка\n\
            💰 <b>12 500,00\u{a0}₽</b>\n🕒 Получен в 19:03\n• 2 × Пицца &amp; сыр\n• вода";
        assert_eq!(message.text, expected);
        let presses: Vec<&str> = message.buttons[0].iter().map(|(_, press)| press.as_str()).collect();
        assert_eq!(presses, ["s:91:preparing", "r:91"]);
    }

    #[test]
    fn what_a_shop_writes_in_its_own_way_is_told_as_it_wrote_it() {
        let of = |data: Value| {
            let told = told(EventType::NewBooking, data);
            subject(&style("ru"), &told, &told, None, None).text
        };
        let words =
            of(json!({"booking_id": "1", "total": "по счёту", "guests": "человек пять", "starts_at": "завтра в семь"}));
        assert!(
            words.contains("по счёту") && words.contains("человек пять") && words.contains("завтра в семь"),
            "{words}"
        );
        for total in [json!(50_000.0), json!("50000"), json!(" 50000.00")] {
            assert!(
                of(json!({"booking_id": "1", "total": total})).contains("500,00\u{a0}₽"),
                "{total}"
            );
        }
    }

    #[test]
    fn a_change_of_status_says_who_made_it_and_offers_the_next_one() {
        let ready = told(
            EventType::OrderStatusChanged,
            json!({"order_id": "123", "status": "ready"}),
        );
        let message = subject(&style("en"), &order(), &ready, Some("Anna"), None);
        assert!(
            message.text.contains("Status: <b>ready</b> (19:03, Anna)"),
            "{}",
            message.text
        );
        assert!(message.text.contains("💰 <b>₽12,500.00</b>"), "{}", message.text);
        assert_eq!(message.buttons[0][0].1, "s:91:delivering");
        let over = told(
            EventType::OrderCancelled,
            json!({"order_id": "123", "status": "cancelled", "reason": "долго"}),
        );
        let message = subject(&style("ru"), &order(), &over, None, None);
        assert!(message.text.contains("ОТМЕНЁН") && message.text.contains("долго") && message.buttons.is_empty());
    }

    #[test]
    fn a_digest_takes_as_many_events_as_it_has_room_for_and_shows_each_of_them() {
        let event = |id: i64| {
            let data = json!({"order_id": format!("{id:040}"), "status": "pending", "total": 100});
            Item {
                id,
                event: Told {
                    id,
                    ..told(EventType::NewOrder, data)
                },
            }
        };
        let fitting = that_fit(&style("en"), (0..200).map(event).collect());
        let text = digest(&style("en"), &fitting, true).text;
        assert!((40..100).contains(&fitting.len()), "{}", fitting.len());
        for item in &fitting {
            assert!(text.contains(&format!("{:040}", item.id)), "{}", item.id);
        }
        assert!(!text.contains('…'));
        let huge = told(EventType::NewOrder, json!({"order_id": "x".repeat(5000)}));
        assert_eq!(that_fit(&style("en"), vec![Item { id: 1, event: huge }]).len(), 1);
    }

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        let ru = words::of("ru");
        assert_eq!(amount(5, "RUB", ru), "0,05\u{a0}₽");
        assert_eq!(amount(-123_456, "JPY", ru), "-123 456\u{a0}¥");
        assert_eq!(
            amount(1_234_567, "KWD", words::of("en")).trim_start_matches(|c: char| !c.is_ascii_digit()),
            "1,234.567"
        );
        assert_eq!(amount(100, "XQQ", ru), "1,00\u{a0}XQQ");
    }

    proptest! {
        #[test]
        fn no_order_makes_a_message_too_long_or_a_button_too_big(
            key in any::<String>(), name in any::<String>(), items in proptest::collection::vec(any::<String>(), 0..80),
        ) {
            let data = json!({"order_id": key, "status": "pending", "customer_name": name, "items": items});
            let message = subject(&style("ru"), &told(EventType::NewOrder, data.clone()), &told(EventType::NewOrder, data), None, None);
            let unescaped = message.text.replace("<b>", "").replace("</b>", "").replace("&lt;", "<").replace("&gt;", ">")
                .replace("&amp;", "&");
            prop_assert!(unescaped.encode_utf16().count() <= MESSAGE_UNITS);
            prop_assert!(message.buttons.iter().flatten().all(|(_, press)| press.len() <= 64));
        }
    }
}
