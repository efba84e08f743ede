//! Routes for a store's events: their history, which a panel polls if it has no stream, and their acknowledgements.

use serde_json::json;
use time::OffsetDateTime;
use warp::http::StatusCode;
use warp::reply::Response;

use super::auth::Access;
use super::error::ApiError;
use super::request::ApiRequest;
use super::{DatabaseContext, response};
use crate::domain::event::{Delivery, EventId, JournalEvent, StoreId};
use crate::domain::store_set::StoreSet;
use crate::infra::db;
use crate::infra::metrics::HOT;
use crate::journal::{self, Page, Start};
use crate::receipts::acknowledgement::{self, Acknowledged};
use crate::receipts::writer::{Channel, Receipt, ReceiptKind};
use crate::token::Scope;

/// Maximum number of events on one page of the history. Without a limit in the request, a page has `HISTORY_DEFAULT`
/// events.
const HISTORY_LIMIT: usize = 500;
const HISTORY_DEFAULT: usize = 100;
/// The recipient's name in the receipt of an acknowledgement over HTTP, if the client gives no panel name.
const NAMELESS: &str = "http";

/// Returns a page of a store's history. If the request names a panel, Vestnik records that the events on the page were
/// sent to this panel.
pub async fn history(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let Access {
        database, store, grant, ..
    } = &access;
    let limit = call.query.limit(HISTORY_DEFAULT, HISTORY_LIMIT)?;
    let panel = call.query.panel()?;
    let (events, response) = read(database, store, call.query.get("after"), limit).await?;
    // A client with the scope `read` is not a panel, so no event counts as sent to it.
    if let Some(panel) = panel.filter(|_| grant.scope >= Scope::Panel) {
        events.iter().for_each(|event| record_sent(&access, panel, *event));
    }
    Ok(response)
}

fn record_sent(access: &Access, panel: &str, event: EventId) {
    access.database.hub.recorder.record(Receipt {
        store: access.store.clone(),
        event,
        channel: Channel::Polling,
        recipient: panel.to_owned(),
        token: access.grant.id,
        what: ReceiptKind::Sent,
        at: OffsetDateTime::now_utc(),
    });
}

async fn read(
    database: &DatabaseContext,
    store: &StoreId,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<EventId>, Response), ApiError> {
    let start = after.map_or(Start::Newest, Start::After);
    let (_turn, pool) = database.hub.reads.turn(store.as_str()).await?;
    let page = journal::read_page(pool, &StoreSet::One(store.clone()), start, limit)
        .await
        .map_err(ApiError::database)?;
    match page {
        Page::Resync { reason, fresh, .. } => Err(ApiError::Resync(reason, fresh)),
        Page::Events { events, cursor, end } => {
            let rows: Vec<&JournalEvent> = events.iter().map(|row| &row.event).collect();
            let told = database.hub.translate(&rows).await.map_err(ApiError::database)?;
            HOT.polled.increment(told.len() as u64);
            let cursor_of = |id: EventId| {
                events
                    .iter()
                    .find(|row| row.event.id == id)
                    .map_or(cursor.as_str(), |row| &row.cursor)
            };
            let texts: Vec<String> = told
                .iter()
                .map(|event| event.to_wire(cursor_of(event.id), Delivery::Replayed))
                .collect();
            let more = end.is_none();
            let body = format!(
                r#"{{"events":[{}],"cursor":"{cursor}","more":{more}}}"#,
                texts.join(",")
            );
            let ids = told.iter().map(|event| event.id).collect();
            Ok((ids, response::json_text(StatusCode::OK, body)))
        }
    }
}

/// Returns one event with all its parts. A stream leaves out large parts of a large event, such as its items. The
/// client can request the whole event from this route.
pub async fn whole(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let Access { database, store, .. } = &access;
    let id = call.event()?;
    let (_turn, pool) = database.hub.reads.turn(store.as_str()).await?;
    let rows = db::with_timeout(journal::read_event(pool, store, id));
    let rows = rows.await.map_err(ApiError::database)?;
    let rows: Vec<&JournalEvent> = rows.iter().collect();
    let told = database.hub.translate_whole(&rows).await.map_err(ApiError::database)?;
    match told.iter().find(|event| event.id == id) {
        Some(event) => Ok(response::json_text(StatusCode::OK, event.to_wire_alone())),
        None => Err(ApiError::UnknownEvent),
    }
}

/// Records that a person has acknowledged an event.
pub async fn acknowledge(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let Access {
        database, store, grant, ..
    } = &access;
    let by = acknowledgement::By {
        token: grant.id,
        label: grant.label.as_deref(),
        session: call.query.panel()?.unwrap_or(NAMELESS),
        channel: Channel::Polling,
    };
    let sources = database
        .hub
        .sources
        .loaded(&database.hub.pool)
        .await
        .map_err(ApiError::database)?;
    let saved = db::with_timeout(acknowledgement::save(
        &database.hub.token_pool,
        &sources,
        store,
        call.event()?,
        by,
    ));
    match saved.await.map_err(ApiError::database)? {
        Acknowledged::Saved => Ok(response::done()),
        Acknowledged::UnknownEvent => Err(ApiError::UnknownEvent),
    }
}

/// Returns whether a person has acknowledged an event. A ringing panel polls this route, so that it becomes silent when
/// a person has acknowledged the event elsewhere.
pub async fn acknowledgement(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let Access { database, store, .. } = &access;
    let seen = db::with_timeout(acknowledgement::is_seen(&database.hub.pool, store, call.event()?));
    match seen.await.map_err(ApiError::database)? {
        Some(is_seen) => Ok(response::json(StatusCode::OK, &json!({"acknowledged": is_seen}))),
        None => Err(ApiError::UnknownEvent),
    }
}
