//! Asks whether a word of waiting orders is the word of carts. In a table with a column for the time when an order
//! expires, a row is often made for a cart: it waits for its payment, and the shop deletes it later. Panels must not ring
//! for it.

use super::Draft;
use super::columns::{is_moment, is_time};
use super::synonyms::{self, underscored};
use super::words::ProposedWords;
use crate::domain::status::{Status, SubjectKind};
use crate::sources::catalog::{Table, TableColumn};

/// The name of the table's column for the time when an order expires. `None`: the table has no such column.
pub(super) fn expiry(table: &Table, kind: SubjectKind) -> Option<&str> {
    let is_expiry = |column: &&TableColumn| {
        let name = underscored(&column.name);
        // A number may also be a duration, such as `expires_in`.
        let is_number = is_moment(column) && !synonyms::DURATIONS.iter().any(|end| name.ends_with(end));
        let is_moment = is_time(column) || column.base == "date" || is_number;
        is_moment && synonyms::says_expiry(&name, kind)
    };
    table.columns.iter().find(is_expiry).map(|column| column.name.as_str())
}

/// Adds a question for the words of `pending` that may be words of carts. `expiry` is the column for the time when an
/// order expires.
pub(super) fn ask(expiry: &str, words: &ProposedWords, kind: SubjectKind, draft: &mut Draft) {
    let pending = words.known.iter().filter(|(status, _)| *status == Status::Pending);
    let waiting: Vec<&str> = pending
        .flat_map(|(_, words)| words)
        .map(String::as_str)
        .filter(|word| !synonyms::PLACED.contains(&&*synonyms::spaced(word)))
        .collect();
    if waiting.is_empty() {
        return;
    }
    let (order, placed) = match kind {
        SubjectKind::Order => ("an order", "order"),
        SubjectKind::Booking => ("a booking", "booking"),
    };
    let question = format!(
        "is {order} with the word {} still a cart? {expiry} may say when it expires. If so, write the word under hidden, and under \
         pending the word of a placed {placed}: else every cart rings",
        waiting.join(" or ")
    );
    draft.ask("status.pending", question);
}
