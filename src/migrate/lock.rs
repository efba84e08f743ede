//! One migration at a time, and short waits for the tables' own locks.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::{Error, Say};
use crate::table_lock::{LockError, with_lock_retries};

/// The advisory lock that one migration at a time holds: "vest", "migr".
const LOCK: i64 = 0x7665_7374_6d69_6772;
/// How long to wait for another migration to end.
const LOCK_WAIT: Duration = Duration::from_secs(30 * 60);
/// Between two looks. A statement that waited inside Postgres would hold a snapshot, and the other migration's
/// `create index concurrently` would wait for that one in turn.
const LOCK_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Waits until no other migration runs.
pub async fn acquire(client: &Client, say: Say<'_>) -> Result<(), Error> {
    let deadline = Instant::now() + LOCK_WAIT;
    let mut said = false;
    loop {
        let row = client.query_one("select pg_try_advisory_lock($1)", &[&LOCK]).await?;
        if row.try_get(0)? {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Locked(LOCK_WAIT.as_secs() / 60));
        }
        if !said {
            say("another migration is running: waiting for it");
            said = true;
        }
        sleep(LOCK_LOOK_INTERVAL).await;
    }
}

/// Lets the next one go on. The lock ends with the connection anyway, so an error changes nothing.
pub async fn release(client: &Client) {
    let _ = client.execute("select pg_advisory_unlock($1)", &[&LOCK]).await;
}

impl LockError for Error {
    fn postgres(&self) -> Option<&tokio_postgres::Error> {
        match self {
            Self::Postgres(error) => Some(error),
            Self::History { problem, .. } => {
                std::error::Error::source(problem).and_then(|source| source.downcast_ref::<tokio_postgres::Error>())
            }
            _ => None,
        }
    }
}

/// Runs `attempt` again and again while it fails for want of a lock on a table that a migration may have to wait for.
pub async fn patiently<T>(
    client: &mut Client,
    say: Say<'_>,
    attempt: impl AsyncFnMut(&mut Client, Say<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let tables = tables(client).await?;
    with_lock_retries(client, &tables, say, attempt).await
}

/// The journal, the reference shop's tables, and those that are attached.
async fn tables(client: &Client) -> Result<Vec<String>, Error> {
    let sources = "select to_regclass('vestnik.vst_source') is not null";
    let mut names = vec!["vestnik.vst_event".to_owned()];
    names.extend(super::v23::TABLES.map(str::to_owned));
    if client.query_one(sources, &[]).await?.try_get(0)? {
        let attached = client
            .query(
                "select table_name from vestnik.vst_source where detached_at is null",
                &[],
            )
            .await?;
        for row in &attached {
            names.push(row.try_get(0)?);
        }
    }
    Ok(names)
}
