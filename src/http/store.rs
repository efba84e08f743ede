//! What a panel is told of its store.

use std::sync::Arc;

use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::asked::Call;
use super::problem::Problem;
use super::{Bot, Site, answer, auth};
use crate::store;

/// Its name, how its money and clock read, and how its chats are.
pub async fn card(site: Arc<Site>, call: Call) -> Response {
    let told = async {
        let (id, _) = auth::open(&site, &call).await?;
        let (_turn, pool) = site.hub.reads.turn(id.as_str()).await?;
        let card = store::card(pool, &id).await.map_err(Problem::database)?;
        let telegram = match site.bot {
            Bot::Off => "off",
            Bot::On if card.bot_stopped => "stopped",
            Bot::On => "on",
        };
        let chats = card.chats_disabled.iter();
        let chats: Vec<_> = chats
            .map(|chat| json!({"chat": chat.chat, "reason": chat.reason}))
            .collect();
        let mut body = json!({"id": id.as_str(), "currency": card.currency, "time_zone": card.time_zone,
            "telegram": telegram, "chats_disabled": chats});
        if let Some(name) = card.name {
            body["name"] = json!(name);
        }
        Ok(answer::json(StatusCode::OK, &body))
    };
    answer::to_page(told.await, &site, &call.headers)
}
