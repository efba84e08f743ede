//! Answers the command `/today` with the counts, totals and orders of the day, one message for each store of a chat.

use std::time::Duration;

use teloxide::types::Message;
use time::OffsetDateTime;

use super::command::Commands;
use super::message::status_name;
use super::{digest, note};
use crate::delivery::chat_links::ChatLink;
use crate::delivery::next_message::Button;
use crate::delivery::today::{Newcomer, Today, today};
use crate::domain::status::{Status, SubjectKind};
use crate::infra::db::QueryError;
use crate::sources::zone;
use crate::text::catalog::{self, Catalog};
use crate::text::html::{Html, MESSAGE_UNITS};
use crate::text::value::{amount, day, inline, moment};

/// The space for the last line, which has the number of omitted orders, UTF-16 units.
const MORE_UNITS: usize = 60;
/// The most stores in an answer to `/today`. Each store has a separate message.
const STORES: usize = 5;

impl Commands<'_> {
    /// Answers `/today` with one message for each store of the chat.
    pub async fn today(&self, message: &Message, links: &[ChatLink]) -> Result<(), QueryError> {
        for link in links.iter().take(STORES) {
            let words = catalog::of_store(&link.language, &link.store);
            if let Some(today) = today(&self.bot.pool, &self.bot.sources, &link.store).await? {
                let (text, buttons) = render(words, &today);
                self.reply(message, &text, Some(&serde_json::json!(buttons))).await?;
            }
        }
        Ok(())
    }
}

/// Writes the message about one store's day: its counts and totals, and the newest orders that fit. Each pending order
/// has a button that sends the order's own message.
fn render(words: &Catalog, today: &Today) -> (String, Vec<Vec<Button>>) {
    let mut html = Html::new(MESSAGE_UNITS);
    let date = |at| zone::local(at, &today.time_zone).map(|local| local.date());
    let (began, now) = (date(today.began), date(OffsetDateTime::now_utc()));
    let date = began
        .zip(now)
        .map(|(began, now)| day(began, now, words))
        .unwrap_or_default();
    html.line(words.get("today.title"), &[("date", &date)]);
    html.line(words.get("message.store"), &[("store", &today.store)]);
    figures(&mut html, words, today);
    if today.newcomers.is_empty() {
        html.line(words.get("today.none"), &[]);
    }
    if today.is_cut {
        html.line(words.get("today.cut"), &[]);
    }
    for (shown, newcomer) in today.newcomers.iter().rev().enumerate() {
        let before = html.left();
        if before < 4 * MORE_UNITS {
            let count = (today.newcomers.len() - shown).to_string();
            html.line(words.get("today.more"), &[("count", &count)]);
            break;
        }
        line(&mut html, words, today, newcomer);
    }
    let waiting = today.newcomers.iter().map(|newcomer| &newcomer.last);
    let (buttons, are_all) = digest::waiting_buttons(words, waiting);
    if !are_all {
        html.line(words.get("today.waiting"), &[]);
    }
    (html.finish(), buttons)
}

fn figures(html: &mut Html, words: &Catalog, today: &Today) {
    for kind in [SubjectKind::Order, SubjectKind::Booking] {
        let of_kind: Vec<&Newcomer> = today
            .newcomers
            .iter()
            .filter(|newcomer| newcomer.last.subject.as_ref().is_some_and(|it| it.kind == kind))
            .collect();
        if of_kind.is_empty() {
            continue;
        }
        let count = of_kind.len().to_string();
        match (kind, sum(words, &of_kind)) {
            (SubjectKind::Booking, _) => html.line(words.get("today.bookings"), &[("count", &count)]),
            (SubjectKind::Order, None) => html.line(words.get("today.orders"), &[("count", &count)]),
            (SubjectKind::Order, Some(total)) => {
                html.line(words.get("today.orders_total"), &[("count", &count), ("total", &total)]);
            }
        }
        let parts: Vec<String> = Status::ALL
            .iter()
            .map(|status| (Some(*status), status_name(words, kind, status.as_str()).to_owned()))
            .chain([(None, String::new())])
            .filter_map(|(status, name)| {
                let count = of_kind
                    .iter()
                    .filter(|newcomer| current_status(newcomer) == status)
                    .count();
                let count = (count > 0).then(|| count.to_string())?;
                Some(match status {
                    Some(_) => words
                        .get("today.by_status")
                        .replace("{status}", &name)
                        .replace("{count}", &count),
                    None => words.get("today.removed").replace("{count}", &count),
                })
            })
            .collect();
        html.push("\n");
        html.push(&parts.join(" · "));
    }
    let mut answers: Vec<Duration> = today.newcomers.iter().filter_map(|it| it.answered_after).collect();
    answers.sort_unstable();
    if let Some(median) = answers.get(answers.len() / 2) {
        html.line(words.get("today.answer"), &[("time", &note::time(words, *median))]);
    }
}

/// The current status of the order or booking. `None`: the order or booking was removed, or the mapping hides it from
/// people, such as a cart.
fn current_status(newcomer: &Newcomer) -> Option<Status> {
    newcomer.last.subject.as_ref()?.visible_status()
}

/// Returns the sum of the totals of these orders, as text. Cancelled, rejected and removed orders do not count. `None`:
/// no order has a known total, or the sum is too large.
fn sum(words: &Catalog, orders: &[&Newcomer]) -> Option<String> {
    let counts = |newcomer: &&&Newcomer| {
        current_status(newcomer).is_some_and(|status| !matches!(status, Status::Rejected | Status::Cancelled))
    };
    let totals: Vec<(i64, _)> = orders
        .iter()
        .filter(counts)
        .filter_map(|newcomer| {
            let subject = newcomer.last.subject.as_ref()?;
            Some((subject.total?, subject.currency))
        })
        .collect();
    let (_, currency) = totals.first()?;
    let sum = totals
        .iter()
        .try_fold(0_i64, |sum, (total, _)| sum.checked_add(*total))?;
    Some(amount(sum, *currency, words))
}

fn line(html: &mut Html, words: &Catalog, today: &Today, newcomer: &Newcomer) {
    let Some(it) = &newcomer.last.subject else { return };
    let status = match (&it.status_word, current_status(newcomer)) {
        (_, None) => words.get("today.gone").to_owned(),
        (Some(word), _) => inline(word),
        (None, Some(status)) => status_name(words, it.kind, status.as_str()).to_owned(),
    };
    let time = moment(newcomer.at, &today.time_zone, words);
    let total = it.total.map(|total| amount(total, it.currency, words));
    let name = match (it.kind, &total) {
        (SubjectKind::Booking, _) => "today.line_booking",
        (SubjectKind::Order, Some(_)) => "today.line_order_total",
        (SubjectKind::Order, None) => "today.line_order",
    };
    let (number, total) = (inline(&it.number), total.unwrap_or_default());
    html.line(
        words.get(name),
        &[
            ("number", number.as_str()),
            ("time", &time),
            ("total", &total),
            ("status", &status),
        ],
    );
}
