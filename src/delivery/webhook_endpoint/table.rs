//! The changes that an operator makes to the endpoints: add, list, remove, resume, rotate the secret, and test.

use std::str::FromStr as _;

use tokio_postgres::types::ToSql;

use crate::delivery::webhook_test_message;
use crate::domain::event::EventType;
use crate::infra::config::Webhook;
use crate::infra::db::{self, Client, QueryError};
use crate::journal;

/// The most endpoints of a database. The limit exists because each endpoint needs a task, and memory for a page of
/// events.
pub const MOST_ENDPOINTS: i64 = 50;

/// The reason why a command about endpoints failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database already has [`MOST_ENDPOINTS`] endpoints.
    #[error("a database has {MOST_ENDPOINTS} webhooks at most: remove one, or give one several stores")]
    TooMany,
    /// No endpoint has the id in the field.
    #[error("there is no webhook {0}: `vestnik webhook list` shows all")]
    Unknown(i64),
    /// The test message could not be posted.
    #[error(transparent)]
    Test(#[from] webhook_test_message::TestError),
    /// The database failed.
    #[error(transparent)]
    Failed(#[from] QueryError),
    /// The database did not respond in time.
    #[error(transparent)]
    Unanswered(#[from] db::Unanswered),
    /// The journal could not be read.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// The settings of a new endpoint.
pub struct New<'a> {
    /// The address that events are posted to.
    pub url: &'a str,
    /// The secret with which posts are signed.
    pub secret: &'a str,
    /// The stores whose events are posted. `None`: every store.
    pub stores: Option<&'a [String]>,
    /// The types of events that are posted. `None`: every type.
    pub types: Option<&'a [EventType]>,
}

/// An endpoint as `vestnik webhook list` shows it.
pub struct ListedEndpoint {
    /// The id of the endpoint.
    pub id: i64,
    /// The origin of the endpoint's URL. The path is left out, because it may contain a secret.
    pub origin: String,
    /// The stores whose events are posted. `None`: every store.
    pub stores: Option<Vec<String>>,
    /// The types of events that are posted. `None`: every type.
    pub types: Option<Vec<String>>,
    /// The number of messages that were posted.
    pub sent: i64,
    /// The number of events that were skipped, because the endpoint refused them.
    pub given_up: i64,
    /// When posts began to fail, or when the endpoint was stopped, as UTC text such as `2026-11-23 20:00`. `None`: the
    /// endpoint is not stopped, and its newest post did not fail.
    pub since: Option<String>,
    /// Whether the endpoint is stopped.
    pub is_stopped: bool,
    /// The reason of the newest failure. `None`: the newest post succeeded.
    pub reason: Option<String>,
}

/// Adds an endpoint, and returns its id. The endpoint gets only events that are committed from now on.
pub async fn add(client: &mut Client, new: &New<'_>) -> Result<i64, Error> {
    const ADD: &str = "insert into vestnik.vst_webhook_endpoint (url, secret, stores, types, cursor) select $1, $2, $3, $4, $5 \
         where (select count(*) from vestnik.vst_webhook_endpoint) < $6 returning id";
    let types: Option<Vec<&str>> = new.types.map(|types| types.iter().map(|kind| kind.as_str()).collect());
    db::with_timeout(async {
        let transaction = client.transaction().await.map_err(QueryError::from)?;
        let cursor = journal::cursor_here(&transaction).await?;
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&new.url, &new.secret, &new.stores, &types, &cursor, &MOST_ENDPOINTS];
        let row = transaction
            .query_opt(ADD, &parameters)
            .await
            .map_err(QueryError::from)?;
        let id = row.ok_or(Error::TooMany)?.try_get(0).map_err(QueryError::from)?;
        transaction.commit().await.map_err(QueryError::from)?;
        Ok(id)
    })
    .await
}

/// Lists all endpoints.
pub async fn list(client: &Client) -> Result<Vec<ListedEndpoint>, QueryError> {
    const LIST: &str = "select id, url, stores, types, sent, given_up, \
             to_char(coalesce(failing_since, stopped_at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), stopped_at is not null, reason \
         from vestnik.vst_webhook_endpoint order by id";
    db::with_timeout(async {
        let rows = client.query(LIST, &[]).await?;
        let listed = rows.iter().map(|row| {
            Ok(ListedEndpoint {
                id: row.try_get(0)?,
                origin: origin(row.try_get(1)?),
                stores: row.try_get(2)?,
                types: row.try_get(3)?,
                sent: row.try_get(4)?,
                given_up: row.try_get(5)?,
                since: row.try_get(6)?,
                is_stopped: row.try_get(7)?,
                reason: row.try_get(8)?,
            })
        });
        Ok(listed.collect::<Result<_, tokio_postgres::Error>>()?)
    })
    .await
}

/// Returns the origin of a URL: scheme, host and port. `?`: the URL is invalid.
fn origin(url: &str) -> String {
    reqwest::Url::from_str(url).map_or_else(|_| "?".to_owned(), |url| url.origin().ascii_serialization())
}

/// Removes an endpoint. A post that has already begun is finished.
pub async fn remove(client: &Client, id: i64) -> Result<(), Error> {
    change(client, id, "delete from vestnik.vst_webhook_endpoint where id = $1").await
}

/// Starts a stopped endpoint again. The events that wait for the endpoint are posted at once.
pub async fn resume(client: &Client, id: i64) -> Result<(), Error> {
    const RESUME: &str = "update vestnik.vst_webhook_endpoint set stopped_at = null, failing_since = null, attempts = 0, refusals = 0, \
             due_at = clock_timestamp() where id = $1";
    change(client, id, RESUME).await
}

/// Begins a rotation: sets a new signing secret. Until `end_rotation`, posts are signed with both the old and the new
/// secret.
pub async fn rotate(client: &Client, id: i64, secret: &str) -> Result<(), Error> {
    const ROTATE: &str = "update vestnik.vst_webhook_endpoint set secret_old = secret, secret = $2 where id = $1";
    let changed = db::with_timeout(async { Ok::<_, QueryError>(client.execute(ROTATE, &[&id, &secret]).await?) });
    match changed.await? {
        0 => Err(Error::Unknown(id)),
        _ => Ok(()),
    }
}

/// Ends the rotation: posts are signed with the new secret only.
pub async fn end_rotation(client: &Client, id: i64) -> Result<(), Error> {
    change(
        client,
        id,
        "update vestnik.vst_webhook_endpoint set secret_old = null where id = $1",
    )
    .await
}

async fn change(client: &Client, id: i64, sql: &str) -> Result<(), Error> {
    match db::with_timeout(async { Ok::<_, QueryError>(client.execute(sql, &[&id]).await?) }).await? {
        0 => Err(Error::Unknown(id)),
        _ => Ok(()),
    }
}

/// Posts a test message to an endpoint. Returns the HTTP status of the response.
pub async fn test(client: &Client, id: i64, settings: &Webhook) -> Result<u16, Error> {
    const TEST: &str = "select url, array_remove(array[secret, secret_old], null), extract(epoch from clock_timestamp())::bigint, \
             json_build_object('type', 'test', 'at', clock_timestamp())::text from vestnik.vst_webhook_endpoint where id = $1";
    let status = webhook_test_message::post(client, TEST, &id, settings).await?;
    status.ok_or(Error::Unknown(id))
}
