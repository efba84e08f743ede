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
/// How long to go on with attempts.
const TABLE_LOCK_WAIT: Duration = Duration::from_secs(10 * 60);
/// Between two words about what is waited for.
const TABLE_LOCK_WORD: Duration = Duration::from_secs(5);
/// How long to wait, between two attempts, for a lock that no writer waits behind. Postgres asks autovacuum to give way
/// to whoever has waited for `deadlock_timeout`, 1 s: an attempt of 100 ms alone would meet it again and again.
const HARMLESS_LOCK_MS: u32 = 3000;

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

/// Runs `attempt` again and again while it fails for want of a lock, and says who has it. What an attempt says is passed
/// on when it has succeeded.
pub async fn patiently<T>(
    client: &mut Client,
    say: Say<'_>,
    mut attempt: impl AsyncFnMut(&mut Client, Say<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let deadline = Instant::now() + TABLE_LOCK_WAIT;
    let mut next_word = Instant::now();
    loop {
        let mut lines = Vec::new();
        let mut keep = |line: &str| lines.push(line.to_owned());
        set_timeout(client, TABLE_LOCK_MS).await?;
        let result = attempt(client, &mut keep).await;
        set_timeout(client, 0).await?;
        match result {
            Err(error) if is_lock_timeout(&error) && Instant::now() < deadline => {
                let tables = tables(client).await?;
                if Instant::now() >= next_word {
                    let holders = holders(client, &tables).await?;
                    say(&format!(
                        "waiting for a lock on the shop's tables or the journal: {holders}"
                    ));
                    next_word = Instant::now() + TABLE_LOCK_WORD;
                }
                send_vacuum_away(client, &tables).await?;
                sleep(TABLE_LOCK_PAUSE).await;
            }
            result => {
                lines.iter().for_each(|line| say(line));
                return result;
            }
        }
    }
}

/// How long the statements that follow wait for a lock; 0: for ever.
async fn set_timeout(client: &Client, milliseconds: u32) -> Result<(), Error> {
    Ok(client
        .batch_execute(&format!("set lock_timeout = {milliseconds}"))
        .await?)
}

/// Whether an attempt failed for want of a lock.
fn is_lock_timeout(error: &Error) -> bool {
    let postgres = match error {
        Error::Postgres(error) => Some(error),
        Error::History { problem, .. } => {
            std::error::Error::source(problem).and_then(|source| source.downcast_ref::<tokio_postgres::Error>())
        }
        _ => None,
    };
    postgres.and_then(tokio_postgres::Error::code) == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// The tables that a migration may have to wait for: the journal, the reference shop's, and those that are attached.
async fn tables(client: &Client) -> Result<Vec<String>, Error> {
    const THERE: &str = "select name from unnest($1::text[]) name \
         where (select relkind in ('r', 'p') from pg_class where oid = to_regclass(name))";
    let attachments = "select to_regclass('vestnik.attachment') is not null";
    let mut names = vec!["vestnik.event".to_owned()];
    names.extend(super::v23::TABLES.map(str::to_owned));
    if client.query_one(attachments, &[]).await?.try_get(0)? {
        let attached = client.query("select table_name from vestnik.attachment", &[]).await?;
        for row in &attached {
            names.push(row.try_get(0)?);
        }
    }
    names.sort();
    names.dedup();
    let rows = client.query(THERE, &[&names]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Waits for each table in a mode that vacuum gives way to, and that no writer waits behind.
async fn send_vacuum_away(client: &mut Client, tables: &[String]) -> Result<(), Error> {
    for table in tables {
        let transaction = client.transaction().await?;
        let sql =
            format!("set local lock_timeout = {HARMLESS_LOCK_MS}; lock table {table} in share update exclusive mode");
        match transaction.batch_execute(&sql).await {
            Ok(()) => {}
            // Somebody else's, for the next attempt to meet.
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            Err(error) => return Err(error.into()),
        }
        transaction.rollback().await?;
    }
    Ok(())
}

/// Who holds locks on the tables or their partitions, for a person to look at. No query's text: it may hold customers'
/// data.
async fn holders(client: &Client, tables: &[String]) -> Result<String, Error> {
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
