//! Checks the SQL statements of the mapping that save a person's answer, by the parameters that they read.

use super::Derived;

/// The parameter of these statements that has the order's key.
const KEY: &str = "$1";
/// The parameter of these statements that has the id of the store that answers.
pub(in crate::sources) const ANSWERING_STORE: &str = "$6";
/// The first words of statements that may change rows which exist.
const CHANGING: [&str; 4] = ["update", "delete", "merge", "with"];

/// Whether a statement reads this parameter, such as `$1`.
pub(in crate::sources) fn reads(sql: &str, parameter: &str) -> bool {
    let mut after = sql.split(parameter).skip(1);
    after.any(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// The problems of first statements that change rows without reading the order's key: such a statement changes every
/// order. One line each. A later statement may change a row of the store.
pub(super) fn without_key(derived: &Derived) -> impl Iterator<Item = String> + '_ {
    let changes = |sql: &str| {
        let first = sql.split_whitespace().next().unwrap_or_default();
        CHANGING.iter().any(|command| first.eq_ignore_ascii_case(command))
    };
    derived.answers.iter().flat_map(move |(status, statements)| {
        let first = statements.first().filter(|sql| changes(sql) && !reads(sql, KEY));
        first.map(|_| {
            format!(
                "answer.{}: a statement changes rows and does not read `{KEY}`, the order's key, so it would change other orders too",
                status.as_str()
            )
        })
    })
}
