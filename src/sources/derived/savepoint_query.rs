//! Runs SQL of a mapping that may fail, without an end of the whole transaction.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use crate::infra::db;

/// The result of SQL that may be wrong: its result, or the error of Postgres.
pub(super) enum Attempt<T> {
    Done(T),
    Failed(tokio_postgres::Error),
}

/// Runs a query in a savepoint and rolls the savepoint back, so that an error does not abort the whole transaction.
pub(super) async fn attempt(
    transaction: &mut Transaction<'_>,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Attempt<Vec<Row>>, tokio_postgres::Error> {
    let savepoint = db::savepoint(transaction).await?;
    let found = savepoint.query(sql, parameters).await;
    db::roll_back(savepoint).await?;
    match found {
        Ok(rows) => Ok(Attempt::Done(rows)),
        Err(error) if error.as_db_error().is_some() => Ok(Attempt::Failed(error)),
        Err(error) => Err(error),
    }
}

/// Ends a savepoint in which the mapping's SQL gave this result. If the SQL failed, rolls the savepoint back. Another
/// error is returned, and the caller must end the transaction.
pub(super) async fn end<T>(
    savepoint: db::Transaction<'_>,
    result: Result<T, tokio_postgres::Error>,
) -> Result<Attempt<T>, tokio_postgres::Error> {
    match result {
        Ok(done) => {
            savepoint.commit().await?;
            Ok(Attempt::Done(done))
        }
        Err(error) if is_of_mapping(&error) => {
            savepoint.rollback().await?;
            Ok(Attempt::Failed(error))
        }
        // The savepoint ends here, too: it has the same name as a savepoint around it.
        Err(error) if error.as_db_error().is_some() => {
            savepoint.rollback().await?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Whether an expression of the mapping caused the error. If not, the cause is temporary: for example, Postgres was
/// busy or stopping, or a row was locked.
fn is_of_mapping(error: &tokio_postgres::Error) -> bool {
    const PASSING: [&str; 5] = ["40", "53", "55", "57P", "58"];
    error
        .code()
        .is_some_and(|code| !PASSING.iter().any(|class| code.code().starts_with(class)))
}
