//! The outcome of a person's answer that a rule of the shop rejected.

use tokio_postgres::error::SqlState;

use super::answer_error::is_raised;
use super::current_order::CurrentOrder;
use super::{REFUSAL_CHARACTERS, StatusChangeOutcome};

/// The outcome of a person's answer that the shop's table rejected with this error. People see the error's message only
/// if a function of the shop raised it. Other messages of Postgres are for the operator.
pub(super) fn refused(current_order: &CurrentOrder<'_>, error: &tokio_postgres::Error) -> StatusChangeOutcome {
    let is_own = is_raised(error) || error.code().is_some_and(|code| code.code().starts_with("P0"));
    let message = error.as_db_error().filter(|_| is_own).map(|db| {
        let message = db.message().chars().filter(|c| !c.is_control());
        message.take(REFUSAL_CHARACTERS).collect()
    });
    StatusChangeOutcome::Refused {
        current: current_order.current_status(),
        rule: message.is_none().then(|| rule_of(error)).flatten(),
        message,
    }
}

/// The text for people if their answer changed no row, although Postgres reported no error.
pub(super) const NO_ROW: &str =
    "no row of its table changed, because of row level security, a trigger, or the condition of the answer's statement";

/// The text for people if a trigger of the shop undid their answer without an error.
pub(super) const PUT_BACK: &str = "a trigger of its table put the earlier status back";

/// The kind of rule that caused an error of Postgres, as a text for people. The text contains no name from the shop's
/// database.
fn rule_of(error: &tokio_postgres::Error) -> Option<&'static str> {
    let code = error.code().map(SqlState::code)?;
    Some(match code {
        "23502" => "a value that its table requires is missing",
        "23503" => "a row that this one refers to is missing, or another row still refers to this one",
        "23505" => "a value that must be unique exists already",
        "23514" | "23P01" | "44000" => "a check of its table forbids the new values",
        "22001" => "a value is longer than its column",
        "22003" => "a number is out of the range of its column",
        _ if code.starts_with("22") => "a value does not fit its column",
        _ => return None,
    })
}
