//! Routes for the stop list of a store, which names the items that are out of stock.

use serde::Deserialize;
use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::auth::Access;
use super::error::ApiError;
use super::orders::{MAX_BY_CHARACTERS, MAX_CHANGE_BYTES, name};
use super::request::{ApiRequest, is_name, whole_number};
use super::response;
use crate::store::stock::{self, MAX_ITEM_CHARACTERS, OutOfStock, StockOutcome};
use crate::store::until::Until;

/// The JSON body of a request that puts an item on the stop list, because the item is out of stock.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopRequest {
    item: String,
    #[serde(default, deserialize_with = "whole_number")]
    minutes: Option<u32>,
    until: Option<String>,
    by: Option<String>,
}

const WANTED: &str = "{\"item\":\"Margherita\"} (up to 200 characters), until somebody puts it back; or with \"minutes\":60, or \"until\":\"tomorrow\", or \
     \"until\":\"2026-11-24T19:00:00Z\", later than now and within a week; and if you like \"by\" (up to 60 characters)";
const FULL: &str = "an item less: the stop list of a store holds 500 items; put some back first";

/// Returns the stop list of a store: the items that are out of stock.
pub async fn show(access: Access, _: ApiRequest) -> Result<Response, ApiError> {
    answer(&access).await
}

/// Puts an item on the stop list, because it is out of stock. If the item is on the list already, changes the time at
/// which it is on sale again. Returns the list.
pub async fn stop(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let wanted: StopRequest = call.body.json(MAX_CHANGE_BYTES, WANTED).await?;
    let is_open = wanted.minutes.is_none() && wanted.until.is_none();
    let until = Until::parse(wanted.minutes, wanted.until.as_deref());
    let item = wanted.item.trim();
    let is_named = wanted.by.as_ref().is_none_or(|by| is_name(by, MAX_BY_CHARACTERS));
    if !is_named || !is_name(item, MAX_ITEM_CHARACTERS) || !(is_open || until.is_some()) {
        return Err(ApiError::BadBody(WANTED));
    }
    let by = wanted.by.unwrap_or_else(|| name(&access.grant));
    let stopped = stock::stop(&access.database.hub.pool, &access.store, item, until, &by).await;
    match stopped.map_err(ApiError::database)? {
        StockOutcome::Listed => answer(&access).await,
        StockOutcome::NoSuchTime => Err(ApiError::BadBody(WANTED)),
        StockOutcome::Full => Err(ApiError::BadBody(FULL)),
    }
}

/// Removes an item from the stop list, because it is on sale again. The request also succeeds if the item is not on the
/// list. Returns the list.
pub async fn put_back(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let by = call.query.panel()?.map_or_else(|| name(&access.grant), str::to_owned);
    let item = call.query.get("item").map(str::trim);
    let item = item.filter(|item| is_name(item, MAX_ITEM_CHARACTERS));
    let item = item.ok_or(ApiError::BadParameter("item", "a name of 1 to 200 characters"))?;
    let put_back = stock::put_back(&access.database.hub.pool, &access.store, item, &by).await;
    put_back.map_err(ApiError::database)?;
    answer(&access).await
}

async fn answer(access: &Access) -> Result<Response, ApiError> {
    let list = stock::list(&access.database.hub.pool, &access.store).await;
    let items: Vec<_> = list
        .map_err(ApiError::database)?
        .iter()
        .map(OutOfStock::to_json)
        .collect();
    Ok(response::json(StatusCode::OK, &json!({ "items": items })))
}
