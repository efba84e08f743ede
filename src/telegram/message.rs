//! What a message says, and the buttons below it. Pure: a claim's work in, text and buttons out.

use time::OffsetDateTime;

use super::html::{Html, MESSAGE_UNITS};
use super::words::{self, Words};
use crate::delivery::work::{Alarm, Item as Delivered, Style, Told, Work};
use crate::domain::Subject as Canonical;
use crate::domain::event::EventType;
use crate::domain::money::Currency;
use crate::domain::status::{Status, SubjectKind};
use crate::domain::subject::{Item, OrderType, Quantity, name_of_due_at, name_of_persons};
use crate::sources::zone;

/// Items of an order that a message lists; a person opens the panel for more.
const ITEMS: usize = 100;
/// Units that the line about what is missing may take.
const OMITTED_UNITS: usize = 120;

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
        Work::Subject(it) => subject(&it.style, &it.base, &it.latest, it.by.as_deref()),
        Work::Digest { style, items } => digest(style, items),
        Work::Alarm { style, alarm, .. } => only(alarm_text(style, *alarm)),
        Work::Words { text, .. } => only(text.clone()),
    }
}

fn only(text: String) -> Message {
    Message {
        text,
        buttons: Vec::new(),
    }
}

/// A moment by the store's clock: `19:03`, and the day where it is another one than today: `24 November, 19:03`.
fn moment(at: OffsetDateTime, style: &Style, words: &Words) -> String {
    let (Some(local), Some(today)) = (
        zone::local(at, &style.time_zone),
        zone::local(OffsetDateTime::now_utc(), &style.time_zone),
    ) else {
        return String::new();
    };
    let time = format!("{:02}:{:02}", local.hour(), local.minute());
    if local.date() == today.date() {
        return time;
    }
    let month = usize::from(local.month().unsigned_abs()) - 1;
    let month = words.get("language.months").split(' ').nth(month).unwrap_or_default();
    let day = local.day().to_string();
    words
        .get("language.date")
        .replace("{day}", &day)
        .replace("{month}", month)
        .replace("{time}", &time)
}

/// A customer's text in one line: no text of theirs looks like a line of ours.
fn inline(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn said_of(quantity: &Quantity) -> String {
    match quantity.to_json() {
        serde_json::Value::String(words) => inline(&words),
        number => number.to_string(),
    }
}

/// What the title says of where it stands.
fn title(told: &Told) -> String {
    let kind = told.subject.kind.as_str();
    match (told.kind, told.subject.visible_status()) {
        (EventType::OrderRemoved | EventType::BookingRemoved, _) | (_, None) => format!("title.{kind}_removed"),
        (_, Some(status)) => format!("title.{kind}_{}", status.as_str()),
    }
}

/// What certainly matters comes first and the items last, so that the items are what is cut.
fn subject(style: &Style, base: &Told, latest: &Told, by: Option<&str>) -> Message {
    let words = words::of(&style.language);
    let it = &latest.subject;
    let mut html = Html::new(MESSAGE_UNITS);
    let mut line = |name: &str, values: &[(&str, &str)]| html.line(words.get(name), values);
    line(&title(latest), &[("number", &inline(&it.number))]);
    if let Some(store) = &style.store_name {
        line("message.store", &[("store", store)]);
    }
    if let Some(word) = &it.status_word {
        line("message.status", &[("status", &inline(word)), ("time", &moment(latest.at, style, words))]);
    } else if it.status != Status::Pending {
        let name = status_name(words, it.kind, it.status.as_str());
        let time = moment(latest.at, style, words);
        match by {
            Some(by) => line("message.status_by", &[("status", name), ("time", &time), ("by", &inline(by))]),
            None => line("message.status", &[("status", name), ("time", &time)]),
        }
    }
    if let Some(reason) = &it.reason {
        line("message.reason", &[("reason", &inline(reason))]);
    }
    if !latest.changed.is_empty() && matches!(latest.kind, EventType::OrderChanged | EventType::BookingChanged) {
        let fields: Vec<&str> = latest.changed.iter().map(|field| field_name(words, field)).collect();
        line("message.changed", &[("fields", &fields.join(", "))]);
    }
    facts(&mut html, words, style, it);
    html.line(words.get("message.at"), &[("time", &moment(base.at, style, words))]);
    items(&mut html, words, it);
    Message {
        text: html.finish(),
        buttons: answers(words, it.kind, base.id, &it.next()),
    }
}

fn field_name<'a>(words: &'a Words, field: &'a str) -> &'a str {
    words.find(&format!("field.{field}")).unwrap_or(field)
}

/// Everything of it but its number, status and items.
fn facts(html: &mut Html, words: &Words, style: &Style, it: &Canonical) {
    let mut line = |name: &str, values: &[(&str, &str)]| html.line(words.get(name), values);
    if let Some(comment) = &it.comment {
        line("message.comment", &[("comment", &inline(comment))]);
    }
    match &it.order_type {
        Some(OrderType::Other(word)) => line("message.type_other", &[("type", &inline(word))]),
        Some(known) => line(&format!("message.type_{}", known.as_str()), &[]),
        None => {}
    }
    if let Some(at) = it.due_at {
        let name = format!("message.{}", name_of_due_at(it.kind));
        line(&name, &[("time", &moment(at, style, words))]);
    }
    if let Some(minutes) = it.promised_minutes {
        line("message.promised", &[("minutes", &minutes.to_string())]);
    }
    for (name, place, text) in [
        ("message.customer", "name", &it.customer_name),
        ("message.phone", "phone", &it.phone),
        ("message.address", "address", &it.address),
    ] {
        if let Some(text) = text {
            line(name, &[(place, &inline(text))]);
        }
    }
    if let Some(persons) = &it.persons {
        line(&format!("message.{}", name_of_persons(it.kind)), &[("persons", &said_of(persons))]);
    }
    match (it.total.map(|total| amount(total, it.currency, words)), payment(it, words)) {
        (Some(total), Some(payment)) => line("message.total_payment", &[("total", &total), ("payment", &payment)]),
        (Some(total), None) => line("message.total", &[("total", &total)]),
        (None, Some(payment)) => line("message.payment", &[("payment", &payment)]),
        (None, None) => {}
    }
    for extra in &it.extra {
        line("message.extra", &[("label", &inline(&extra.label)), ("value", &inline(&extra.value))]);
    }
    for unreadable in &it.unreadable {
        let field = field_name(words, unreadable.field);
        line("message.unreadable", &[("field", field), ("text", &inline(&unreadable.text))]);
    }
}

/// How it is paid, in a few words.
fn payment(it: &Canonical, words: &Words) -> Option<String> {
    let payment = &it.payment;
    let method = payment.method.as_deref().map(|method| {
        let known = words.find(&format!("payment.{}", method.to_lowercase()));
        known.map_or_else(|| inline(method), str::to_owned)
    });
    let paid = payment.is_paid.map(|paid| words.get(if paid { "payment.paid" } else { "payment.unpaid" }).to_owned());
    let change = payment.change_from.map(|from| {
        let amount = amount(from, it.currency, words);
        words.get("payment.change_from").replace("{amount}", &amount)
    });
    let parts: Vec<String> = [method, paid, change].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What was ordered. A cut says how much is missing.
fn items(html: &mut Html, words: &Words, it: &Canonical) {
    let all = it.items.list.len() + it.items.omitted;
    let mut shown = 0;
    for item in it.items.list.iter().take(ITEMS) {
        let lines = item_lines(words, item);
        let units: usize = lines.iter().map(|(template, values)| units_of(template, values) + 1).sum();
        // The line that says what is missing has its place.
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
        html.line(words.get("message.items_omitted"), &[("count", &(all - shown).to_string())]);
    }
}

/// The lines of an item: templates, and what is put in.
type Lines<'a> = Vec<(&'a str, Vec<(&'static str, String)>)>;

fn item_lines<'a>(words: &'a Words, item: &Item) -> Lines<'a> {
    let name = inline(&item.name);
    let mut lines = vec![match item.quantity == Quantity::ONE {
        true => (words.get("message.item"), vec![("name", name)]),
        false => (words.get("message.item_many"), vec![("quantity", said_of(&item.quantity)), ("name", name)]),
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

/// Units of UTF-16 that a line takes at most.
fn units_of(template: &str, values: &[(&'static str, String)]) -> usize {
    let values: usize = values.iter().map(|(_, value)| value.encode_utf16().count()).sum();
    template.encode_utf16().count() + values
}

/// The name of a status; its own, where the shop has others.
pub fn status_name<'a>(words: &'a Words, kind: SubjectKind, status: &'a str) -> &'a str {
    if Status::from_name(status).is_none() {
        return status;
    }
    let name = match kind {
        SubjectKind::Order => format!("status.{status}"),
        SubjectKind::Booking => format!("status.booking_{status}"),
    };
    words.find(&name).unwrap_or(status)
}

/// What may be done with it now. A press sends `s:EVENT:STATUS`, or `r:EVENT` to be asked for a reason.
pub fn answers(words: &Words, kind: SubjectKind, event: i64, next: &[Status]) -> Vec<Vec<Button>> {
    let button = |to: &Status| {
        let label = match (to, kind) {
            (Status::Preparing, SubjectKind::Order) => "button.accept",
            (Status::Preparing, SubjectKind::Booking) => "button.accept_booking",
            (Status::Rejected, _) => "button.reject",
            (Status::Ready, _) => "button.ready",
            (Status::Delivering, _) => "button.delivering",
            (_, SubjectKind::Order) => "button.completed",
            (_, SubjectKind::Booking) => "button.completed_booking",
        };
        let press = match to {
            Status::Rejected => format!("r:{event}"),
            to => format!("s:{event}:{}", to.as_str()),
        };
        (words.get(label).to_owned(), press)
    };
    let row: Vec<Button> = next.iter().map(button).collect();
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
pub fn that_fit(style: &Style, mut items: Vec<Delivered>) -> Vec<Delivered> {
    let words = words::of(&style.language);
    let mut html = Html::new(MESSAGE_UNITS);
    head(&mut html, words, style, items.len());
    let lines = items.iter().take_while(|item| {
        line(&mut html, words, style, &item.event);
        !html.is_full()
    });
    let fitting = lines.count().max(1);
    items.truncate(fitting);
    items.sort_unstable_by_key(|item| item.event.id);
    items
}

fn digest(style: &Style, items: &[Delivered]) -> Message {
    let words = words::of(&style.language);
    let mut html = Html::new(MESSAGE_UNITS);
    head(&mut html, words, style, items.len());
    for Delivered { event, .. } in items {
        line(&mut html, words, style, event);
    }
    only(html.finish())
}

/// What stands above a digest.
fn head(html: &mut Html, words: &Words, style: &Style, count: usize) {
    html.line(words.get("digest.title"), &[("count", &count.to_string())]);
    if let Some(store) = &style.store_name {
        html.line(words.get("message.store"), &[("store", store)]);
    }
}

/// An event in a digest.
fn line(html: &mut Html, words: &Words, style: &Style, event: &Told) {
    let it = &event.subject;
    let status = it.status_word.as_deref().map_or_else(
        || status_name(words, it.kind, it.status.as_str()).to_owned(),
        inline,
    );
    let total = it.total.map(|total| amount(total, it.currency, words));
    let name = match (event.kind, &total) {
        (EventType::NewOrder, None) => "digest.new_order_free".to_owned(),
        (kind, _) => format!("digest.{}", kind.as_str()),
    };
    let (total, number) = (total.unwrap_or_default(), inline(&it.number));
    let time = moment(event.at, style, words);
    let values = [("time", time.as_str()), ("key", &number), ("status", &status), ("total", &total)];
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

/// An amount of minor units as people of the language read it: `500,00 ₽`, with blanks that never break.
fn amount(minor: i64, currency: Currency, words: &Words) -> String {
    let (digits, sign) = (usize::from(currency.digits()), currency.sign());
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
    use std::sync::Arc;

    use super::*;
    use crate::sources::Beside;
    use crate::sources::changes::Found;
    use crate::sources::fixtures::{REFERENCE, source};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn style(language: &str) -> Style {
        Style {
            store: "7".into(),
            store_name: Some("Пекарня <у дома>".into()),
            time_zone: "Europe/Moscow".into(),
            language: language.into(),
            muted: false,
        }
    }

    /// An order of the reference shop, told now.
    fn told(kind: EventType, data: &Value) -> Told {
        let source = source(REFERENCE, &[]);
        let beside = Beside {
            currency: Currency::DEFAULT,
            lookup: Found::Nothing,
        };
        let key = data["id"].as_str().unwrap_or("123");
        Told {
            id: 91,
            kind,
            subject: Arc::new(source.translate(key, &data.to_string(), beside)),
            previous: None,
            changed: Vec::new(),
            at: OffsetDateTime::now_utc(),
        }
    }

    fn order(status: &str) -> Value {
        let items = json!([{"name": "Пицца & сыр", "quantity": 2, "options": ["халапеньо"], "note": "без лука"}, "вода"]);
        json!({"status": status, "customer_name": "Иван", "customer_phone": "+7 900 123-45-67", "total": 1_250_000,
            "order_type": "delivery", "items": items})
    }

    fn text(language: &str, kind: EventType, data: &Value) -> String {
        let told = told(kind, data);
        subject(&style(language), &told, &told, None).text
    }

    #[test]
    fn a_new_order_says_all_that_a_kitchen_needs() {
        let told = told(EventType::NewOrder, &order("pending"));
        let message = subject(&style("ru"), &told, &told, None);
        let time = moment(told.at, &style("ru"), words::of("ru"));
        let expected = format!(
            "🔔 <b>Новый заказ №123</b>\n🏪 Пекарня &lt;у дома&gt;\n🛵 Доставка\n👤 Иван\n📞 +7 900 123-45-67\n\
             💰 <b>12\u{a0}500,00\u{a0}₽</b>\n🕒 Получен в {time}\n• 2 × Пицца &amp; сыр\n   + халапеньо\n   ✎ <b>без лука</b>\n• вода"
        );
        assert_eq!(message.text, expected);
        let presses: Vec<&str> = message.buttons[0].iter().map(|(_, press)| press.as_str()).collect();
        assert_eq!(presses, ["s:91:preparing", "r:91"]);
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
    fn what_could_not_be_read_is_told_as_the_shop_wrote_it() {
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
    fn a_change_of_status_says_who_made_it_and_offers_the_next_one() {
        let (base, ready) = (told(EventType::NewOrder, &order("pending")), told(EventType::OrderStatusChanged, &order("ready")));
        let message = subject(&style("en"), &base, &ready, Some("Anna"));
        assert!(message.text.contains(", Anna)"), "{}", message.text);
        assert!(message.text.contains("💰 <b>₽12,500.00</b>"), "{}", message.text);
        assert_eq!(message.buttons[0][0].1, "s:91:delivering");
        let over = told(EventType::OrderCancelled, &order("cancelled"));
        assert!(subject(&style("ru"), &base, &over, None).buttons.is_empty());
    }

    #[test]
    fn a_cut_says_how_much_is_missing() {
        let mut data = order("pending");
        data["items"] = (0..200).map(|number| json!({"name": format!("Блюдо {number} {}", "длинное ".repeat(5))})).collect();
        let text = text("ru", EventType::NewOrder, &data);
        let shown = text.matches("• ").count();
        assert!((50..100).contains(&shown), "{shown}");
        assert!(text.ends_with(&format!("… и ещё позиций: {}. Весь состав - в панели</i>", 200 - shown)), "{text}");
    }

    #[test]
    fn a_digest_takes_as_many_events_as_it_has_room_for_and_shows_each_of_them() {
        let event = |id: i64| Delivered {
            id,
            event: Told {
                id,
                ..told(EventType::NewOrder, &json!({"id": format!("{id:040}"), "status": "pending", "total": 100}))
            },
        };
        let fitting = that_fit(&style("en"), (0..200).map(event).collect());
        let text = digest(&style("en"), &fitting).text;
        assert!((40..100).contains(&fitting.len()), "{}", fitting.len());
        for item in &fitting {
            assert!(text.contains(&format!("{:040}", item.id)), "{}", item.id);
        }
        assert!(!text.contains('…'));
        let huge = told(EventType::NewOrder, &json!({"id": "x".repeat(5000), "status": "pending"}));
        assert_eq!(that_fit(&style("en"), vec![Delivered { id: 1, event: huge }]).len(), 1);
    }

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        let (ru, of) = (words::of("ru"), |code| Currency::from_code(code).unwrap());
        assert_eq!(amount(5, of("RUB"), ru), "0,05\u{a0}₽");
        assert_eq!(amount(-123_456, of("JPY"), ru), "-123\u{a0}456\u{a0}¥");
        assert_eq!(
            amount(1_234_567, of("KWD"), words::of("en")).trim_start_matches(|c: char| !c.is_ascii_digit()),
            "1,234.567"
        );
        assert_eq!(amount(100, of("XQQ"), ru), "1,00\u{a0}XQQ");
    }

    proptest! {
        #[test]
        fn no_order_makes_a_message_too_long_or_a_button_too_big(
            key in any::<String>(), name in any::<String>(), items in proptest::collection::vec(any::<String>(), 0..80),
        ) {
            let data = json!({"id": key, "status": "pending", "customer_name": name, "items": items});
            let told = told(EventType::NewOrder, &data);
            let message = subject(&style("ru"), &told, &told, None);
            let tags = ["<b>", "</b>", "<i>", "</i>"];
            let seen = tags.iter().fold(message.text, |text, tag| text.replace(tag, ""));
            let unescaped = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            prop_assert!(unescaped.encode_utf16().count() <= MESSAGE_UNITS);
            prop_assert!(message.buttons.iter().flatten().all(|(_, press)| press.len() <= 64));
        }
    }
}
