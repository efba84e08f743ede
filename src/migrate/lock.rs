//! One migration at a time, and short waits for the tables' own locks: a migration that waits for a lock makes every
//! writer behind it wait, too.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{Error, Say};

/// The advisory lock that one migration at a time holds: "vest", "migr".
const LOCK: i64 = 0x7665_7374_6d69_6772;
/// How long to wait for another migration to end.
const LOCK_WAIT: Duration = Duration::from_secs(30 * 60);
/// Between two looks. A statement that waited inside Postgres would hold a snapshot, and the other migration's
/// `create index concurrently` would wait for that one in turn.
const LOCK_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a statement may wait for a table, and every writer behind it.
const TABLE_LOCK_MS: u32 = 100;
/// Between two attempts, for the writers.
const TABLE_LOCK_PAUSE: Duration = Duration::from_millis(400);
/// Attempts: ten minutes of them.
const TABLE_LOCK_ATTEMPTS: u32 = 1200;
/// Attempts between two words about what is waited for.
const ATTEMPTS_A_WORD: u32 = 10;

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

/// Runs `attempt` again and again while it fails for want of a lock, and says who has it.
pub async fn patiently<T>(
    client: &mut Client,
    say: Say<'_>,
    mut attempt: impl AsyncFnMut(&mut Client) -> Result<T, Error>,
) -> Result<T, Error> {
    client
        .batch_execute(&format!("set lock_timeout = {TABLE_LOCK_MS}"))
        .await?;
    let mut attempts = 0;
    let result = loop {
        match attempt(client).await {
            Err(error) if is_lock_timeout(&error) && attempts < TABLE_LOCK_ATTEMPTS => {
                if attempts % ATTEMPTS_A_WORD == 0 {
                    say(&format!(
                        "waiting for a lock on the shop's tables: {}",
                        holders(client).await?
                    ));
                }
                attempts += 1;
                sleep(TABLE_LOCK_PAUSE).await;
            }
            result => break result,
        }
    };
    client.batch_execute("set lock_timeout = 0").await?;
    result
}

fn is_lock_timeout(error: &Error) -> bool {
    let postgres = match error {
        Error::Postgres(error) => Some(error),
        Error::History { source, .. } => {
            std::error::Error::source(source).and_then(|source| source.downcast_ref::<tokio_postgres::Error>())
        }
        _ => None,
    };
    postgres.and_then(tokio_postgres::Error::code) == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// Who holds locks on the shop's tables, for a person to look at. No query's text: it may hold customers' data.
async fn holders(client: &Client) -> Result<String, Error> {
    const HOLDERS: &str = "select distinct a.pid, coalesce(nullif(a.application_name, ''), a.usename, '?'), a.state, \
             coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0)::float8 \
         from pg_locks l join pg_stat_activity a using (pid) \
         where l.relation in (to_regclass('public.orders'), to_regclass('public.bookings')) and l.granted \
             and a.pid <> pg_backend_pid() order by 4 desc limit 5";
    let rows = client.query(HOLDERS, &[]).await?;
    let mut holders = Vec::new();
    for row in &rows {
        let (pid, name): (i32, &str) = (row.try_get(0)?, row.try_get(1)?);
        let (state, seconds): (Option<&str>, f64) = (row.try_get(2)?, row.try_get(3)?);
        holders.push(format!(
            "process {pid} ({name}, {}, {seconds:.0} s)",
            state.unwrap_or("?")
        ));
    }
    Ok(if holders.is_empty() {
        "its holder has just ended".into()
    } else {
        holders.join(", ")
    })
}
