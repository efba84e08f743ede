//! Classifies the errors that Postgres reports when Vestnik reads an order for a person's answer, or writes the answer.
//! The cause is a missing right, a wrong statement, a lock, or a rule of the shop.

use tokio_postgres::error::SqlState;

/// Whether a function of the shop raised this error with RAISE. The function can choose any error code, so the code
/// does not show the cause.
pub(super) fn is_raised(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().and_then(|db| db.routine()) == Some("exec_stmt_raise")
}

/// Whether Postgres rejected the statement because the current role lacks a grant, or because of a row level security
/// policy.
pub(super) fn is_denied(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) && !is_raised(error)
}

/// Whether the statement itself is wrong, so that no later attempt can succeed. For example, the statement names a
/// missing column, table or function, or a word that the column's type does not have.
pub(super) fn is_broken_statement(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(SqlState::code);
    !is_raised(error) && code.is_some_and(|code| matches!(code, "08P01" | "22P02") || code.starts_with("42"))
}

/// Whether another transaction, usually of the shop's application, held a lock for too long. A later attempt can
/// succeed.
pub(super) fn is_locked(error: &tokio_postgres::Error) -> bool {
    const LOCKED: [SqlState; 2] = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| LOCKED.contains(code)) && !is_raised(error)
}

/// Whether Postgres, or a trigger or constraint of the shop, rejected the new values of the row.
pub(super) fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(SqlState::code);
    is_raised(error) || code.is_some_and(|code| ["22", "23", "P0", "44"].iter().any(|class| code.starts_with(class)))
}
