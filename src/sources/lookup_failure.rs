//! Says why the data of orders in other tables cannot be looked up, and which GRANT is missing.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::missing_right::grant_of;
use super::sql::details_sql;
use crate::infra::db::{self, GenericClient};

/// Time limit of the check of a query. A table that is locked costs no more time.
const DEADLINE: Duration = Duration::from_millis(500);

/// Why the mapping's `[details]` query fails. `None`: the query works, or a lock keeps it from an answer. Within a
/// transaction, the caller needs a savepoint, because the query may fail.
pub(super) async fn of_details(
    client: &impl GenericClient,
    query: &str,
) -> Result<Option<tokio_postgres::Error>, tokio_postgres::Error> {
    of_query(client, &details_sql(query)).await
}

/// Why a query of a look-up fails. It gets no key of an order. The result and the rule for transactions are those of
/// [`of_details`].
pub(super) async fn of_query(
    client: &impl GenericClient,
    sql: &str,
) -> Result<Option<tokio_postgres::Error>, tokio_postgres::Error> {
    // Postgres checks the names and the rights before it reads the first row. The query is the one of the look-up: for a
    // query of fewer columns, Postgres would leave out a subquery of another column, with the check of its rights.
    let sql = format!("{sql} limit 0");
    let none: Vec<&str> = Vec::new();
    match timeout(DEADLINE, client.query_typed(&sql, &[(&none, Type::TEXT_ARRAY)])).await {
        Ok(Err(error)) if error.as_db_error().is_some() => Ok(Some(error)),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(None),
    }
}

/// Whether a right is missing.
pub(super) fn is_denied(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

/// Whether a lock or a time limit kept the query from an answer, so that it says nothing about the mapping.
pub(super) fn is_delayed(error: &tokio_postgres::Error) -> bool {
    const DELAYED: [SqlState; 2] = [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED];
    error.code().is_some_and(|code| DELAYED.contains(code))
}

/// The reason of a failed look-up for the log, as `reason` gives it. If the missing GRANT cannot be found, the reason
/// comes without it. Within a transaction, the caller has rolled the look-up back.
pub async fn logged_reason(client: &impl GenericClient, error: &tokio_postgres::Error) -> String {
    match timeout(DEADLINE, reason(client, error)).await {
        Ok(Ok(reason)) => reason,
        Ok(Err(_)) | Err(_) => db::reason_without_values(error),
    }
}

/// The reason of a failed look-up in one line, without a customer's data. If a right is missing, the line ends with its GRANT.
pub(super) async fn reason(
    client: &impl GenericClient,
    error: &tokio_postgres::Error,
) -> Result<String, tokio_postgres::Error> {
    const HERE: &str = "select quote_ident(current_user), coalesce(current_schema(), '')";
    let reason = db::reason_without_values(error);
    if !is_denied(error) {
        return Ok(reason);
    }
    let row = client.query_one(HERE, &[]).await?;
    let (role, schema): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match grant_of(client, &reason, role, schema).await? {
        Some(grant) => format!("{reason}: {grant}"),
        None => format!("{reason}, as role {role}"),
    })
}
