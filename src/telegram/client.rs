//! The client of the Bot API for one bot. It also knows whether this node reaches Telegram now.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use teloxide::payloads::{GetMe, GetWebhookInfo, SetMyCommands};
use teloxide::requests::Payload;
use teloxide::types::BotCommand;

use super::api::{Api, Problem, Unreachable};
use super::reachability::Reachability;
use crate::infra::config::Telegram;
use crate::text::catalog;

/// The names of the bot's commands, in the order in which `/help` and the menu show them.
pub(super) const COMMANDS: [&str; 11] = [
    "orders", "today", "pause", "link", "status", "mode", "mute", "unmute", "quiet", "unlink", "help",
];
/// The deadline of a small request, such as a question about the bot. Sends, edits and polls have other deadlines.
pub(super) const ASK_DEADLINE: Duration = Duration::from_secs(10);

/// The client of the Bot API for one bot. All its clones share one state that says whether this node reaches Telegram.
#[derive(Clone)]
pub struct Client {
    pub(super) api: Api,
    pub(super) reachability: Arc<Reachability>,
}

impl Client {
    /// Creates a client for these settings. Does not open a connection yet. Fails if the settings are invalid.
    pub fn new(settings: &Telegram) -> Result<Self, Unreachable> {
        Ok(Self {
            api: Api::new(settings)?,
            reachability: Arc::new(Reachability::new()),
        })
    }

    /// Sends a request. Returns the JSON of the field `result` in the response. Any response, even a refusal, ends an
    /// outage of Telegram.
    pub(super) async fn call<P>(&self, payload: &P, deadline: Duration) -> Result<Box<RawValue>, Problem>
    where
        P: Payload + Serialize + Sync,
    {
        let answer = self.api.call(payload, deadline).await;
        if !matches!(answer, Err(Problem::NoAnswer(_))) {
            self.reachability.answered();
        }
        answer
    }

    /// Asks Telegram for the bot's name, without the `@`. Telegram refuses this request if the token is invalid.
    pub async fn name(&self) -> Result<String, Unreachable> {
        #[derive(Deserialize)]
        struct Me {
            username: String,
        }
        let me = self.call(&GetMe::new(), ASK_DEADLINE).await?;
        let me: Me = serde_json::from_str(me.get())
            .map_err(|_| Unreachable::Other("an answer that is not the Bot API's".into()))?;
        Ok(me.username)
    }

    /// Sets the bot's menu of commands, in each language of the catalogs.
    pub async fn set_menu(&self) -> Result<(), Unreachable> {
        for language in [None].into_iter().chain(catalog::languages().map(Some)) {
            let words = catalog::of(language.unwrap_or(catalog::DEFAULT));
            let command = |name: &&str| BotCommand::new(*name, words.get(&format!("menu.{name}")));
            let mut request = SetMyCommands::new(COMMANDS.iter().map(command));
            request.language_code = language.map(str::to_owned);
            self.call(&request, ASK_DEADLINE).await?;
        }
        Ok(())
    }

    /// Asks Telegram for the URL of this bot's webhook. While a webhook is set, all polls fail. An empty result means
    /// that no webhook is set.
    pub async fn webhook(&self) -> Result<String, Unreachable> {
        #[derive(Deserialize)]
        struct Info {
            url: String,
        }
        let info = self.call(&GetWebhookInfo::new(), ASK_DEADLINE).await?;
        let info: Info = serde_json::from_str(info.get())
            .map_err(|_| Unreachable::Other("an answer that is not the Bot API's".into()))?;
        Ok(info.url)
    }
}
