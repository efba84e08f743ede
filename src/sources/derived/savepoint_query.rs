//! Runs a query of a mapping that may fail, without an end of the whole transaction.

use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;

/// The result of a query whose SQL may be wrong: its rows, or the error of Postgres.
pub(super) enum Attempt {
    Rows(Vec<tokio_postgres::Row>),
    Failed(tokio_postgres::Error),
}

/// Runs a query in a savepoint and rolls the savepoint back, so that an error does not abort the whole transaction.
pub(super) async fn attempt(
    transaction: &mut Transaction<'_>,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Attempt, tokio_postgres::Error> {
    let savepoint = transaction.transaction().await?;
    let found = savepoint.query(sql, parameters).await;
    savepoint.rollback().await?;
    match found {
        Ok(rows) => Ok(Attempt::Rows(rows)),
        Err(error) if error.as_db_error().is_some() => Ok(Attempt::Failed(error)),
        Err(error) => Err(error),
    }
}
