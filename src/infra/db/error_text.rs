//! The texts of errors of Postgres, for the log and for operators.

/// Returns the text of an error from Postgres or the operating system, in one line. If Postgres gives a hint, the text
/// contains the hint.
pub fn reason(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => match db.hint() {
            Some(hint) => format!("{} ({}): {hint}", db.message(), db.code().code()),
            None => format!("{} ({})", db.message(), db.code().code()),
        },
        (None, Some(source)) => source.to_string(),
        (None, None) => error.to_string(),
    }
}

/// Returns the text of an error as [`reason`] does. In errors about data (SQLSTATE class 22), quoted values are removed,
/// because they may be a customer's data. An invalid enum word stays, because it comes from the mapping.
pub fn reason_without_values(error: &tokio_postgres::Error) -> String {
    let reason = reason(error);
    let is_of_data = error.code().is_some_and(|code| code.code().starts_with("22"));
    match is_of_data && !reason.starts_with("invalid input value for enum") {
        true => unquoted(&reason),
        false => reason,
    }
}

fn unquoted(text: &str) -> String {
    let parts = text.split('"').enumerate();
    let parts: Vec<&str> = parts.map(|(at, part)| if at % 2 == 0 { part } else { "..." }).collect();
    parts.join("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_data_is_told_without_the_data() {
        assert_eq!(
            unquoted("invalid input syntax for type integer: \"Anna\" (22P02)"),
            "invalid input syntax for type integer: \"...\" (22P02)"
        );
    }
}
