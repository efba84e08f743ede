//! Tells orders with the same key apart. If another table has taken the place of the shop's table, its keys may start at
//! 1 again, so an order may have the key of an earlier order.

use serde_json::Value;
use time::OffsetDateTime;

use super::super::{RecordedColumn, zone};
use super::{Derived, UNREADABLE_STATUS};

/// The values that no order changes: an order with another one is another order.
const LASTING: [&str; 2] = ["created_at", "number"];

/// The names of the values by which orders can be compared, with spaces between them. A value whose type has changed is
/// left out, because the same value may look different now. `before` and `now` have the types of the expressions.
pub(super) fn comparable(before: &[RecordedColumn], now: &[RecordedColumn]) -> String {
    let is_same = |name: &&str| {
        let of = |columns: &[RecordedColumn]| columns.iter().find(|column| column.name == **name).cloned();
        of(now).is_some_and(|now| of(before) == Some(now))
    };
    LASTING.into_iter().filter(is_same).collect::<Vec<_>>().join(" ")
}

/// Whether the values `before` and `now`, two JSON objects, are those of different orders. `names` is the result of
/// [`comparable`].
pub(super) fn differs(before: &str, now: &str, names: &str, derived: &Derived) -> bool {
    let [before, now]: [Value; 2] = [before, now].map(|data| serde_json::from_str(data).unwrap_or_default());
    let is_readable = |value: &Value| !value.is_null() && *value != UNREADABLE_STATUS;
    names.split_whitespace().any(|name| {
        let are_readable = is_readable(&before[name]) && is_readable(&now[name]);
        are_readable
            && match (name, creation_time(&before, derived), creation_time(&now, derived)) {
                ("created_at", Some(before), Some(now)) => before != now,
                _ => before[name] != now[name],
            }
    })
}

/// The creation time in the values of an order: a text with a time, or a number of seconds or milliseconds since 1970.
/// `None`: the value is null or is not a time.
pub(super) fn creation_time(values: &Value, derived: &Derived) -> Option<OffsetDateTime> {
    match &values["created_at"] {
        Value::String(text) => zone::moment(text, &derived.zone),
        Value::Number(number) => zone::moment(&number.to_string(), &derived.zone),
        _ => None,
    }
}
