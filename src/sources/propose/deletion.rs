//! Finds the column that marks a deleted row.

use super::column_words::default_word;
use super::columns::{is_text, is_time, is_whole};
use super::synonyms::underscored;
use crate::sources::catalog::TableColumn;
use crate::sources::yes_no::says_no;

/// Whether the column may mark a deleted row: a time, a boolean, or a number or word that is 0 or `N` for other rows. A
/// column `removed` may also list what is left out of a dish, so such a column needs a default that means no.
pub(super) fn may_mark(column: &TableColumn) -> bool {
    if column.base == "boolean" || is_time(column) || column.base == "date" {
        return true;
    }
    let name = underscored(&column.name);
    let says_deleted = name.contains("delet") || name.contains("удал") || name.split('_').any(|part| part == "del");
    let is_short = is_whole(column) || column.base == "character(1)";
    let may_hold = match default_word(column) {
        Some(word) => says_no(&word),
        None => says_deleted && is_short,
    };
    (is_whole(column) || is_text(column) && column.references.is_empty()) && may_hold
}
