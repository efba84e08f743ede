//! The parts that several kinds of messages share: titles, names of fields and statuses, and buttons.

use crate::delivery::event_view::EventView;
use crate::delivery::next_message::Button;
use crate::domain::Subject;
use crate::domain::status::{Status, SubjectKind};
use crate::text::catalog::Catalog;
use crate::text::value::{amount, inline};

/// The preparation times, in minutes, that the buttons offer when a person accepts an order.
const MINUTES: [u16; 4] = [15, 30, 45, 60];

/// A message to a chat, ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// The text, as HTML of the Bot API.
    pub text: String,
    /// The rows of buttons below the text.
    pub buttons: Vec<Vec<Button>>,
}

/// Creates a message without buttons.
pub(super) fn only(text: String) -> Message {
    Message {
        text,
        buttons: Vec::new(),
    }
}

/// The key of a message's title in the catalog of texts. It depends on the current status of the order or booking.
pub(super) fn title(view: &EventView) -> String {
    let kind = view.subject.kind.as_str();
    match view.subject.visible_status() {
        None => format!("title.{kind}_removed"),
        Some(status) => format!("title.{kind}_{}", status.as_str()),
    }
}

pub(super) fn field_name<'a>(words: &'a Catalog, field: &'a str) -> &'a str {
    words.find(&format!("field.{field}")).unwrap_or(field)
}

/// Returns how the order is paid, such as `cash, not paid, change from 5000`: the method, whether it is paid, and the
/// banknote for which the customer needs change. `None`: nothing is known about the payment.
pub(super) fn payment(it: &Subject, words: &Catalog) -> Option<String> {
    let payment = &it.payment;
    let method = payment.method.as_deref().map(|method| {
        let known = words.find(&format!("payment.{}", method.to_lowercase()));
        known.map_or_else(|| inline(method), str::to_owned)
    });
    let paid = payment.is_paid.map(|paid| {
        words
            .get(if paid { "payment.paid" } else { "payment.unpaid" })
            .to_owned()
    });
    let change = payment.change_from.map(|from| {
        let amount = amount(from, it.currency, words);
        words.get("payment.change_from").replace("{amount}", &amount)
    });
    let parts: Vec<String> = [method, paid, change].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The name of a status, for people. If Vestnik does not know the status, returns the shop's own name of it.
pub fn status_name<'a>(words: &'a Catalog, kind: SubjectKind, status: &'a str) -> &'a str {
    if Status::from_name(status).is_none() {
        return status;
    }
    let name = match kind {
        SubjectKind::Order => format!("status.{status}"),
        SubjectKind::Booking => format!("status.booking_{status}"),
    };
    words.find(&name).unwrap_or(status)
}

/// Returns the buttons below an order or booking, one for each possible next status. A press sends the data
/// `s:EVENT:STATUS` to the bot, or `s:EVENT:STATUS:MINUTES` with the promised minutes. The button for a rejection sends
/// `r:EVENT`, and the bot then asks for the reason.
pub fn answers(words: &Catalog, kind: SubjectKind, event: i64, next: &[Status]) -> Vec<Vec<Button>> {
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
    let in_minutes = |minutes: &u16| {
        let label = words.get("button.accept_in").replace("{minutes}", &minutes.to_string());
        (label, format!("s:{event}:{}:{minutes}", Status::Preparing.as_str()))
    };
    let accepts = kind == SubjectKind::Order && next.contains(&Status::Preparing);
    let minutes: Vec<Button> = MINUTES.iter().filter(|_| accepts).map(in_minutes).collect();
    [row, minutes].into_iter().filter(|row| !row.is_empty()).collect()
}

/// Returns the buttons with the reasons for a rejection. A press sends the data `x:EVENT:NUMBER` to the bot, with the
/// number of the reason in the catalog of texts. The last button sends `b:EVENT`, and the bot then shows the previous
/// buttons again.
pub fn reasons(words: &Catalog, event: i64) -> Vec<Vec<Button>> {
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
