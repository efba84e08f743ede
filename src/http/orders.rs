//! Routes for a store's orders and bookings: lists, and status changes.

use serde::Deserialize;
use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::auth::Access;
use super::error::ApiError;
use super::request::{ApiRequest, is_name, whole_number};
use super::response;
use crate::domain::status::{Status, SubjectKind};
use crate::sources::list::{self, ListQuery, ListResult, StatusFilter};
use crate::sources::status_change::{self, AnswerChannel, CurrentStatus, StatusChange, StatusChangeOutcome};
use crate::token::Grant;

/// Number of rows in a list, if the client gives no limit.
const LIST_DEFAULT: usize = 100;
/// Maximum size of the body of a status change, in bytes.
pub(super) const MAX_CHANGE_BYTES: usize = 4 * 1024;
/// Maximum length of the reason that a person gives for a change, in characters.
const MAX_REASON_CHARACTERS: usize = 500;
/// Maximum length of the name of the person who makes a change, in characters.
pub(super) const MAX_BY_CHARACTERS: usize = 60;
/// The preparation times that a person may promise, in minutes.
const MINUTES: std::ops::RangeInclusive<i32> = 1..=600;

/// Lists the orders of a store.
pub async fn list_orders(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    list_of(&access, &call, SubjectKind::Order).await
}

/// Lists the bookings of a store.
pub async fn list_bookings(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    list_of(&access, &call, SubjectKind::Booking).await
}

async fn list_of(access: &Access, call: &ApiRequest, kind: SubjectKind) -> Result<Response, ApiError> {
    let wanted = ListQuery {
        store: &access.store,
        kind,
        statuses: statuses(call.query.get("status"), kind)?,
        source: call.query.text("source")?,
        before: call.query.text("before")?,
        before_source: call.query.text("before_source")?,
        limit: call.query.limit(LIST_DEFAULT, list::MAX_ROWS)?,
    };
    let hub = &access.database.hub;
    let sources = hub.sources.loaded(&hub.pool).await.map_err(ApiError::database)?;
    let (_turn, pool) = hub.reads.turn(access.store.as_str()).await?;
    let page = match list::list(pool, &sources, &wanted).await.map_err(ApiError::database)? {
        ListResult::Page(page) => page,
        ListResult::UnknownBefore => return Err(ApiError::BadParameter("before", "the id of a row of this list")),
    };
    for order in &page.incomplete {
        hub.lookup.incomplete_orders.add(&access.store, order);
    }
    let noun = match kind {
        SubjectKind::Order => "orders",
        SubjectKind::Booking => "bookings",
    };
    let mut body = json!({noun: page.rows, "cursor": page.cursor, "more": page.more});
    if !page.unavailable.is_empty() {
        body["unavailable"] = json!(page.unavailable);
    }
    Ok(response::json(StatusCode::OK, &body))
}

/// Parses the statuses that a list includes: `active`, `all`, or status names separated by commas. `None` means
/// `active`.
fn statuses(asked: Option<&str>, kind: SubjectKind) -> Result<StatusFilter, ApiError> {
    match asked {
        None | Some("active") => Ok(StatusFilter::active(kind)),
        Some("all") => Ok(StatusFilter::Any),
        Some(names) => {
            let named: Option<Vec<Status>> = names.split(',').map(Status::from_name).collect();
            named.map(StatusFilter::These).ok_or(ApiError::BadStatus)
        }
    }
}

/// Changes the status of an order.
pub async fn change_order(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    change(access, call, SubjectKind::Order).await
}

/// Changes the status of a booking.
pub async fn change_booking(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    change(access, call, SubjectKind::Booking).await
}

/// The JSON body of a status change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeStatusRequest {
    status: String,
    from: Option<String>,
    reason: Option<String>,
    #[serde(default, deserialize_with = "whole_number")]
    minutes: Option<i32>,
    by: Option<String>,
    source: Option<String>,
}

const WISH: &str = "{\"status\":\"preparing\"}, and if you like \"from\" (what it is now), \"reason\" (up to 500 characters), \"minutes\" (1 to 600), \
     \"by\" (up to 60 characters), \"source\" (where its key stands in several)";

async fn change(access: Access, call: ApiRequest, kind: SubjectKind) -> Result<Response, ApiError> {
    let key = call.key()?;
    let wish: ChangeStatusRequest = call.body.json(MAX_CHANGE_BYTES, WISH).await?;
    let to = Status::from_name(&wish.status).ok_or(ApiError::BadStatus)?;
    let from = wish.from.as_deref();
    let from = from.map(|from| Status::from_name(from).ok_or(ApiError::BadStatus));
    check(&wish)?;
    let by = wish.by.unwrap_or_else(|| name(&access.grant));
    let change = StatusChange {
        store: &access.store,
        kind,
        source: wish.source.as_deref(),
        key: &key,
        to,
        from: from.transpose()?,
        reason: wish.reason.as_deref().filter(|reason| !reason.trim().is_empty()),
        minutes: wish.minutes,
        by: &by,
        token: Some(access.grant.id),
        request: call.request,
        channel: AnswerChannel::Panel,
        step_back: access.database.step_back,
    };
    let hub = &access.database.hub;
    let sources = hub.sources.loaded(&hub.pool).await.map_err(ApiError::database)?;
    let turn = hub.changes.take(access.store.as_str()).await?;
    let changed = status_change::change_status(&hub.pool, &sources, &hub.shop_api, &change, turn).await;
    match changed.map_err(ApiError::database)? {
        StatusChangeOutcome::Done { source, previous } => {
            let becomes = sources
                .by_name(&source)
                .map_or(to, |source| source.mapping.status.becomes(to));
            let body =
                json!({"id": key, "source": source, "status": becomes.as_str(), "previous_status": previous.as_str()});
            Ok(response::json(StatusCode::OK, &body))
        }
        StatusChangeOutcome::Already(current) | StatusChangeOutcome::Overtaken(current) => Err(conflict(current)),
        StatusChangeOutcome::NotAllowed(current) => Err(ApiError::StatusNotReachable(current.status.as_str())),
        StatusChangeOutcome::Refused { message, rule, .. } => Err(ApiError::StatusRefused { message, rule }),
        StatusChangeOutcome::Denied => Err(ApiError::StatusNotPossible),
        StatusChangeOutcome::Unavailable(_) => Err(ApiError::ShopUnavailable),
        StatusChangeOutcome::Locked => Err(ApiError::OrderLocked),
        StatusChangeOutcome::NoWord(_) => Err(ApiError::StatusUnknownToShop(to.as_str())),
        StatusChangeOutcome::Ambiguous(sources) => Err(ApiError::AmbiguousOrder(sources)),
        StatusChangeOutcome::Unknown => Err(ApiError::UnknownOrder),
    }
}

fn conflict(current: CurrentStatus) -> ApiError {
    ApiError::StatusConflict {
        status: current.status.as_str(),
        by: current.by,
    }
}

fn check(wish: &ChangeStatusRequest) -> Result<(), ApiError> {
    let named = wish.by.as_ref().is_none_or(|by| is_name(by, MAX_BY_CHARACTERS));
    let minutes = wish.minutes.is_none_or(|minutes| MINUTES.contains(&minutes));
    if named && minutes && wish.reason.as_deref().is_none_or(is_reason) {
        Ok(())
    } else {
        Err(ApiError::BadBody(WISH))
    }
}

/// Whether a text is allowed as the reason of a change: it must not be too long, and its only control characters may be
/// line breaks and tabs.
pub(super) fn is_reason(reason: &str) -> bool {
    let is_text = |letter: char| !letter.is_control() || matches!(letter, '\n' | '\r' | '\t');
    reason.chars().count() <= MAX_REASON_CHARACTERS && reason.chars().all(is_text)
}

/// The name that Vestnik records for a change if the request names no person: the label of the token, or the token's
/// id.
pub(super) fn name(grant: &Grant) -> String {
    match &grant.label {
        Some(label) => label.chars().take(MAX_BY_CHARACTERS).collect(),
        None => format!("token {}", grant.id),
    }
}
