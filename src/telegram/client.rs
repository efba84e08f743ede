//! The bot at Telegram: its name, its menu, and whether it can be reached.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use teloxide::payloads::{GetMe, GetWebhookInfo, SetMyCommands};
use teloxide::requests::Payload;
use teloxide::types::BotCommand;

use super::api::{Api, Problem};
use super::command::COMMANDS;
use super::line::Line;
use super::refusal::{Meaning, Refusal, Request};
use crate::infra::config::Telegram;
use crate::text::catalog;

/// The deadline of requests other than messages.
pub(super) const ASK_DEADLINE: Duration = Duration::from_secs(10);

/// Why Telegram cannot be used. Reasons contain no address, because the address contains the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The setting `telegram.api_url` is invalid.
    #[error("telegram.api_url cannot be used: give the address of a Bot API, such as https://api.telegram.org")]
    Address,
    /// The setting `telegram.proxy` is invalid.
    #[error("telegram.proxy cannot be used: it looks like http://host:3128 or socks5h://host:1080")]
    Proxy,
    /// Telegram refused the token.
    #[error("Telegram does not know this token: check telegram.token, or ask @BotFather for a new one")]
    Token,
    /// Telegram did not respond, or refused the request; the reason.
    #[error("Telegram cannot be reached: {0}")]
    Other(String),
}

impl From<Problem> for Unreachable {
    fn from(problem: Problem) -> Self {
        if problem.is_token() {
            return Self::Token;
        }
        Self::Other(problem.reason().to_owned())
    }
}

/// The Bot API for one bot. Clones share the state of the connection.
#[derive(Clone)]
pub struct Client {
    pub(super) api: Api,
    pub(super) line: Arc<Line>,
}

impl Client {
    /// A client for these settings; opens no connection. Fails if the settings are invalid.
    pub fn new(settings: &Telegram) -> Result<Self, Unreachable> {
        Ok(Self {
            api: Api::new(settings)?,
            line: Arc::new(Line::new()),
        })
    }

    /// Sends a request, and returns the JSON of its result. Any response shows that Telegram is reached.
    pub(super) async fn call<P>(&self, payload: &P, deadline: Duration) -> Result<Box<RawValue>, Problem>
    where
        P: Payload + Serialize + Sync,
    {
        let answer = self.api.call(payload, deadline).await;
        if !matches!(answer, Err(Problem::NoAnswer(_))) {
            self.line.answered();
        }
        answer
    }

    /// The bot's name at Telegram, without the `@`. A response proves the token.
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

    /// Sets the commands in the bot's menu, in each language.
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

    /// The webhook address that another program has set, which stops all polling. Empty: none.
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

impl Problem {
    /// Whether Telegram refused the token itself.
    pub fn is_token(&self) -> bool {
        let is_token = |refusal: &Refusal| refusal.meaning(Request::Message) == Meaning::UnknownToken;
        matches!(self, Self::Refused(refusal) if is_token(refusal))
    }
}
