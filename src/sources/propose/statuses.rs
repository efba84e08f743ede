//! Proposes the meaning of the words in a status column. The words come from the column's enum labels, its CHECK
//! constraints, and its rows.

use crate::infra::db::GenericClient;

use super::column_words::{ColumnWords, default_word, words_of};
use super::dictionary::{self, Dictionary};
use super::synonyms::{self, Usual, usual_status};
use super::words::ProposedWords;
use super::{Columns, Draft, beginnings, carts, completion, is_plain};
use crate::domain::status::{Status, SubjectKind};
use crate::sources::catalog::{self, Table, TableColumn};

/// Maximum number of added words that a guess names.
const NAMED_WORDS: usize = 4;

impl ProposedWords {
    fn has(&self, status: Status) -> bool {
        self.known.iter().any(|(known, _)| *known == status)
    }

    /// Sorts the words of each status, because Vestnik writes the first word when a person sets the status. For
    /// `pending`, the column's default comes first. For `preparing`, a word that clearly means accepted comes first;
    /// for `cancelled`, a word that clearly means cancelled.
    fn put_likeliest_first(&mut self, column: &TableColumn) {
        let default = default_word(column);
        for (status, words) in &mut self.known {
            words.sort_by_key(|word| match status {
                Status::Pending => default.as_ref() != Some(word),
                Status::Preparing | Status::Cancelled => !synonyms::is_plainly(*status, word),
                _ => false,
            });
        }
    }
}

/// Finds the column of the status, and the meaning of its words. Adds them to the draft of the proposal.
pub async fn find(
    client: &impl GenericClient,
    table: &Table,
    columns: &mut Columns<'_>,
    kind: SubjectKind,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let may = |column: &TableColumn| is_plain(column) || column.base == "boolean";
    match columns.take(synonyms::STATUSES, may) {
        Some(column) => {
            let ColumnWords {
                words: found,
                is_closed,
            } = words_of(client, table, column).await?;
            let dictionary = dictionary::find(client, table, column, kind).await?;
            let (found, is_closed) = (
                with_words(found, &dictionary),
                is_closed || !dictionary.words.is_empty(),
            );
            let mut words = meanings(found.clone(), kind, column, &dictionary);
            words.put_likeliest_first(column);
            beginnings::ask(client, table, columns, column, &words, &found, draft).await?;
            let expiry = carts::expiry(table, kind);
            if let Some(expiry) = expiry {
                carts::ask(expiry, &words, kind, draft);
            }
            if !is_closed && words.unknown.is_empty() && can_answer(&words) {
                let added = completion::complete(&mut words, kind);
                if !added.is_empty() {
                    let named = added[..added.len().min(NAMED_WORDS)].join(", ");
                    let more = match added.len().saturating_sub(NAMED_WORDS) {
                        0 => String::new(),
                        more => format!(" and {more} more words"),
                    };
                    draft.guess(
                        "status",
                        format!("no row has {named}{more}: shops with such words use them, too"),
                    );
                }
            }
            ask(&words, is_closed, column, &dictionary, expiry, draft);
            draft.status = Some((column.name.clone(), words));
        }
        None => draft.ask("status", "which column says where an order stands?"),
    }
    Ok(())
}

/// Whether the words of the rows leave open that the shop has words for an accepted and a rejected order. If rows show
/// how orders end, and none was accepted or rejected, Vestnik must not write a word that the shop never uses.
fn can_answer(words: &ProposedWords) -> bool {
    let is_unused = words.known.iter().all(|(status, _)| *status == Status::Pending);
    is_unused || words.has(Status::Preparing) && (words.has(Status::Rejected) || words.has(Status::Cancelled))
}

/// Adds to `found` each value of the dictionary that no row has, with 0 as its number of rows.
fn with_words(mut found: Vec<(String, i64)>, dictionary: &Dictionary) -> Vec<(String, i64)> {
    for (value, _) in &dictionary.words {
        if !found.iter().any(|(known, _)| known == value) {
            found.push((value.clone(), 0));
        }
    }
    found
}

/// Adds the questions about the words of the status column `column`. `expiry` is the column for the time when an order
/// expires.
fn ask(
    words: &ProposedWords,
    is_closed: bool,
    column: &TableColumn,
    dictionary: &Dictionary,
    expiry: Option<&str>,
    draft: &mut Draft,
) {
    if !dictionary.words.is_empty() {
        let all: Vec<String> = dictionary
            .words
            .iter()
            .map(|(value, word)| format!("{value} is {word}"))
            .collect();
        let guess = format!(
            "{} has the words of {}: {}",
            dictionary.place,
            column.name,
            all.join(", ")
        );
        draft.guess("status", guess);
    }
    let has = |status: Status| words.has(status);
    let first = default_word(column);
    for (word, rows) in &words.unknown {
        let begins = if first.as_ref() == Some(word) {
            ", and a new row begins with it"
        } else {
            ""
        };
        let told = dictionary.told(word);
        let is_held = synonyms::HELD.contains(&&*synonyms::spaced(dictionary.word_of(word)));
        let of_cart = expiry.filter(|_| is_held).map(|expiry| {
            format!(". It may be the word of a cart, because {expiry} may say when such an order expires: then write it under hidden")
        });
        let of_cart = of_cart.unwrap_or_default();
        draft.ask(
            "status",
            format!("what does {told} mean? {rows} rows have it{begins}{of_cart}"),
        );
    }
    // A person can accept an order only if an answer has a word to write for a later status. If the column can hold no
    // other words (`is_closed`), a word for any later status is enough. In a free text column, the word for `Preparing`
    // may exist although no row has it yet. So the proposal then asks a person for the word.
    let answers = [Status::Preparing, Status::Ready, Status::Delivering, Status::Completed];
    let can_accept = if is_closed {
        answers.into_iter().any(has)
    } else {
        has(Status::Preparing)
    };
    if !can_accept {
        draft.ask(
            "status",
            "which word does an order get that is accepted? Without one nobody can accept it from a panel. If the shop has none, \
             a section [derived] keeps the answer in Vestnik (docs/derived-sources.md)",
        );
    }
    // If the column can hold no other words, one of the unknown words may be the word of a rejected order.
    let may_reject = !is_closed || !words.unknown.is_empty();
    if may_reject && !has(Status::Rejected) && !has(Status::Cancelled) {
        draft.ask(
            "status",
            "which word does an order get that is rejected? Without one nobody can reject it from a panel",
        );
    }
    if !has(Status::Pending) {
        draft.ask(
            "status",
            "which word has an order that waits for an answer? Without one nothing ever rings",
        );
    }
}

/// Groups the words in `found` by their usual meaning: a status, hidden, or unknown.
fn meanings(
    found: Vec<(String, i64)>,
    kind: SubjectKind,
    column: &TableColumn,
    dictionary: &Dictionary,
) -> ProposedWords {
    let mut words = ProposedWords {
        is_bare: matches!(column.base.as_str(), "smallint" | "integer" | "bigint" | "boolean"),
        ..ProposedWords::default()
    };
    for (word, rows) in found {
        match usual_status(dictionary.word_of(&word), kind) {
            Some(Usual::Hidden) => words.hidden.push(word),
            Some(Usual::Status(status)) => put(&mut words.known, status, word),
            None => words.unknown.push((word, rows)),
        }
    }
    // In shops without a word for pending, "processing" usually is the status of a new order. So the word then means
    // pending.
    let has_pending = words.known.iter().any(|(status, _)| *status == Status::Pending);
    let first = |word: &String| synonyms::spaced(word) == "processing";
    if !has_pending
        && let Some((_, preparing)) = words.known.iter_mut().find(|(status, _)| *status == Status::Preparing)
        && preparing.len() == 1
        && preparing.iter().any(first)
    {
        let moved = std::mem::take(preparing);
        words.known.retain(|(_, words)| !words.is_empty());
        moved
            .into_iter()
            .for_each(|word| put(&mut words.known, Status::Pending, word));
    }
    // In shops without another word for completed, "picked up" means completed.
    let has_completed = words.known.iter().any(|(status, _)| *status == Status::Completed);
    if !has_completed
        && let Some((_, delivering)) = words.known.iter_mut().find(|(status, _)| *status == Status::Delivering)
    {
        let (over, others) = std::mem::take(delivering)
            .into_iter()
            .partition(|word| synonyms::spaced(word) == "picked up");
        *delivering = others;
        words.known.retain(|(_, words)| !words.is_empty());
        for word in Vec::<String>::into_iter(over) {
            put(&mut words.known, Status::Completed, word);
        }
    }
    words.known.sort_by_key(|(status, _)| *status);
    words
}

fn put(known: &mut Vec<(Status, Vec<String>)>, status: Status, word: String) {
    match known.iter_mut().find(|(of, _)| *of == status) {
        Some((_, words)) => words.push(word),
        None => known.push((status, vec![word])),
    }
}
