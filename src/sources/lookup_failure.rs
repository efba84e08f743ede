//! Says why the data of orders in other tables cannot be looked up, and which GRANT is missing.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::infra::db::{self, GenericClient};

/// Time limit of the check of a `[details]` query. A table that is locked costs no more time.
const DEADLINE: Duration = Duration::from_millis(500);

/// Why the mapping's `[details]` query fails. `None`: the query works, or a lock keeps it from an answer. Within a
/// transaction, the caller needs a savepoint, because the query may fail.
pub(super) async fn of_details(
    client: &impl GenericClient,
    query: &str,
) -> Result<Option<tokio_postgres::Error>, tokio_postgres::Error> {
    let query = query.trim().trim_end_matches(';');
    // Postgres checks the names and the rights before it reads the first row.
    let sql = format!("select details.key from ({query}) details limit 0");
    let none: Vec<&str> = Vec::new();
    match timeout(DEADLINE, client.query_typed(&sql, &[(&none, Type::TEXT_ARRAY)])).await {
        Ok(Err(error)) if error.as_db_error().is_some() => Ok(Some(error)),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(None),
    }
}

/// The reason of a failed look-up in one line. If a right is missing, the line ends with its GRANT.
pub(super) async fn reason(
    client: &impl GenericClient,
    error: &tokio_postgres::Error,
) -> Result<String, tokio_postgres::Error> {
    const NAMED: &str = "select quote_ident(current_user), (select format('%I.%I', n.nspname, c.relname) from pg_class c \
         join pg_namespace n on n.oid = c.relnamespace where c.relname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f') \
           and not has_table_privilege(c.oid, 'select') \
         order by pg_table_is_visible(c.oid) desc, n.nspname limit 1)";
    let reason = db::reason(error);
    let Some(denied) = error
        .as_db_error()
        .filter(|_| error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE))
    else {
        return Ok(reason);
    };
    let message = denied.message();
    let name = message.rsplit(' ').next().unwrap_or_default().trim_matches('"');
    let row = client.query_one(NAMED, &[&name]).await?;
    let role: &str = row.try_get(0)?;
    let table: Option<&str> = row.try_get(1)?;
    let what = message.split(" for ").nth(1).and_then(|of| of.split(' ').next());
    let grant = match (what, table) {
        (Some("table" | "view"), Some(table)) => format!("select on {table}"),
        (Some("schema"), _) => format!("usage on schema {name}"),
        (Some("function"), _) => format!("execute on function {name}"),
        _ => return Ok(format!("{reason}, as role {role}")),
    };
    Ok(format!("{reason}: grant {grant} to {role}"))
}
