//! The Telegram bot of a node: the state that all handlers of updates (texts and presses of buttons) share.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::client::Client;
use super::press_answers::PressAnswers;
use crate::infra::db::Pool;
use crate::sources::registry::Registry;
use crate::sources::status_change::ShopApi;

/// The bot of this node. `update_poller` has its main loop.
pub struct Bot {
    /// The connection pool for all queries of the bot.
    pub pool: Pool,
    /// The client of the Bot API.
    pub client: Client,
    /// The sources (attached tables) with their mappings, which translate rows of the journal.
    pub sources: Arc<Registry>,
    /// The id of this node's row in `vestnik.vst_bot_node`.
    pub node: String,
    /// Signals the delivery worker that a delivery was enqueued.
    pub enqueued: Arc<Notify>,
    /// The client of the shops' own APIs. If a shop has such an API, a status is changed by a request to it, not by
    /// SQL.
    pub shop_api: Arc<ShopApi>,
    /// Answers presses of buttons. Telegram shows each answer as a pop-up text.
    pub(super) answers: PressAnswers,
    /// The bot's name at Telegram, without the `@`. Unset until Telegram has reported it.
    pub(super) name: OnceLock<String>,
}

impl Bot {
    /// Creates the bot. The bot polls Telegram only after a call of `run`.
    pub fn new(
        pool: Pool,
        client: Client,
        sources: Arc<Registry>,
        node: String,
        enqueued: Arc<Notify>,
        shop_api: Arc<ShopApi>,
    ) -> Self {
        Self {
            answers: PressAnswers::new(client.clone()),
            pool,
            client,
            sources,
            node,
            enqueued,
            shop_api,
            name: OnceLock::new(),
        }
    }

    /// The bot's name at Telegram, without the `@`. `None`: Telegram has not reported the name yet. The name is needed
    /// because a command in a group may name another bot.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.get().map(String::as_str)
    }
}
