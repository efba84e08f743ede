//! Keeps who answered for an event, and when.

use deadpool_postgres::Pool;

use crate::event::{EventId, StoreId};
use crate::token::TokenId;

/// Why an acknowledgement was not kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres says so, or is gone.
    #[error("the acknowledgement cannot be stored: {}", crate::db::reason(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// No connection was free, or could be made.
    #[error("no connection for storing an acknowledgement: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// It is kept, or was already.
    Stored,
    /// The store has no such event.
    UnknownEvent,
}

/// Stores that the token's holder, over this session, has seen the event. The first word counts.
pub async fn store(
    pool: &Pool,
    store: &StoreId,
    event: EventId,
    token: TokenId,
    session: &str,
) -> Result<Acknowledged, Error> {
    const STORE: &str = "with seen as (select id from vestnik.event where id = $1 and store_id = $2), \
             stored as (insert into vestnik.ack (event_id, token_id, session) select id, $3, $4 from seen \
                        on conflict do nothing) \
         select count(*) from seen";
    let client = pool.get().await?;
    let statement = client.prepare_cached(STORE).await?;
    let row = client
        .query_one(&statement, &[&event.0, &store.as_str(), &token.0, &session])
        .await?;
    Ok(if row.try_get::<_, i64>(0)? == 0 {
        Acknowledged::UnknownEvent
    } else {
        Acknowledged::Stored
    })
}
