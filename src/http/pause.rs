//! Routes for the pause of a store, during which the store takes no new orders. Vestnik itself refuses no order: the
//! shop's own application must read the pause and refuse orders.

use serde::Deserialize;
use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::auth::Access;
use super::error::ApiError;
use super::orders::{MAX_BY_CHARACTERS, MAX_CHANGE_BYTES, is_reason, name};
use super::request::{ApiRequest, is_name, whole_number};
use super::response;
use crate::store::pause::{self, Pause};
use crate::store::until::Until;

/// The JSON body that begins a pause.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseRequest {
    #[serde(default, deserialize_with = "whole_number")]
    minutes: Option<u32>,
    until: Option<String>,
    by: Option<String>,
    reason: Option<String>,
}

const WANTED: &str = "{\"minutes\":30}, or {\"until\":\"tomorrow\"}, or {\"until\":\"2026-11-24T19:00:00Z\"}: later than now, and within a week; and if you \
     like \"by\" (up to 60 characters) and \"reason\" (up to 500 characters)";

/// Returns the pause of a store.
pub async fn show(access: Access, _: ApiRequest) -> Result<Response, ApiError> {
    let pause = pause::current(&access.database.hub.pool, &access.store).await;
    Ok(answer_of(pause.map_err(ApiError::database)?.as_ref()))
}

/// Pauses a store, or changes the end of its pause. Returns the pause.
pub async fn begin(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let wanted: PauseRequest = call.body.json(MAX_CHANGE_BYTES, WANTED).await?;
    let until = Until::parse(wanted.minutes, wanted.until.as_deref()).ok_or(ApiError::BadBody(WANTED))?;
    let reason = wanted.reason.as_deref().filter(|reason| !reason.trim().is_empty());
    if !reason.is_none_or(is_reason) || !wanted.by.as_ref().is_none_or(|by| is_name(by, MAX_BY_CHARACTERS)) {
        return Err(ApiError::BadBody(WANTED));
    }
    let by = wanted.by.unwrap_or_else(|| name(&access.grant));
    let pause = pause::begin(&access.database.hub.pool, &access.store, until, &by, reason).await;
    match pause.map_err(ApiError::database)? {
        Some(pause) => Ok(answer_of(Some(&pause))),
        None => Err(ApiError::BadBody(WANTED)),
    }
}

/// Ends the pause of a store. The request also succeeds if the store is not paused.
pub async fn end(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let by = call.query.panel()?.map_or_else(|| name(&access.grant), str::to_owned);
    let ended = pause::end(&access.database.hub.pool, &access.store, &by).await;
    ended.map_err(ApiError::database)?;
    Ok(answer_of(None))
}

fn answer_of(pause: Option<&Pause>) -> Response {
    let mut body = pause.map_or_else(|| json!({}), Pause::to_json);
    body["paused"] = json!(pause.is_some());
    response::json(StatusCode::OK, &body)
}
