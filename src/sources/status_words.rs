//! Checks the status words of a mapping against the values that the status column can hold.

use super::catalog::{Table, TableColumn};
use super::check_lists;
use super::mapping::Mapping;
use crate::domain::status::Status;
use crate::infra::db::GenericClient;

/// Maximum number of words of a CHECK constraint that the warnings name. A longer list is hardly one of statuses.
const LISTED_WORDS: usize = 30;

/// Adds problems and warnings, one line each. They name status words of the mapping that the column cannot hold, labels
/// of the column's enum type that the mapping lacks, and statuses without a word.
pub(super) fn validate(table: &Table, mapping: &Mapping, problems: &mut Vec<String>, warnings: &mut Vec<String>) {
    without_word(mapping, problems, warnings);
    let words = &mapping.status;
    let column = table.column(&words.column.name);
    let Some(column) = column.filter(|_| words.column.path.is_empty()) else {
        return;
    };
    for word in words.all().filter(|word| !can_hold(column, word)) {
        problems.push(match column.labels.is_empty() {
            false => format!(
                "status: the type of {} has no label `{word}`: it has {}",
                words.column,
                column.labels.join(", ")
            ),
            true => format!(
                "status: {} is of type {} and never holds `{word}`: write the values that it has",
                words.column, column.kind
            ),
        });
    }
    warnings.extend(without_meaning(mapping, &column.labels));
}

/// The warnings about words of the status column's CHECK constraints that the mapping lacks. Postgres reads a
/// constraint only under a lock on the table.
pub(super) async fn missing_of_checks(
    client: &impl GenericClient,
    table: &Table,
    mapping: &Mapping,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let words = &mapping.status;
    let column = table.column(&words.column.name);
    let column = column.filter(|column| words.column.path.is_empty() && column.labels.is_empty());
    let Some(column) = column else {
        return Ok(Vec::new());
    };
    let listed = listed_by_checks(client, table, column).await?;
    Ok(without_meaning(mapping, &listed).collect())
}

fn without_meaning<'a>(mapping: &'a Mapping, words: &'a [String]) -> impl Iterator<Item = String> + 'a {
    let missing = words.iter().filter(|word| mapping.status.meaning(word).is_none());
    missing.map(|word| format!("status: `{word}` means nothing yet: an order that has it rings, and shows that word"))
}

fn without_word(mapping: &Mapping, problems: &mut Vec<String>, warnings: &mut Vec<String>) {
    let words = &mapping.status;
    if words.words_of(Status::Pending).is_empty() {
        let why = "pending: no word means that an order is new: none would ever ring";
        problems.push(format!("status.{why}"));
    }
    // A function or the API of the shop gets the status itself where the mapping has no word.
    if mapping.answer.has_own_words() {
        return;
    }
    let has = |status: Status| !words.words_of(status).is_empty();
    if !has(Status::Preparing) {
        warnings.push(
            "status.preparing: no word says it: nobody can accept an order from a panel. A derived source can keep that answer \
             itself: docs/derived-sources.md"
                .to_owned(),
        );
    }
    if !has(Status::Rejected) {
        warnings.push(match words.word_of(Status::Rejected) {
            Some(word) => {
                format!("status.rejected: no word says it: if a person rejects an order, Vestnik writes `{word}`")
            }
            None => {
                "status.rejected: no word says it, nor that an order is cancelled: nobody can reject one from a panel"
                    .to_owned()
            }
        });
    }
    if !has(Status::Completed) {
        warnings.push("status.completed: no word says it: nobody can finish an order from a panel".to_owned());
    }
}

/// Whether the column can hold the word, as text. A word of a number such as `04` is never equal to its text `4`.
pub(super) fn can_hold(column: &TableColumn, word: &str) -> bool {
    if !column.labels.is_empty() {
        return column.labels.iter().any(|label| label == word);
    }
    match column.base.as_str() {
        "smallint" | "integer" | "bigint" => word.parse::<i64>().is_ok_and(|number| number.to_string() == word),
        "boolean" => matches!(word, "true" | "false"),
        base if base.starts_with("numeric") => word.parse::<f64>().is_ok(),
        _ => true,
    }
}

/// The words that CHECK constraints of the column list. Empty: no constraint lists words, or too many.
async fn listed_by_checks(
    client: &impl GenericClient,
    table: &Table,
    column: &TableColumn,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let mut words = check_lists::words(client, table, column).await?;
    words.retain(|word| can_hold(column, word));
    match words.len() > LISTED_WORDS {
        true => Ok(Vec::new()),
        false => Ok(words),
    }
}
