//! Checks the SQL statements of the mapping that save a person's answer, by the parameters that they read.

use super::Derived;

/// The parameter of these statements that has the order's key.
const KEY: &str = "$1";
/// The parameter of these statements that has the id of the store that answers.
pub(in crate::sources) const ANSWERING_STORE: &str = "$6";
/// The SQL commands that change rows which exist.
const CHANGING: [&str; 3] = ["update", "delete", "merge"];

/// Whether a statement reads this parameter, such as `$1`.
pub(in crate::sources) fn reads(sql: &str, parameter: &str) -> bool {
    let mut after = sql.split(parameter).skip(1);
    after.any(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// The problems of statements that change rows without reading the order's key: such a statement changes every order.
/// One line each.
pub(super) fn without_key(derived: &Derived) -> impl Iterator<Item = String> + '_ {
    let changes = |sql: &str| {
        let mut words = sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        words.any(|word| CHANGING.iter().any(|command| word.eq_ignore_ascii_case(command)))
    };
    derived.answers.iter().flat_map(move |(status, statements)| {
        let lacking = statements.iter().filter(move |sql| changes(sql) && !reads(sql, KEY));
        lacking.map(move |_| {
            format!(
                "answer.{}: a statement changes rows and does not read `{KEY}`, the order's key, so it would change other orders too",
                status.as_str()
            )
        })
    })
}
