//! The route that returns data of a store, which the store's panels show.

use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::auth::Access;
use super::error::ApiError;
use super::request::ApiRequest;
use super::{Bot, response};
use crate::store::card;

/// Returns the store's name, currency, time zone and pause, and the chats that no longer accept messages.
pub async fn show(access: Access, _: ApiRequest) -> Result<Response, ApiError> {
    let (_turn, pool) = access.database.hub.reads.turn(access.store.as_str()).await?;
    let card = card::read(pool, &access.store).await;
    let card = card.map_err(ApiError::database)?;
    let telegram = match access.database.bot {
        Bot::Off => "off",
        Bot::On if card.bot_stopped => "stopped",
        Bot::On => "on",
    };
    let chats = card.chats_disabled.iter();
    let chats: Vec<_> = chats
        .map(|chat| json!({"chat": chat.chat, "reason": chat.reason}))
        .collect();
    let mut body = json!({"id": access.store.as_str(), "currency": card.currency, "time_zone": card.time_zone,
        "answer_seconds": card.answer_seconds, "telegram": telegram, "chats_disabled": chats});
    if let Some(name) = card.name {
        body["name"] = json!(name);
    }
    if let Some(pause) = card.pause {
        body["pause"] = pause.to_json();
    }
    Ok(response::json(StatusCode::OK, &body))
}
