//! Savepoints: marks in a transaction to which the caller can roll back after an error, and then go on.

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// The name of each savepoint.
pub(super) const SAVEPOINT: &str = "vst";
/// The statement that undoes what happened after the savepoint.
pub(super) const ROLL_BACK: &str = "rollback to savepoint vst";

/// Runs a transaction's statements after a savepoint.
pub async fn savepoint<'a>(
    transaction: &'a mut tokio_postgres::Transaction<'_>,
) -> Result<tokio_postgres::Transaction<'a>> {
    transaction.savepoint(SAVEPOINT).await
}

/// Undoes what happened after the savepoint, and ends the savepoint. The library's own `rollback` leaves the savepoint
/// open. Thousands of open savepoints would fill the table of locks that all sessions of Postgres share.
pub async fn roll_back(savepoint: tokio_postgres::Transaction<'_>) -> Result<()> {
    savepoint.batch_execute(ROLL_BACK).await?;
    savepoint.commit().await
}
