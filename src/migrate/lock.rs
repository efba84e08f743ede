//! The lock that allows only one migration at a time. Also repeats changes that failed because another transaction had
//! locked the table.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::{Error, Progress};
use crate::infra::db::GenericClient;
use crate::infra::table_lock::{LockError, with_lock_retries};

/// The key of the advisory lock that a running migration holds. Its bytes spell "vest" and "migr".
const LOCK: i64 = 0x7665_7374_6d69_6772;
/// The application name of a migration's connection.
const APPLICATION: &str = "vestnik migrate";
/// How long a migration waits for another migration to end.
const LOCK_WAIT: Duration = Duration::from_secs(30 * 60);
/// Interval between two attempts to take the lock. A statement that waits for the lock in Postgres would keep a
/// snapshot open. The other migration's `create index concurrently` waits until all older snapshots end, so both
/// migrations would wait forever.
const LOCK_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Takes the lock of migrations. While another migration runs, waits and reports this through `say`.
pub async fn acquire(client: &Client, say: Progress<'_>) -> Result<(), Error> {
    let deadline = Instant::now() + LOCK_WAIT;
    let mut known = None;
    loop {
        let row = client.query_one("select pg_try_advisory_lock($1)", &[&LOCK]).await?;
        if row.try_get(0)? {
            return Ok(());
        }
        let holder = holder(client).await?;
        if Instant::now() > deadline {
            return Err(Error::Locked {
                minutes: LOCK_WAIT.as_secs() / 60,
                holder: holder.map_or_else(|| "nobody".to_owned(), |holder| holder.says),
            });
        }
        match &holder {
            Some(holder) if known != Some(holder.pid) => {
                known = Some(holder.pid);
                say(&holder.says);
            }
            _ => {}
        }
        sleep(LOCK_LOOK_INTERVAL).await;
    }
}

/// The holder of the migrations' lock.
pub struct Holder {
    pid: i32,
    /// Whether the holder has the application name of a migration.
    pub is_migration: bool,
    /// A description of the holder for a person. If the holder is not a migration, the description says what to do.
    pub says: String,
}

/// Finds the holder of the migrations' lock. `None`: the lock is free.
pub async fn holder(client: &impl GenericClient) -> Result<Option<Holder>, tokio_postgres::Error> {
    const HOLDER: &str = "select l.pid, coalesce(a.application_name, ''), coalesce(a.usename, '') \
         from pg_locks l left join pg_stat_activity a using (pid) \
         where l.locktype = 'advisory' and l.granted and l.objsubid = 1 \
           and l.database = (select oid from pg_database where datname = current_database()) \
           and l.classid::bigint = $1::bigint >> 32 and l.objid::bigint = $1::bigint & 4294967295 and l.pid <> pg_backend_pid() limit 1";
    let Some(row) = client.query_opt(HOLDER, &[&LOCK]).await? else {
        return Ok(None);
    };
    let (pid, name, role): (i32, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let is_migration = name == APPLICATION;
    Ok(Some(Holder {
        pid,
        is_migration,
        says: match is_migration {
            true => format!("another migration is running (pid {pid}, role {role}): waiting for it"),
            false => format!(
                "somebody else holds the lock of migrations, which wait for it: pid {pid} ({name}, role {role}); end it: \
                 select pg_terminate_backend({pid})"
            ),
        },
    }))
}

/// Releases the lock of migrations. An error is ignored, because the lock ends with the connection in any case.
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

/// Runs `attempt`, and repeats it while it fails because a table is locked. See [`with_lock_retries`].
pub async fn with_retries<T>(
    client: &mut Client,
    say: Progress<'_>,
    attempt: impl AsyncFnMut(&mut Client, Progress<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let tables = tables(client).await?;
    with_lock_retries(client, &tables, say, attempt).await
}

/// Returns the tables that a migration may have to lock: the journal, the reference shop's tables, and the attached
/// tables.
async fn tables(client: &Client) -> Result<Vec<String>, Error> {
    let sources = "select to_regclass('vestnik.vst_source') is not null";
    let mut names = vec!["vestnik.vst_event".to_owned()];
    names.extend(super::v23_names::TABLES.map(str::to_owned));
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
