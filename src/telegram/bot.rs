//! The bot of a node: the state that all handlers of its updates share.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::client::Client;
use super::press_answers::PressAnswers;
use crate::infra::db::Pool;
use crate::sources::registry::Registry;
use crate::sources::status_change::ShopApi;

/// The bot of this node. `update_poller` runs it.
pub struct Bot {
    /// The pool for all queries of the bot.
    pub pool: Pool,
    /// The bot at Telegram.
    pub client: Client,
    /// Translates the rows of the journal.
    pub sources: Arc<Registry>,
    /// The node's name in `vestnik.vst_bot_node`.
    pub node: String,
    /// Wakes the worker, because a delivery was enqueued.
    pub planned: Arc<Notify>,
    /// Sends changes of status to the shops' own APIs.
    pub shop_api: Arc<ShopApi>,
    /// Answers presses of buttons.
    pub(super) answers: PressAnswers,
    /// The bot's name, as soon as Telegram has reported it.
    pub(super) name: OnceLock<String>,
}

impl Bot {
    /// Creates the bot. Sends no request.
    pub fn new(
        pool: Pool,
        client: Client,
        sources: Arc<Registry>,
        node: String,
        planned: Arc<Notify>,
        shop_api: Arc<ShopApi>,
    ) -> Self {
        Self {
            answers: PressAnswers::new(client.clone()),
            pool,
            client,
            sources,
            node,
            planned,
            shop_api,
            name: OnceLock::new(),
        }
    }

    /// The bot's name at Telegram, if known. In a group, a command may name another bot.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.get().map(String::as_str)
    }
}
