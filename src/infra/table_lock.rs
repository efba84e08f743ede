//! Locks the shop's tables in short attempts. A statement that waits for a table lock blocks all later writers of the
//! table, so a long wait would stop the shop.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Maximum wait for a lock in one attempt, in milliseconds. During an attempt, writers of the table may have to wait,
/// too.
const LOCK_MS: u32 = 100;
/// Pause between two attempts. During the pause, waiting writers proceed.
const PAUSE: Duration = Duration::from_millis(400);
/// Maximum total time of all attempts.
const WAIT: Duration = Duration::from_secs(10 * 60);
/// Interval between two progress lines while another process holds the lock.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum wait for a lock in a mode that does not block writers, in milliseconds. This lock is taken between two
/// attempts, to make Postgres stop a running autovacuum. Postgres does this only for a statement that waits longer than
/// `deadlock_timeout`, by default one second. Attempts of [`LOCK_MS`] are too short.
const HARMLESS_LOCK_MS: u32 = 3000;

/// Receives progress lines for the person who runs the command. Each completed step and each wait gives one line.
pub type Progress<'a> = &'a mut (dyn FnMut(&str) + Send);

/// The error type of one attempt of [`with_lock_retries`]. It may contain an error of Postgres, such as a lock
/// time-out.
pub trait LockError: From<tokio_postgres::Error> {
    /// The error of Postgres that made the attempt fail. `None`: the attempt failed for another reason.
    fn postgres(&self) -> Option<&tokio_postgres::Error>;
}

/// Calls `attempt`, which locks tables and changes them. While it fails because a table is locked, calls it again, for
/// at most ten minutes. Meanwhile, reports which processes hold the lock. The progress lines of a failed attempt are
/// dropped, because the next attempt repeats its steps.
pub async fn with_lock_retries<T, E: LockError>(
    client: &mut Client,
    tables: &[String],
    progress: Progress<'_>,
    mut attempt: impl AsyncFnMut(&mut Client, Progress<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + WAIT;
    let mut next_line = Instant::now();
    loop {
        let mut lines = Vec::new();
        let mut keep = |line: &str| lines.push(line.to_owned());
        set_timeout(client, LOCK_MS).await?;
        let result = attempt(client, &mut keep).await;
        set_timeout(client, 0).await?;
        match result {
            Err(error) if is_lock_timeout(&error) && Instant::now() < deadline => {
                let there = existing(client, tables).await?;
                if Instant::now() >= next_line {
                    let holders = holders(client, &there).await?;
                    progress(&format!(
                        "waiting for a lock on the shop's tables or the journal: {holders}"
                    ));
                    next_line = Instant::now() + LINE_INTERVAL;
                }
                yield_autovacuum(client, &there).await?;
                sleep(PAUSE).await;
            }
            result => {
                lines.iter().for_each(|line| progress(line));
                return result;
            }
        }
    }
}

/// Sets the time, in milliseconds, that later statements of this connection wait for a lock. 0: no limit.
async fn set_timeout(client: &Client, milliseconds: u32) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(&format!("set lock_timeout = {milliseconds}"))
        .await
}

fn is_lock_timeout(error: &impl LockError) -> bool {
    error.postgres().and_then(tokio_postgres::Error::code) == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

async fn existing(client: &Client, tables: &[String]) -> Result<Vec<String>, tokio_postgres::Error> {
    const THERE: &str = "select distinct name from unnest($1::text[]) name \
         where (select relkind in ('r', 'p') from pg_class where oid = to_regclass(name))";
    client
        .query(THERE, &[&tables])
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect()
}

/// Makes Postgres stop a running autovacuum of each table. To do this, it locks the table for a moment, in a mode that
/// does not block writers.
async fn yield_autovacuum(client: &mut Client, tables: &[String]) -> Result<(), tokio_postgres::Error> {
    for table in tables {
        let transaction = client.transaction().await?;
        let sql =
            format!("set local lock_timeout = {HARMLESS_LOCK_MS}; lock table {table} in share update exclusive mode");
        match transaction.batch_execute(&sql).await {
            Ok(()) => {}
            // Ignore this error. Another process holds the lock, or this role may not take the lock. The next attempt
            // reports the problem.
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
            Err(error) => return Err(error),
        }
        transaction.rollback().await?;
    }
    Ok(())
}

/// Describes, for a person, the processes that hold locks on the tables or on their partitions. The text of queries is
/// left out, because it may contain customers' data.
pub async fn holders(client: &Client, tables: &[String]) -> Result<String, tokio_postgres::Error> {
    const HOLDERS: &str = "select distinct l.pid, coalesce(nullif(a.application_name, ''), a.usename, '?'), a.state, \
             coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0)::float8 \
         from pg_locks l left join pg_stat_activity a using (pid) \
         where l.database = (select oid from pg_database where datname = current_database()) and l.granted \
             and coalesce(pg_partition_root(l.relation)::oid, l.relation) in (select to_regclass(t) from unnest($1::text[]) t) \
             and l.pid is distinct from pg_backend_pid() order by 4 desc limit 5";
    let rows = client.query(HOLDERS, &[&tables]).await?;
    let mut holders = Vec::new();
    for row in &rows {
        let (pid, name): (Option<i32>, &str) = (row.try_get(0)?, row.try_get(1)?);
        let (state, seconds): (Option<&str>, f64) = (row.try_get(2)?, row.try_get(3)?);
        holders.push(match pid {
            Some(pid) => format!("process {pid} ({name}, {}, {seconds:.0} s)", state.unwrap_or("?")),
            None => "a prepared transaction (see pg_prepared_xacts)".into(),
        });
    }
    Ok(if holders.is_empty() {
        "its holder has just ended".into()
    } else {
        holders.join(", ")
    })
}
