//! Keeps who answered for an event, and when.

use crate::db::{Failed, Pool};
use crate::event::{EventId, StoreId};
use crate::reach::Way;
use crate::token::TokenId;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// It is kept, or was already.
    Stored,
    /// The store has no such event.
    UnknownEvent,
}

/// Who says so.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The token's holder.
    pub token: TokenId,
    /// What the token's maker called it: the name that others are told.
    pub label: Option<&'a str>,
    /// Over this session.
    pub session: &'a str,
    /// By this way.
    pub way: Way,
}

/// Stores that somebody has seen the event. The first word counts.
pub async fn store(pool: &Pool, store: &StoreId, event: EventId, by: By<'_>) -> Result<Acknowledged, Failed> {
    const STORE: &str = "with seen as (select id, type, at from vestnik.event where id = $1 and store_id = $2), \
         stored as (insert into vestnik.ack (event_id, token_id, session) select id, $3, $4 from seen \
             on conflict do nothing returning event_id), \
         proven as (insert into vestnik.reach as r (event_id, way, recipient, acknowledged_at, acknowledged_by) \
             select id, $5, $4, clock_timestamp(), $6 from seen \
             on conflict (event_id, way, recipient) do update set \
                 acknowledged_at = coalesce(r.acknowledged_at, excluded.acknowledged_at), \
                 acknowledged_by = coalesce(r.acknowledged_by, excluded.acknowledged_by)) \
         select (select count(*) from seen), (select extract(epoch from clock_timestamp() - at)::float8 \
             from seen where type = 'new_order' and exists (select from stored) \
               and not exists (select from vestnik.ack where event_id = $1)), \
             exists (select from seen where type = 'new_order') \
               and not exists (select from vestnik.reach where event_id = $1)";
    let client = pool.get().await?;
    let statement = client.prepare_cached(STORE).await?;
    let name = by.label.map_or_else(|| format!("token {}", by.token), str::to_owned);
    let row = client
        .query_one(
            &statement,
            &[
                &event.0,
                &store.as_str(),
                &by.token.0,
                &by.session,
                &by.way.as_str(),
                &name,
            ],
        )
        .await?;
    if let Some(seconds) = row.try_get::<_, Option<f64>>(1)? {
        metrics::histogram!("vestnik_acknowledge_seconds").record(seconds);
    }
    // The word of a quick acknowledgement may come before the one that the event was sent.
    if row.try_get(2)? {
        metrics::counter!("vestnik_orders_first_seen_total", "way" => by.way.as_str()).increment(1);
    }
    Ok(if row.try_get::<_, i64>(0)? == 0 {
        Acknowledged::UnknownEvent
    } else {
        Acknowledged::Stored
    })
}
