//! What the holder of a token did: changes of status, and acknowledgements. Names are as the holder claimed them.

use futures::StreamExt as _;
use serde::Serialize;
use tokio_postgres::Row;

use super::audit::{Error, Span, times};
use crate::infra::db::{Client, QueryError};
use crate::token::TokenId;

/// One act of a token's holder.
#[derive(Debug, Serialize)]
pub struct Act {
    /// The time, by the clock of the span's store; without a store, in UTC.
    pub at: String,
    /// `status`, or `acknowledged`.
    pub what: String,
    /// The store of the order.
    pub store: String,
    /// The source of the order.
    pub source: Option<String>,
    /// The order's key. `None`: the event has none.
    pub key: Option<String>,
    /// For a change of status: the earlier one.
    pub previous: Option<String>,
    /// For a change of status: the new one.
    pub status: Option<String>,
    /// For an acknowledgement: the event.
    pub event: Option<String>,
    /// The name that the holder claimed.
    pub by: Option<String>,
}

/// Passes each act of the token in the span to `pass`, by time. An order's name in the span is not looked at.
pub async fn acts(client: &Client, token: TokenId, span: &Span<'_>, mut pass: impl FnMut(Act)) -> Result<(), Error> {
    const ACTS: &str = "select to_char(at at time zone $5, 'YYYY-MM-DD HH24:MI:SS'), what, store_id, o.name, key, previous, status, \
             event::text, by_whom from ( \
             select at, 'status' as what, store_id, source, key, previous, status, null::bigint as event, by_whom \
             from vestnik.vst_status_change where token_id = $1 \
             union all select r.acknowledged_at, 'acknowledged', e.store_id, e.source, e.key, null, null, e.id, r.acknowledged_by \
             from vestnik.vst_receipt r join vestnik.vst_event e on e.id = r.event_id \
             where r.token_id = $1 and r.acknowledged_at is not null) act \
         left join vestnik.vst_source o on o.id = act.source \
         where ($2::text is null or store_id = $2) and ($3::timestamptz is null or at >= $3) and ($4::timestamptz is null or at < $4) \
         order by at";
    let times = times(client, span).await?;
    let store = span.store.map(|store| store.as_str());
    let statement = client.prepare_cached(ACTS).await.map_err(QueryError::from)?;
    let rows = client
        .query_raw(&statement, &[&token.0, &store, &times.from, &times.to, &times.zone])
        .await;
    let mut rows = rows.map_err(QueryError::from)?;
    while let Some(row) = rows.next().await {
        let row = row.map_err(QueryError::from)?;
        pass(act(&row).map_err(QueryError::from)?);
    }
    Ok(())
}

fn act(row: &Row) -> Result<Act, tokio_postgres::Error> {
    Ok(Act {
        at: row.try_get(0)?,
        what: row.try_get(1)?,
        store: row.try_get(2)?,
        source: row.try_get(3)?,
        key: row.try_get(4)?,
        previous: row.try_get(5)?,
        status: row.try_get(6)?,
        event: row.try_get(7)?,
        by: row.try_get(8)?,
    })
}
