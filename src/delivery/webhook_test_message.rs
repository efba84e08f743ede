//! Posts a test message to a webhook, when an operator requests this.

use tokio_postgres::types::ToSql;

use crate::infra::config::Webhook;
use crate::infra::db::{self, Client, QueryError};
use crate::infra::standard_webhook::{DEADLINE, Letter, Poster};

/// The reason why a test message could not be posted.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The receiver did not accept the test message. The field is the reason.
    #[error("the webhook did not take it: {0}")]
    NotTaken(String),
    /// The database failed.
    #[error(transparent)]
    Failed(#[from] QueryError),
    /// The HTTP client could not be built.
    #[error("webhooks cannot be posted from here: {0}")]
    Client(#[from] reqwest::Error),
}

/// Posts one message of type `test`, and returns the HTTP status of the response. The query `sql` returns the address,
/// the secrets, the time and the body of the message. `which` is its only parameter. `None`: the query returns no row.
pub(super) async fn post(
    client: &Client,
    sql: &str,
    which: &(dyn ToSql + Sync),
    settings: &Webhook,
) -> Result<Option<u16>, TestError> {
    let row = db::with_timeout(async { Ok::<_, QueryError>(client.query_opt(sql, &[which]).await?) }).await?;
    let Some(row) = row else { return Ok(None) };
    let read = || {
        Ok::<_, tokio_postgres::Error>(Letter {
            id: format!("test_{:016x}", fastrand::u64(..)),
            url: row.try_get(0)?,
            secrets: row.try_get(1)?,
            time: row.try_get(2)?,
            body: row.try_get(3)?,
        })
    };
    let letter = read().map_err(QueryError::from)?;
    let posted = Poster::new(*settings)?.post(&letter, DEADLINE).await;
    match posted.map(|answer| answer.status().as_u16()) {
        Ok(status @ 200..300) => Ok(Some(status)),
        Ok(status) => Err(TestError::NotTaken(format!("it answered {status}"))),
        Err(error) => Err(TestError::NotTaken(error.to_string())),
    }
}
