//! Finds the column that receives the reason of a rejection. A person gives a reason mostly for a rejection, so a column
//! for the reasons of rejections is preferred to one for cancellations.

use super::columns::{Columns, is_text};
use super::{Draft, label, synonyms};
use crate::domain::status::Status;
use crate::sources::catalog::TableColumn;

/// Finds the column of the reason, and adds it to the draft of the proposal. Other columns with reasons become extra
/// fields. If both kinds of columns exist, and a rejected order gets a word for cancelled, adds a question.
pub(super) fn find(columns: &mut Columns<'_>, draft: &mut Draft) {
    let rejection = columns.all(synonyms::REJECTION_REASONS, is_text);
    let cancellation = columns.all(synonyms::CANCELLATION_REASONS, is_text);
    let (rejected, cancelled) = (rejection.first().copied(), cancellation.first().copied());
    let any = columns.all(synonyms::REASONS, is_text);
    let mut reasons = rejection.into_iter().chain(cancellation).chain(any);
    draft.answer_with("reason", reasons.next());
    draft
        .extra
        .extend(reasons.map(|column| (label(&column.name), column.name.clone())));
    if let (Some(rejected), Some(cancelled)) = (rejected, cancelled) {
        ask(rejected, cancelled, draft);
    }
}

/// Adds a question if no word of the status means rejected, but one means cancelled. Vestnik then writes this word for a
/// rejection, and the shop may look for the reason in the column for cancellations.
fn ask(rejected: &TableColumn, cancelled: &TableColumn, draft: &mut Draft) {
    let Some((status, words)) = &draft.status else { return };
    let first = |status: Status| {
        let of_status = words.known.iter().find(|(known, _)| *known == status);
        of_status.and_then(|(_, words)| words.first())
    };
    let (None, Some(word)) = (first(Status::Rejected), first(Status::Cancelled)) else {
        return;
    };
    let question = format!(
        "is the reason of a rejection written into {}, or into {}? No word of {status} means rejected, so a rejected order gets the word \
         `{word}`",
        rejected.name, cancelled.name
    );
    draft.ask("answer.reason", question);
}
