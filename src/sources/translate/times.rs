//! Reads the times of a row, and marks those that cannot be read.

use time::OffsetDateTime;

use super::{Row, not_read};
use crate::domain::subject::Unreadable;
use crate::sources::mapping::TimeColumn;
use crate::sources::mapping::derived::{Derived, value};
use crate::sources::zone;

/// The time in a column. `None`: the column is null, or its value is not a time.
pub(super) fn moment(
    row: &Row<'_>,
    column: &TimeColumn,
    field: &'static str,
    unreadable: &mut Vec<Unreadable>,
) -> Option<OffsetDateTime> {
    let text = row.text(&column.column)?;
    zone::moment(&text, &column.zone).or_else(|| not_read(field, &text, unreadable))
}

/// Marks `created_at` as unreadable if the value of its SQL expression is no time. The row's column `created_at` does
/// not show this: it then holds the time when the order was first computed.
pub(super) fn mark_creation_time(derived: &Derived, row: &Row<'_>, unreadable: &mut Vec<Unreadable>) {
    let Some(text) = row.text(&value("created_at")) else {
        return;
    };
    if zone::moment(&text, &derived.zone).is_none() {
        not_read::<()>("created_at", &text, unreadable);
    }
}
