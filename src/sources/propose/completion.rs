//! Adds words that no row has yet to the words of a free text column for the status.

use super::words::ProposedWords;
use crate::domain::status::{Status, SubjectKind};

/// Words that applications use for statuses in addition to Vestnik's names of the statuses.
const MORE_WORDS: &[(Status, &[&str])] = &[
    (Status::Pending, &["new"]),
    (Status::Preparing, &["confirmed", "accepted"]),
    (Status::Delivering, &["out_for_delivery"]),
    (Status::Completed, &["delivered"]),
    (Status::Rejected, &["declined"]),
    (Status::Cancelled, &["canceled", "refunded"]),
];
/// Words for hidden orders in applications that use Vestnik's names of the statuses, such as `pending`.
const MORE_WORDS_HIDDEN: &[&str] = &["cart", "draft", "awaiting_payment", "pending_payment"];

/// Examines the known words of a free text column. If all of them are Vestnik's status names, such as `pending`, adds
/// the other status names and the words in `MORE_WORDS`. The application probably uses these words too, although no row
/// has them yet. Returns the words that it has added.
pub(super) fn complete(words: &mut ProposedWords, kind: SubjectKind) -> Vec<String> {
    let all = |words: &ProposedWords| -> Vec<String> {
        let known = words.known.iter().flat_map(|(_, words)| words);
        known.chain(&words.hidden).cloned().collect()
    };
    let before = all(words);
    let found: Vec<&String> = words.known.iter().flat_map(|(_, words)| words).collect();
    let is_ours = |fold: fn(&str) -> String| {
        let ours = |word: &&String| Status::ALL.iter().any(|status| fold(status.as_str()) == **word);
        (!found.is_empty() && found.iter().all(ours)).then_some(fold)
    };
    let Some(fold) = is_ours(str::to_owned).or_else(|| is_ours(str::to_uppercase)) else {
        return Vec::new();
    };
    let statuses = Status::ALL.into_iter().filter(|status| kind == SubjectKind::Order || *status != Status::Delivering);
    words.known = statuses
        .map(|status| {
            let more = MORE_WORDS.iter().find(|(known, _)| *known == status).map_or(&[][..], |(_, words)| words);
            let own = std::iter::once(status.as_str()).chain(more.iter().copied());
            (status, own.map(fold).collect())
        })
        .collect();
    let hidden = MORE_WORDS_HIDDEN.iter().filter(|word| kind == SubjectKind::Order || **word != "cart");
    for word in hidden.map(|word| fold(word)) {
        if !words.hidden.contains(&word) {
            words.hidden.push(word);
        }
    }
    let mut added = all(words);
    added.retain(|word| !before.contains(word));
    added
}
