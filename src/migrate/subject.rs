//! The journal's index on what its new orders and bookings are: which event told of this one? Built beside the writers,
//! for a large journal takes its time, and no order may wait for it. Changes of status are not in it: most events are
//! one, and each index costs its writer.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{Error, Say};

/// Without the schema: `create index` takes the table's.
const INDEX: &str = "event_subject";
/// The first characters only: a key may be longer than an index can hold, and no content makes a write fail.
const BUILD: &str = "create index concurrently if not exists event_subject on vestnik.event \
     (store_id, \"left\"(coalesce(data ->> 'order_id', data ->> 'booking_id'), 64), id) \
     where type in ('new_order', 'new_booking')";
/// How long to wait for old transactions to end. Without the index lists are slower, and nothing else.
const PATIENCE: &str = "60s";

/// Builds it, where it is not there. Whether it was built.
pub async fn build(client: &Client, say: Say<'_>) -> Result<bool, Error> {
    match state(client).await? {
        State::Valid => return Ok(false),
        State::Unfinished => {
            let sql = format!("drop index concurrently vestnik.{INDEX}");
            client.batch_execute(&sql).await?;
        }
        State::Missing => {}
    }
    client
        .batch_execute(&format!("set lock_timeout = '{PATIENCE}'"))
        .await?;
    let built = client.batch_execute(BUILD).await;
    client.batch_execute("set lock_timeout = 0").await?;
    match built {
        Ok(()) => {
            say(&format!("built {INDEX}"));
            Ok(true)
        }
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            say(&format!(
                "{INDEX} is not built, for a transaction has been open all the while: lists are slow until another \
                 `vestnik migrate` builds it"
            ));
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Says what [`build`] would do.
pub async fn tell(client: &Client, say: Say<'_>) -> Result<(), Error> {
    if !matches!(state(client).await?, State::Valid) {
        say(&format!("would build {INDEX}"));
    }
    Ok(())
}

enum State {
    Missing,
    /// A build was broken off.
    Unfinished,
    Valid,
}

async fn state(client: &Client) -> Result<State, Error> {
    const STATE: &str = "select indisvalid from pg_index where indexrelid = to_regclass('vestnik.' || $1)";
    let row = client.query_opt(STATE, &[&INDEX]).await?;
    Ok(match row.map(|row| row.try_get(0)).transpose()? {
        None => State::Missing,
        Some(false) => State::Unfinished,
        Some(true) => State::Valid,
    })
}
