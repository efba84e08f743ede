//! Routes for receipts: panels without a WebSocket send receipts, and managers read how each event reached people.

use serde::Deserialize;
use serde_json::json;
use time::{Duration, OffsetDateTime};
use warp::http::StatusCode;
use warp::reply::Response;

use super::auth::Access;
use super::error::ApiError;
use super::request::{ApiRequest, MAX_PANEL_CHARACTERS, is_name};
use super::response;
use crate::domain::event::{EventId, InvalidEventId};
use crate::receipts::query::{self, ReceiptQuery};
use crate::receipts::summary::{BUCKETS_S, Summary, summary as count};
use crate::receipts::writer::{Channel, Receipt, ReceiptKind};

/// Maximum number of events on one page. Without a limit in the request, a page has `EVENTS_DEFAULT` events.
const EVENTS_LIMIT: usize = 500;
const EVENTS_DEFAULT: usize = 200;
/// The longest time span of a summary.
const SUMMARY_SPAN: Duration = Duration::days(31);
/// Maximum number of receipts in one request.
const MAX_SAID: usize = 500;
/// Maximum size of a body with receipts, in bytes.
const MAX_SAID_BYTES: usize = 32 * 1024;

/// The JSON body with the receipts of a panel.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptsBody {
    panel: String,
    channel: String,
    #[serde(default)]
    rendered: Vec<String>,
    #[serde(default)]
    sounded: Vec<String>,
    rings: Option<bool>,
}

const SAID: &str = "{\"panel\":\"a name of 1 to 64 characters\",\"channel\":\"polling\" or \"sse\"}, \
     and \"rendered\" and \"sounded\" (lists of event ids, 500 in all), \"rings\" (true or false)";

/// Records the receipts of a panel without a WebSocket: rendered events, sounded events, and whether the panel can
/// ring. The channel of the receipts is `sse` only if the panel has a stream of Server-Sent Events open on this node.
/// Otherwise the channel is `polling`.
pub async fn record(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let Access {
        database, store, grant, ..
    } = &access;
    let said: ReceiptsBody = call.body.json(MAX_SAID_BYTES, SAID).await?;
    // A panel with a WebSocket sends its receipts over the WebSocket, because a request could not prove that the
    // WebSocket exists.
    let channel = [Channel::Polling, Channel::Sse];
    let channel = channel.into_iter().find(|channel| channel.as_str() == said.channel);
    let mut channel = channel.ok_or(ApiError::BadBody(SAID))?;
    if !is_name(&said.panel, MAX_PANEL_CHARACTERS) || said.rendered.len() + said.sounded.len() > MAX_SAID {
        return Err(ApiError::BadBody(SAID));
    }
    if !database.hub.panel_streams.is_open(store, grant.id, &said.panel) {
        channel = Channel::Polling;
    }
    let rendered = said.rendered.iter().map(|id| (id, ReceiptKind::Rendered));
    let words = rendered.chain(said.sounded.iter().map(|id| (id, ReceiptKind::Sounded)));
    let words: Vec<(EventId, ReceiptKind)> = words
        .map(|(id, what)| Ok((id.parse()?, what)))
        .collect::<Result<_, InvalidEventId>>()
        .map_err(|_| ApiError::BadBody(SAID))?;
    if let Some(rings) = said.rings {
        database.hub.presence.poll(store, grant.id, &said.panel, rings);
    }
    let at = OffsetDateTime::now_utc();
    for (event, what) in words {
        database.hub.recorder.record(Receipt {
            store: store.clone(),
            event,
            channel,
            recipient: said.panel.clone(),
            token: grant.id,
            what,
            at,
        });
    }
    Ok(response::done())
}

/// Returns a page of a store's events, each with its receipts.
pub async fn events(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let before = call.query.get("before").map(str::parse).transpose();
    let wanted = ReceiptQuery {
        store: &access.store,
        from: call.query.moment("from")?,
        to: call.query.moment("to")?,
        key: call.query.text("order")?,
        before: before.map_err(|_| ApiError::BadParameter("before", "the id of an event"))?,
        limit: call.query.limit(EVENTS_DEFAULT, EVENTS_LIMIT)?,
    };
    let hub = &access.database.hub;
    let sources = hub.sources.loaded(&hub.pool).await.map_err(ApiError::database)?;
    let (_turn, pool) = hub.reads.turn(access.store.as_str()).await?;
    let page = query::events(pool, &sources, &wanted)
        .await
        .map_err(ApiError::database)?;
    let mut body = json!({"events": page.events, "more": page.next_before.is_some()});
    if let Some(next) = page.next_before {
        body["next_before"] = json!(next.to_string());
    }
    Ok(response::json(StatusCode::OK, &body))
}

/// Returns statistics of the store's orders in a time span: the channels on which people first saw orders, and the
/// times until acknowledgement and preparation.
pub async fn summary(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    const SPAN: &str = "a time like 2026-11-24T19:00:00Z: give from and to, 31 days apart at most";
    let from = call.query.moment("from")?.ok_or(ApiError::BadParameter("from", SPAN))?;
    let to = call.query.moment("to")?.ok_or(ApiError::BadParameter("to", SPAN))?;
    if to < from || to - from > SUMMARY_SPAN {
        return Err(ApiError::BadParameter("to", SPAN));
    }
    let hub = &access.database.hub;
    let sources = hub.sources.loaded(&hub.pool).await.map_err(ApiError::database)?;
    let (_turn, pool) = hub.reads.turn(access.store.as_str()).await?;
    let summary = count(pool, &sources, &access.store, from, to).await;
    let summary = summary.map_err(ApiError::database)?;
    Ok(response::json(StatusCode::OK, &shown(&summary)))
}

fn shown(summary: &Summary) -> serde_json::Value {
    let by = |channel: &str| summary.first_seen.iter().find(|(name, _)| name == channel);
    let by = |channel: &str| by(channel).map_or(0, |(_, count)| *count);
    let seen: i64 = summary.first_seen.iter().map(|(_, count)| count).sum();
    let bounds = BUCKETS_S.iter().map(|bound| json!(bound)).chain([json!(null)]);
    let buckets = bounds.zip(&summary.buckets);
    let prepared = &summary.prepared;
    let buckets: Vec<_> = buckets.map(|(le, count)| json!({"le": le, "count": count})).collect();
    json!({
        "orders": summary.orders,
        "first_seen": {
            "websocket": by("websocket"), "sse": by("sse"), "polling": by("polling"), "telegram": by("telegram"),
            "none": summary.orders - seen,
        },
        "acknowledge_seconds": {"buckets": buckets, "p50": summary.p50, "p90": summary.p90},
        "preparation_seconds": {"orders": prepared.orders, "p50": prepared.p50, "p90": prepared.p90,
            "promised": prepared.promised, "late": prepared.late},
        "escalated": summary.escalated,
    })
}
