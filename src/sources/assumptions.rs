//! Lists what Vestnik assumes where a mapping says nothing. The assumptions concern the zone of times, the currency of
//! amounts, and the place for people's answers to orders. `vestnik source check` prints the assumptions, so that a
//! person can correct the mapping.

use super::RecordedColumn;
use super::catalog::Table;
use super::mapping::{CurrencyRef, Mapping};
use super::zone::USUAL_ZONE;
use crate::domain::money::Currency;
use crate::domain::status::{Status, SubjectKind};

/// The statuses that a person can choose for an order or booking with a button.
const ANSWERS: [Status; 5] = [
    Status::Preparing,
    Status::Ready,
    Status::Delivering,
    Status::Completed,
    Status::Rejected,
];

/// The assumptions about the rows of a table, one line each. `expressions` has the name and the SQL type of each
/// expression of a derived mapping (a mapping with SQL expressions instead of columns). `has_default_currency` says
/// whether amounts of the newest rows are in the default currency. `None`: the table has no rows.
pub fn lines(
    table: &Table,
    mapping: &Mapping,
    expressions: &[RecordedColumn],
    has_default_currency: Option<bool>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let naive = times_without_zone(table, mapping, expressions);
    if !naive.is_empty() {
        let verb = if naive.len() == 1 { "has" } else { "have" };
        lines.push(format!(
            "{} {verb} no time zone, and the times are read as {USUAL_ZONE}: write `zone` where the shop writes the time of another zone",
            naive.join(" and ")
        ));
    }
    let texts = amounts_of_type_text(mapping, expressions);
    if !texts.is_empty() {
        let verb = if texts.len() == 1 { "is" } else { "are" };
        lines.push(format!(
            "{} {verb} text, and {verb} read as major units, such as 12.50: write `unit` where they count cents",
            texts.join(" and ")
        ));
    }
    let is_by_store = mapping.currency == CurrencyRef::Store;
    let has_prices = mapping.items.as_ref().is_some_and(|items| items.price.is_some());
    if is_by_store && has_default_currency.unwrap_or(mapping.fields.total.is_some() || has_prices) {
        lines.push(default_currency());
    }
    lines.extend(unsaid_start(mapping));
    lines.extend(kept_answers(mapping));
    lines
}

/// The line for bookings whose start the mapping does not say. `None`: the mapping says it, or has orders.
fn unsaid_start(mapping: &Mapping) -> Option<String> {
    let is_named = |text: &str| text.contains("due_at") || text.contains("starts_at");
    let is_said = match &mapping.derived {
        Some(derived) => derived.fields.iter().any(|(field, _)| is_named(field)),
        None => mapping.fields.due_at.is_some() || mapping.details.as_deref().is_some_and(is_named),
    };
    (mapping.kind == SubjectKind::Booking && !is_said).then(|| {
        "the mapping does not say when the guests come: write `due_at`; where the date and the time stand in two columns, let the query \
         of [details] return `(date + time) at time zone 'Europe/Paris' as due_at`"
            .to_owned()
    })
}

/// The line for a mapping that names no currency.
pub fn default_currency() -> String {
    format!(
        "the mapping names no currency, so amounts are in the currency of the store (`vestnik store set`), and in {} where the \
         store has none",
        Currency::DEFAULT
    )
}

/// Finds times whose column has no time zone, if the mapping does not say which zone to use. Returns the mapping's keys
/// of these times, such as `due_at`. Vestnik assumes the zone [`USUAL_ZONE`].
fn times_without_zone(table: &Table, mapping: &Mapping, expressions: &[RecordedColumn]) -> Vec<&'static str> {
    let is_naive = |kind: &str| kind.starts_with("timestamp") && kind.contains("without") || kind == "date";
    if let Some(derived) = &mapping.derived {
        let is_read = |name: &&str| {
            let mut of_name = expressions.iter().filter(|column| column.name == **name);
            !derived.is_zone_named && of_name.any(|column| is_naive(&column.kind))
        };
        return ["due_at", "created_at"].into_iter().filter(is_read).collect();
    }
    let times = [
        ("due_at", &mapping.fields.due_at),
        ("created_at", &mapping.fields.created_at),
    ];
    let of_column = |(key, time): (&'static str, &Option<super::mapping::TimeColumn>)| {
        let time = time.as_ref()?;
        let column = table
            .column(&time.column.name)
            .filter(|_| time.column.path.is_empty())?;
        (!time.is_zone_named && is_naive(&column.base)).then_some(key)
    };
    times.into_iter().filter_map(of_column).collect()
}

/// Finds amounts whose SQL type is text, in a derived mapping (one with SQL expressions) that names no unit. A text
/// does not show whether it counts major units or minor units, such as cents.
fn amounts_of_type_text<'a>(mapping: &Mapping, expressions: &'a [RecordedColumn]) -> Vec<&'a str> {
    let is_text = |kind: &str| matches!(kind, "text" | "json" | "jsonb") || kind.starts_with("character");
    let amounts = expressions
        .iter()
        .filter(|column| matches!(column.name.as_str(), "total" | "change_from" | "items.price"));
    let texts = amounts
        .filter(|column| is_text(&column.kind))
        .map(|column| &*column.name);
    match &mapping.derived {
        Some(derived) if derived.unit.is_none() => texts.collect(),
        _ => Vec::new(),
    }
}

/// A person can set statuses that Vestnik saves only in its own table. Returns the line that lists these statuses. A
/// derived mapping (one with SQL expressions) has such a status if it names neither an SQL statement nor an API for the
/// status. `None`: the mapping has no such status.
fn kept_answers(mapping: &Mapping) -> Option<String> {
    let derived = mapping.derived.as_ref()?;
    if mapping.answer.url.is_some() {
        return None;
    }
    let is_kept = |status: &Status| {
        let is_written = derived.answers.iter().any(|(written, _)| written == status);
        !is_written && (mapping.kind == SubjectKind::Order || *status != Status::Delivering)
    };
    let kept: Vec<&str> = ANSWERS
        .iter()
        .filter(|status| is_kept(status))
        .map(|status| status.as_str())
        .collect();
    (!kept.is_empty()).then(|| {
        format!(
            "the answers {} are kept by Vestnik and shown over the shop's status, and nothing is written into the shop's tables: \
             statements under [answer] write them",
            kept.join(", ")
        )
    })
}
