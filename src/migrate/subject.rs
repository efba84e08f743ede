//! What the journal's events are about: fills the column where events are older than it, and builds the index by which a
//! row's events are found. Both beside the writers, for a large journal takes its time, and no order may wait for it.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{Error, Say};
use crate::journal::{SUBJECT, SUBJECT_CHARACTERS};

/// Without the schema: `create index` takes the table's.
const INDEX: &str = "event_store_subject";
const BUILD: &str =
    "create index concurrently if not exists event_store_subject on vestnik.event (store_id, subject, id)";
/// What it stands for: an index on an expression, which cost each order more.
const FORMER: &str = "event_subject";
/// How long to wait for old transactions to end. Without the index lists are slower, and nothing else.
const PATIENCE: &str = "60s";
/// Events that are filled by one statement.
const BATCH: i64 = 2000;

/// Fills and builds, where the index is not there; takes the former one away. Whether anything was done.
pub async fn build(client: &Client, say: Say<'_>) -> Result<bool, Error> {
    let state = state(client, INDEX).await?;
    let former = !matches!(self::state(client, FORMER).await?, State::Missing);
    if matches!(state, State::Valid) && !former {
        return Ok(false);
    }
    let set_timeout = format!("set lock_timeout = '{PATIENCE}'");
    client.batch_execute(&set_timeout).await?;
    let built = bring(client, &state, former, say).await;
    client.batch_execute("set lock_timeout = 0").await?;
    match built {
        Err(Error::Postgres(error)) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            let open = "for a transaction has been open all the while";
            say(&match self::state(client, INDEX).await? {
                State::Valid => format!("{FORMER} still stands, {open}: another `vestnik migrate` drops it"),
                _ => format!("{INDEX} is not built, {open}: lists are slow until another `vestnik migrate` builds it"),
            });
            Ok(false)
        }
        built => built.map(|()| true),
    }
}

async fn bring(client: &Client, state: &State, former: bool, say: Say<'_>) -> Result<(), Error> {
    if matches!(state, State::Unfinished) {
        drop_index(client, INDEX).await?;
    }
    if !matches!(state, State::Valid) {
        let filled = fill(client).await?;
        client.batch_execute(BUILD).await?;
        say(&match filled {
            0 => format!("built {INDEX}"),
            filled => format!("built {INDEX}, of {filled} events from before it"),
        });
    }
    if former {
        drop_index(client, FORMER).await?;
        say(&format!("dropped {FORMER}"));
    }
    Ok(())
}

async fn drop_index(client: &Client, name: &str) -> Result<(), Error> {
    let sql = format!("drop index concurrently vestnik.{name}");
    Ok(client.batch_execute(&sql).await?)
}

/// Fills the events that triggers without the column wrote: none of them is still on its way, since attaching tables again
/// waits for their writers. A few at a time, so that no trimming waits for long; what is being trimmed is left out.
async fn fill(client: &Client) -> Result<u64, Error> {
    let sql = format!(
        "with unfilled as materialized ( \
             select e.id from vestnik.event e where e.id > $1 and e.subject is null and {SUBJECT} is not null \
             order by e.id limit $2 for no key update skip locked), \
         filled as (update vestnik.event e set subject = left({SUBJECT}, {SUBJECT_CHARACTERS}) from unfilled where e.id = unfilled.id) \
         select max(id), count(*) from unfilled"
    );
    let fill = client.prepare(&sql).await?;
    let (mut last, mut filled) = (0_i64, 0_u64);
    loop {
        let row = client.query_one(&fill, &[&last, &BATCH]).await?;
        let Some(id) = row.try_get(0)? else {
            return Ok(filled);
        };
        last = id;
        filled += row.try_get::<_, i64>(1)?.unsigned_abs();
    }
}

/// Says what [`build`] would do.
pub async fn tell(client: &Client, say: Say<'_>) -> Result<(), Error> {
    if !matches!(state(client, INDEX).await?, State::Valid) {
        say(&format!("would build {INDEX}"));
    }
    if !matches!(state(client, FORMER).await?, State::Missing) {
        say(&format!("would drop {FORMER}"));
    }
    Ok(())
}

enum State {
    Missing,
    /// A build was broken off.
    Unfinished,
    Valid,
}

async fn state(client: &Client, index: &str) -> Result<State, Error> {
    const STATE: &str = "select indisvalid from pg_index where indexrelid = to_regclass('vestnik.' || $1)";
    let row = client.query_opt(STATE, &[&index]).await?;
    Ok(match row.map(|row| row.try_get(0)).transpose()? {
        None => State::Missing,
        Some(false) => State::Unfinished,
        Some(true) => State::Valid,
    })
}
