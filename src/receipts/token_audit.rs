//! Reads what a token was used for: status changes and acknowledgements. If an entry names a person, the user of the
//! token has chosen this name, and nobody has verified it.

use futures::StreamExt as _;
use serde::Serialize;
use tokio_postgres::Row;

use super::audit::{Error, Span, times};
use crate::infra::db::{Client, QueryError};
use crate::token::TokenId;

/// One act with a token: a status change or an acknowledgement.
#[derive(Debug, Serialize)]
pub struct Act {
    /// The time of the act, such as `2026-11-24 19:03:00`, in the time zone of the report's store. A report about all
    /// stores has the times in UTC.
    pub at: String,
    /// The kind of act: `status` for a status change, or `acknowledged`.
    pub what: String,
    /// The id of the order's store.
    pub store: String,
    /// The name of the order's source (an attached table). `None`: the event has no source, or the source was removed.
    pub source: Option<String>,
    /// The key of the order in its source. `None`: the event has no order.
    pub key: Option<String>,
    /// The status before a status change. `None`: the act is an acknowledgement.
    pub previous: Option<String>,
    /// The status after a status change. `None`: the act is an acknowledgement.
    pub status: Option<String>,
    /// The id of the acknowledged event. `None`: the act is a status change.
    pub event: Option<String>,
    /// The name of the person, which the user of the token has chosen. `None`: no name is known.
    pub by: Option<String>,
}

/// Reads the acts with a token in the time span, ordered by time, and passes each act to `pass`. The field `subject` of
/// `span` is ignored.
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
