//! The proof of the alert: what a panel says that has no socket, and what became of each event.

use serde::Deserialize;
use serde_json::json;
use time::{Duration, OffsetDateTime};
use warp::http::StatusCode;
use warp::reply::Response;

use super::response;
use super::request::{Call, MAX_PANEL_CHARACTERS, is_name};
use super::auth::Access;
use super::error::Problem;
use crate::domain::event::EventId;
use crate::receipts::writer::{Way, What, Word};
use crate::receipts::query::{self, ReceiptQuery};
use crate::receipts::summary::{BUCKETS_S, Summary, summary as count};

/// Events of one page, at most and where nothing else is asked for.
const EVENTS_LIMIT: usize = 500;
const EVENTS_DEFAULT: usize = 200;
/// The longest span of a summary.
const SUMMARY_SPAN: Duration = Duration::days(31);
/// Events that a panel may say something of at once.
const MAX_SAID: usize = 500;
/// Bytes of what it says.
const MAX_SAID_BYTES: usize = 32 * 1024;

/// What a panel says.
#[derive(Deserialize)]
struct Said {
    panel: String,
    way: String,
    #[serde(default)]
    rendered: Vec<String>,
    #[serde(default)]
    rung: Vec<String>,
    rings: Option<bool>,
}

const SAID: &str = "{\"panel\":\"a name of 1 to 64 characters\",\"way\":\"polling\"}, \
     and \"rendered\" and \"rung\" (lists of event ids, 500 in all), \"rings\" (true or false)";

/// The word of a panel without a socket: what stands on its screen, what rang, and whether it can ring.
pub async fn say(access: Access, call: Call) -> Result<Response, Problem> {
    let Access { site, store, grant, .. } = &access;
    let said: Said = call.body.json(MAX_SAID_BYTES, SAID).await?;
    // What came over a socket is said over that socket: here nobody could tell whether it was ever there.
    let is_polling = said.way == Way::Polling.as_str();
    if !is_polling || !is_name(&said.panel, MAX_PANEL_CHARACTERS) || said.rendered.len() + said.rung.len() > MAX_SAID {
        return Err(Problem::BadBody(SAID));
    }
    let rendered = said.rendered.iter().map(|id| (id, What::Rendered));
    let words = rendered.chain(said.rung.iter().map(|id| (id, What::Rung)));
    let words: Vec<(EventId, What)> = words
        .map(|(id, what)| Ok((EventId(id.parse()?), what)))
        .collect::<Result<_, std::num::ParseIntError>>()
        .map_err(|_| Problem::BadBody(SAID))?;
    if let Some(rings) = said.rings {
        site.hub.presence.poll(store, grant.id, &said.panel, rings);
    }
    let at = OffsetDateTime::now_utc();
    for (event, what) in words {
        site.hub.recorder.say(Word {
            store: store.clone(),
            event,
            way: Way::Polling,
            recipient: said.panel.clone(),
            token: grant.id,
            what,
            at,
        });
    }
    Ok(response::done())
}

/// What became of the events.
pub async fn events(access: Access, call: Call) -> Result<Response, Problem> {
    let before = call.query.get("before").map(str::parse).transpose();
    let wanted = ReceiptQuery {
        store: &access.store,
        from: call.query.moment("from")?,
        to: call.query.moment("to")?,
        key: call.query.text("order")?,
        before: before
            .map_err(|_| Problem::BadParameter("before", "the id of an event"))?
            .map(EventId),
        limit: call.query.limit(EVENTS_DEFAULT, EVENTS_LIMIT)?,
    };
    let hub = &access.site.hub;
    let sources = hub.sources.loaded(&hub.pool).await.map_err(Problem::database)?;
    let (_turn, pool) = hub.reads.turn(access.store.as_str()).await?;
    let page = query::events(pool, &sources, &wanted)
        .await
        .map_err(Problem::database)?;
    let mut body = json!({"events": page.events, "more": page.next_before.is_some()});
    if let Some(next) = page.next_before {
        body["next_before"] = json!(next.to_string());
    }
    Ok(response::json(StatusCode::OK, &body))
}

/// The figures of a span.
pub async fn summary(access: Access, call: Call) -> Result<Response, Problem> {
    const SPAN: &str = "a time like 2026-11-24T19:00:00Z: give from and to, 31 days apart at most";
    let from = call.query.moment("from")?.ok_or(Problem::BadParameter("from", SPAN))?;
    let to = call.query.moment("to")?.ok_or(Problem::BadParameter("to", SPAN))?;
    if to < from || to - from > SUMMARY_SPAN {
        return Err(Problem::BadParameter("to", SPAN));
    }
    let hub = &access.site.hub;
    let sources = hub.sources.loaded(&hub.pool).await.map_err(Problem::database)?;
    let (_turn, pool) = hub.reads.turn(access.store.as_str()).await?;
    let summary = count(pool, &sources, &access.store, from, to).await;
    let summary = summary.map_err(Problem::database)?;
    Ok(response::json(StatusCode::OK, &shown(&summary)))
}

fn shown(summary: &Summary) -> serde_json::Value {
    let by = |way: &str| summary.first_seen.iter().find(|(name, _)| name == way);
    let by = |way: &str| by(way).map_or(0, |(_, count)| *count);
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
