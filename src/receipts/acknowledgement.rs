//! Saves acknowledgements. An acknowledgement says that a person has seen an event, at a panel or another client.

use crate::infra::db::Pool;

use crate::domain::event::{EventId, StoreId};
use crate::infra::db::QueryError;
use crate::receipts::first_seen;
use crate::receipts::writer::Channel;
use crate::sources::Sources;
use crate::token::TokenId;

/// The outcome of saving an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// The acknowledgement is saved now, or was saved before.
    Saved,
    /// The store has no event with this id.
    UnknownEvent,
}

/// The person and the client that acknowledge an event.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The id of the token with which the acknowledgement was sent.
    pub token: TokenId,
    /// The label of the token, which other people see as the person's name. `None`: the token has no label.
    pub label: Option<&'a str>,
    /// The name of the session or panel that sent the acknowledgement.
    pub session: &'a str,
    /// The channel that carried the acknowledgement.
    pub channel: Channel,
}

/// Saves the acknowledgement of an event: a person has seen the event. Also saves the time of the acknowledgement in
/// the client's receipt of the event. If the same token acknowledges an event several times, the first time counts.
pub async fn save(
    pool: &Pool,
    sources: &Sources,
    store: &StoreId,
    event: EventId,
    by: By<'_>,
) -> Result<Acknowledged, QueryError> {
    const SAVE: &str = "with seen as (select id, at from vestnik.vst_event where id = $1 and store_id = $2), \
         saved as (insert into vestnik.vst_acknowledgement (event_id, token_id, session) select id, $3, $4 from seen \
             on conflict do nothing returning event_id), \
         receipt as (insert into vestnik.vst_receipt as r (event_id, channel, recipient, token_id, acknowledged_at, acknowledged_by) \
             select id, $5, $4, $3, clock_timestamp(), $6 from seen \
             on conflict (event_id, channel, recipient, token_id) do update set \
                 acknowledged_at = coalesce(r.acknowledged_at, excluded.acknowledged_at), \
                 acknowledged_by = coalesce(r.acknowledged_by, excluded.acknowledged_by)) \
         select (select count(*) from seen), (select extract(epoch from clock_timestamp() - at)::float8 \
             from seen where exists (select from saved) \
               and not exists (select from vestnik.vst_acknowledgement where event_id = $1)), \
             exists (select from seen) and not exists ( \
                 select from vestnik.vst_receipt where event_id = $1 and channel <> 'webhook')";
    let client = pool.get().await?;
    let statement = client.prepare_cached(SAVE).await?;
    let name = by.label.map_or_else(|| format!("token {}", by.token), str::to_owned);
    let row = client
        .query_one(
            &statement,
            &[
                &event.0,
                &store.as_str(),
                &by.token.0,
                &by.session,
                &by.channel.as_str(),
                &name,
            ],
        )
        .await?;
    // A client may acknowledge the event before the receipt for its sending is saved. Then the acknowledgement counts
    // as the first receipt of the event.
    let (first_word, first_seen): (Option<f64>, bool) = (row.try_get(1)?, row.try_get(2)?);
    if first_word.is_some() || first_seen {
        let is_new = !first_seen::new_orders(&*client, sources, &[event]).await?.is_empty();
        if let Some(seconds) = first_word.filter(|_| is_new) {
            metrics::histogram!("vestnik_order_acknowledgement_seconds").record(seconds);
        }
        if is_new && first_seen {
            metrics::counter!("vestnik_orders_first_seen_total", "channel" => by.channel.as_str()).increment(1);
        }
    }
    Ok(if row.try_get::<_, i64>(0)? == 0 {
        Acknowledged::UnknownEvent
    } else {
        Acknowledged::Saved
    })
}

/// Whether a person has acknowledged the event. `None`: the store has no event with this id.
pub async fn is_seen(pool: &Pool, store: &StoreId, event: EventId) -> Result<Option<bool>, QueryError> {
    const SEEN: &str = "select exists (select from vestnik.vst_acknowledgement a where a.event_id = e.id) \
         from vestnik.vst_event e where e.id = $1 and e.store_id = $2";
    let client = pool.get().await?;
    let statement = client.prepare_cached(SEEN).await?;
    let row = client.query_opt(&statement, &[&event.0, &store.as_str()]).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}
