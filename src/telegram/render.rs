//! Writes the messages to chats: the text, and the buttons below it. This module itself writes the messages of orders
//! and bookings; `digest` and `note` write other kinds of messages. The module does no I/O.

use super::changed::changed;
use super::digest::{digest, open_rows};
use super::message::{Message, answers, field_name, only, payment, status_name, title};
use super::note;
use crate::delivery::next_message::{Alarm, ChatFormat, OrderMessage, Work};
use crate::domain::Subject;
use crate::domain::status::Status;
use crate::domain::subject::{Item, OrderType, Quantity, name_of_due_at, name_of_persons};
use crate::text::catalog::{self, Catalog};
use crate::text::html::{Html, MESSAGE_UNITS, render_template};
use crate::text::value::{amount, in_url, inline, moment, said_of};
use time::OffsetDateTime;

/// The space for the last line, which has the number of omitted items, UTF-16 units.
const OMITTED_UNITS: usize = 120;
/// Maximum length of one value of an order, such as a comment or an address, characters. A longer value is cut, so that
/// the phone number and the items fit into the message.
const FACT_CHARACTERS: usize = 600;
/// The space that extra fields must leave free for the order's items, UTF-16 units.
const ITEMS_UNITS: usize = 1200;

/// Writes the message to send, such as an order, a digest, a note or a reply.
pub fn render(work: &Work) -> Message {
    match work {
        Work::OrderMessage(it) => subject(it),
        Work::Digest {
            style, items, reason, ..
        } => digest(style, items, *reason),
        Work::Note(noted) => note::render(noted),
        Work::Alarm { style, alarm, .. } => only(alarm_text(style, *alarm)),
        Work::Reply { text, buttons, .. } => Message {
            text: text.clone(),
            buttons: buttons.clone(),
        },
        Work::ListButtons { buttons, .. } => Message {
            text: String::new(),
            buttons: open_rows(buttons),
        },
        Work::Keyboard { rows, .. } => Message {
            text: String::new(),
            buttons: rows.clone(),
        },
    }
}

/// Writes the message of an order or booking. Important facts come first and items last, because the end of a message
/// that is too long is cut.
fn subject(message: &OrderMessage) -> Message {
    let OrderMessage {
        style, base, latest, ..
    } = message;
    let words = catalog::of_store(&style.language, &style.store);
    let it = &latest.subject;
    let mut html = Html::new(MESSAGE_UNITS);
    if let Some(escalated) = message
        .escalated
        .as_ref()
        .filter(|_| it.visible_status() == Some(Status::Pending))
    {
        note::escalated(&mut html, words, base, escalated);
    }
    let mut line = |name: &str, values: &[(&str, &str)]| html.line(words.get(name), values);
    line(&title(latest), &[("number", &inline(&it.number))]);
    if let Some(store) = &style.store_name {
        line("message.store", &[("store", store)]);
    }
    if let Some(word) = &it.status_word {
        line(
            "message.status",
            &[
                ("status", &inline(word)),
                ("time", &moment(latest.at, &style.time_zone, words)),
            ],
        );
    } else if it.status != Status::Pending {
        let name = status_name(words, it.kind, it.status.as_str());
        let time = moment(latest.at, &style.time_zone, words);
        match &message.by {
            Some(by) => line(
                "message.status_by",
                &[("status", name), ("time", &time), ("by", &inline(by))],
            ),
            None => line("message.status", &[("status", name), ("time", &time)]),
        }
    }
    if let Some(reason) = &it.reason {
        line("message.reason", &[("reason", &fact(words, reason))]);
    }
    changed(&mut html, words, style, latest);
    facts(&mut html, words, style, it, message.promised_at);
    extra(&mut html, words, it);
    html.line(
        words.get("message.at"),
        &[("time", &moment(base.at, &style.time_zone, words))],
    );
    items(&mut html, words, it);
    Message {
        text: html.finish(),
        buttons: answers(words, it.kind, base.id, &it.next()),
    }
}

/// Writes the values of an order or booking, such as the address and the total, each in its own line. Other functions
/// write the number, the status and the items.
fn facts(html: &mut Html, words: &Catalog, style: &ChatFormat, it: &Subject, promised_at: Option<OffsetDateTime>) {
    let mut line = |name: &str, values: &[(&str, &str)]| html.line(words.get(name), values);
    if let Some(comment) = &it.comment {
        line("message.comment", &[("comment", &fact(words, comment))]);
    }
    match &it.order_type {
        Some(OrderType::Other(word)) => line("message.type_other", &[("type", &fact(words, word))]),
        Some(known) => line(&format!("message.type_{}", known.as_str()), &[]),
        None => {}
    }
    if let Some(at) = it.due_at {
        let name = format!("message.{}", name_of_due_at(it.kind));
        line(&name, &[("time", &moment(at, &style.time_zone, words))]);
    }
    match (promised_at, it.promised_minutes) {
        (Some(at), _) => line("message.promised_at", &[("time", &moment(at, &style.time_zone, words))]),
        (None, Some(minutes)) => line("message.promised", &[("minutes", &minutes.to_string())]),
        (None, None) => {}
    }
    for (name, place, text) in [
        ("message.customer", "name", &it.customer_name),
        ("message.phone", "phone", &it.phone),
    ] {
        if let Some(text) = text {
            line(name, &[(place, &fact(words, text))]);
        }
    }
    if let Some(address) = &it.address {
        line(
            "message.address",
            &[
                ("address", &fact(words, address)),
                ("map", &in_url(first_characters(address))),
            ],
        );
    }
    if let Some(persons) = &it.persons {
        line(
            &format!("message.{}", name_of_persons(it.kind)),
            &[("persons", &said_of(persons))],
        );
    }
    match (
        it.total.map(|total| amount(total, it.currency, words)),
        payment(it, words),
    ) {
        (Some(total), Some(payment)) => line("message.total_payment", &[("total", &total), ("payment", &payment)]),
        (Some(total), None) => line("message.total", &[("total", &total)]),
        (None, Some(payment)) => line("message.payment", &[("payment", &payment)]),
        (None, None) => {}
    }
}

/// Writes the values that could not be read, and then the extra fields. Stops when only `ITEMS_UNITS` are left in the
/// message. A last line has the number of omitted fields.
fn extra(html: &mut Html, words: &Catalog, it: &Subject) {
    let unreadable = it.unreadable.iter().map(|unreadable| {
        let field = field_name(words, unreadable.field).to_owned();
        let values = [("field", field), ("text", fact(words, &unreadable.text))];
        ("message.unreadable", values)
    });
    let extra = it.extra.iter().map(|extra| {
        let values = [
            ("label", fact(words, &extra.label)),
            ("value", fact(words, &extra.value)),
        ];
        ("message.extra", values)
    });
    let mut left = unreadable.len() + extra.len();
    for (name, values) in unreadable.chain(extra) {
        if html.left() < units_of(words.get(name), &values) + ITEMS_UNITS {
            html.line(words.get("message.facts_omitted"), &[("count", &left.to_string())]);
            return;
        }
        html.line(
            words.get(name),
            &values.each_ref().map(|(name, value)| (*name, value.as_str())),
        );
        left -= 1;
    }
}

/// Returns a value as one line. A value that is too long is cut, and the line ends with the number of omitted
/// characters.
fn fact(words: &Catalog, text: &str) -> String {
    let text = inline(text);
    let more = text.chars().count().saturating_sub(FACT_CHARACTERS);
    if more == 0 {
        return text;
    }
    words
        .get("message.cut")
        .replace("{count}", &more.to_string())
        .replace("{text}", first_characters(&text))
}

/// Returns the first `FACT_CHARACTERS` characters of a text.
fn first_characters(text: &str) -> &str {
    match text.char_indices().nth(FACT_CHARACTERS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// Writes the items of an order that fit into the message. If items are omitted, a last line has their number.
fn items(html: &mut Html, words: &Catalog, it: &Subject) {
    let all = it.items.list.len() + it.items.omitted;
    let mut shown = 0;
    for item in &it.items.list {
        let lines = item_lines(words, item);
        let units: usize = lines
            .iter()
            .map(|(template, values)| units_of(template, values) + 1)
            .sum();
        // Leave room for the line that counts the omitted items.
        if html.left() < units + OMITTED_UNITS {
            break;
        }
        for (template, values) in &lines {
            let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
            html.line(template, &values);
        }
        shown += 1;
    }
    if shown < all {
        html.line(
            words.get("message.items_omitted"),
            &[("count", &(all - shown).to_string())],
        );
    }
}

/// The lines of one item. Each line is a template, with the names and values of its placeholders.
type Lines<'a> = Vec<(&'a str, Vec<(&'static str, String)>)>;

fn item_lines<'a>(words: &'a Catalog, item: &Item) -> Lines<'a> {
    let name = inline(&item.name);
    let mut lines = vec![match item.quantity == Quantity::ONE {
        true => (words.get("message.item"), vec![("name", name)]),
        false => (
            words.get("message.item_many"),
            vec![("quantity", said_of(&item.quantity)), ("name", name)],
        ),
    }];
    if !item.options.is_empty() {
        let options: Vec<String> = item.options.iter().map(|option| inline(option)).collect();
        lines.push((words.get("message.item_options"), vec![("options", options.join(", "))]));
    }
    if let Some(note) = &item.note {
        lines.push((words.get("message.item_note"), vec![("note", inline(note))]));
    }
    lines
}

/// An upper bound of the length of a line after the values are inserted into its template, UTF-16 units.
fn units_of(template: &str, values: &[(&'static str, String)]) -> usize {
    let values: usize = values.iter().map(|(_, value)| value.encode_utf16().count()).sum();
    template.encode_utf16().count() + values
}

fn alarm_text(style: &ChatFormat, alarm: Alarm) -> String {
    let words = catalog::of_store(&style.language, &style.store);
    let name = match alarm {
        Alarm::Raised => "alarm.raised",
        Alarm::ClearedByPanel => "alarm.cleared_panel",
        Alarm::ClearedByClosing => "alarm.cleared_closing",
    };
    let store = style.store_name.as_deref().unwrap_or(&style.store);
    render_template(words.get(name), &[("store", store)])
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use time::OffsetDateTime;

    use crate::delivery::event_view::EventView;
    use crate::domain::event::EventType;
    use crate::domain::money::Currency;
    use crate::domain::subject::{Extra, Visibility};
    use crate::sources::Context;
    use crate::sources::fixtures::{REFERENCE, source};
    use crate::sources::lookup_results::LookupResult;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// For tests: an order's message in this language. `by` is the person who set the current status.
    fn told(language: &str, base: &EventView, latest: &EventView, by: Option<&str>) -> OrderMessage {
        OrderMessage {
            style: style(language),
            subject: latest.subject.id.to_string(),
            base: base.clone(),
            latest: latest.clone(),
            by: by.map(str::to_owned),
            promised_at: None,
            message: None,
            escalated: None,
            sounds: true,
            items: Vec::new(),
        }
    }

    pub(in crate::telegram) fn style(language: &str) -> ChatFormat {
        ChatFormat {
            store: "7".into(),
            store_name: Some("Пекарня <у дома>".into()),
            time_zone: "Europe/Moscow".into(),
            language: language.into(),
            muted: false,
        }
    }

    /// For tests: an event about an order of the reference shop. `data` is the row of the order.
    pub(in crate::telegram) fn view(kind: EventType, data: &Value) -> EventView {
        let source = source(REFERENCE, &[]);
        let context = Context {
            currency: Currency::DEFAULT,
            lookup: LookupResult::Nothing,
        };
        let key = data["id"].as_str().unwrap_or("123");
        let mut subject = source.translate(key, &data.to_string(), context);
        if kind.is_removal() {
            subject.visibility = Visibility::Deleted;
        }
        EventView {
            id: 91,
            kind,
            subject: Arc::new(subject),
            previous: None,
            changed: Vec::new(),
            before: None,
            at: OffsetDateTime::now_utc(),
        }
    }

    fn order(status: &str) -> Value {
        let items =
            json!([{"name": "Пицца & сыр", "quantity": 2, "options": ["халапеньо"], "note": "без лука"}, "вода"]);
        json!({"status": status, "customer_name": "Иван", "customer_phone": "+7 900 123-45-67", "total": 1_250_000,
            "order_type": "delivery", "items": items})
    }

    fn text(language: &str, kind: EventType, data: &Value) -> String {
        let view = view(kind, data);
        subject(&told(language, &view, &view, None)).text
    }

    #[test]
    fn a_new_order_says_all_that_a_kitchen_needs() {
        let view = view(EventType::NewOrder, &order("pending"));
        let message = subject(&told("ru", &view, &view, None));
        let time = moment(view.at, &style("ru").time_zone, catalog::of("ru"));
        let expected = format!(
            "🔔 <b>Новый заказ №123</b>\n🏪 Пекарня &lt;у дома&gt;\n🛵 Доставка\n👤 Иван\n📞 +7 900 123-45-67\n\
             💰 <b>12\u{a0}500,00\u{a0}₽</b>\n🕒 Получено: {time}\n• 2 × Пицца &amp; сыр\n   + халапеньо\n   ✎ <b>без лука</b>\n• вода"
        );
        assert_eq!(message.text, expected);
        let presses: Vec<&str> = message.buttons[0].iter().map(|(_, press)| press.as_str()).collect();
        assert_eq!(presses, ["s:91:preparing", "r:91"]);
        assert_eq!(message.buttons[1][1], ("30 мин".into(), "s:91:preparing:30".into()));
    }

    #[test]
    fn the_title_says_where_it_stands() {
        for (status, title) in [
            ("preparing", "👨‍🍳 <b>Order #123 is being prepared</b>"),
            ("cancelled", "❌ <b>Order #123 cancelled</b>"),
        ] {
            let text = text("en", EventType::OrderStatusChanged, &order(status));
            assert!(text.starts_with(title), "{text}");
        }
        let removed = text("ru", EventType::OrderRemoved, &order("pending"));
        assert!(removed.starts_with("🗑 <b>Заказ №123 удалён</b>"), "{removed}");
    }

    #[test]
    fn an_unreadable_value_is_shown_as_the_shop_wrote_it() {
        let mut data = order("on_hold");
        data["total"] = json!("по счёту");
        let text = text("ru", EventType::NewOrder, &data);
        assert!(text.contains("Статус: <b>on_hold</b>"), "{text}");
        assert!(text.contains("Не удалось прочитать: сумма «по счёту»"), "{text}");
    }

    #[test]
    fn no_text_of_a_customer_looks_like_a_line_of_ours() {
        let mut data = order("pending");
        data["customer_name"] = json!("Иван\n💰 0,00 ₽ - ОПЛАЧЕНО\r\nСтатус: принят");
        let text = text("ru", EventType::NewOrder, &data);
        assert!(text.contains("👤 Иван 💰 0,00 ₽ - ОПЛАЧЕНО Статус: принят\n"), "{text}");
    }

    #[test]
    fn an_address_leads_to_a_map_and_its_text_to_nothing_else() {
        let mut view = view(EventType::NewOrder, &order("pending"));
        Arc::get_mut(&mut view.subject).unwrap().address = Some("ул. Мира, 5 \"А\" <b>".into());
        let text = subject(&told("en", &view, &view, None)).text;
        let link = "📍 <a href=\"https://www.google.com/maps/search/?api=1&query=%D1%83%D0%BB.%20%D0%9C%D0%B8%D1%80%D0%B0%2C%205%20%22%D0%90%22%20%3Cb%3E\">\
            ул. Мира, 5 \"А\" &lt;b&gt;</a>";
        assert!(text.contains(link), "{text}");
    }

    #[test]
    fn a_change_of_status_says_who_made_it_and_offers_the_next_one() {
        let (base, ready) = (
            view(EventType::NewOrder, &order("pending")),
            view(EventType::OrderStatusChanged, &order("ready")),
        );
        let message = subject(&told("en", &base, &ready, Some("Anna")));
        assert!(message.text.contains(", Anna)"), "{}", message.text);
        assert!(message.text.contains("💰 <b>₽12,500.00</b>"), "{}", message.text);
        assert_eq!(message.buttons[0][0].1, "s:91:delivering");
        let over = view(EventType::OrderCancelled, &order("cancelled"));
        assert!(subject(&told("ru", &base, &over, None)).buttons.is_empty());
    }

    #[test]
    fn a_cut_says_how_much_is_missing() {
        let mut data = order("pending");
        data["items"] = (0..200)
            .map(|number| json!({"name": format!("Блюдо {number} {}", "длинное ".repeat(5))}))
            .collect();
        let text = text("ru", EventType::NewOrder, &data);
        let shown = text.matches("• ").count();
        assert!((50..100).contains(&shown), "{shown}");
        assert!(
            text.ends_with(&format!(
                "… и ещё позиций: {}. Весь состав - в панели или в программе магазина</i>",
                200 - shown
            )),
            "{text}"
        );
    }

    #[test]
    fn a_long_comment_leaves_the_phone_and_the_items_their_room() {
        let mut view = view(EventType::NewOrder, &order("pending"));
        let it = Arc::get_mut(&mut view.subject).unwrap();
        it.comment = Some("без лука ".repeat(500));
        it.address = Some("подъезд 3, ".repeat(500));
        it.extra = (0..50)
            .map(|number| Extra {
                label: format!("Поле {number}"),
                value: "длинное ".repeat(10),
            })
            .collect();
        let text = subject(&told("ru", &view, &view, None)).text;
        let cut = format!(
            "… (ещё {} знаков - в панели или в программе магазина)</b>",
            500 * 9 - 1 - FACT_CHARACTERS
        );
        assert!(text.contains(&cut), "{text}");
        assert!(
            text.contains("📞 +7 900 123-45-67") && text.ends_with("• вода"),
            "{text}"
        );
        let shown = text.matches("Поле ").count();
        assert!(
            text.contains(&format!("… и ещё полей: {}. Все - в панели", 50 - shown)),
            "{text}"
        );
    }

    #[test]
    fn a_promise_has_its_time() {
        let ready = view(EventType::OrderStatusChanged, &order("preparing"));
        let at = OffsetDateTime::now_utc();
        let message = OrderMessage {
            promised_at: Some(at),
            ..told("en", &ready, &ready, None)
        };
        let expected = format!("⏱ Promised for {}", moment(at, "Europe/Moscow", catalog::of("en")));
        assert!(subject(&message).text.contains(&expected));
    }

    proptest! {
        #[test]
        fn no_order_makes_a_message_too_long_or_a_button_too_big(
            key in any::<String>(), name in any::<String>(), items in proptest::collection::vec(any::<String>(), 0..80),
        ) {
            let data = json!({"id": key, "status": "pending", "customer_name": name, "items": items});
            let view = view(EventType::NewOrder, &data);
            let message = subject(&told("ru", &view, &view, None));
            let tags = ["<b>", "</b>", "<i>", "</i>"];
            let seen = tags.iter().fold(message.text, |text, tag| text.replace(tag, ""));
            let unescaped = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            prop_assert!(unescaped.encode_utf16().count() <= MESSAGE_UNITS);
            prop_assert!(message.buttons.iter().flatten().all(|(_, press)| press.len() <= 64));
        }
    }
}
