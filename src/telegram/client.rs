//! The bot's HTTP client, and what its errors mean to us.

use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use teloxide::prelude::Requester as _;
use teloxide::{ApiError, Bot, RequestError};

use crate::config::Telegram;

/// How long a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// What is asked beside the messages may take so long.
pub(super) const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// Longer than any long poll: each request has a deadline of its own below it.
const REQUEST_DEADLINE: Duration = Duration::from_secs(90);

/// Telegram cannot be asked. The reasons name no address, for it holds the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The settings cannot be used.
    #[error("telegram.api_url cannot be used: give the address of a Bot API, such as https://api.telegram.org")]
    Address,
    /// The token is not let in.
    #[error("Telegram does not know this token: check telegram.token, or ask @BotFather for a new one")]
    Token,
    /// Anything else.
    #[error("Telegram cannot be reached: {0}")]
    Other(String),
}

/// The Bot API, for one bot.
#[derive(Clone)]
pub struct Client {
    pub(super) bot: Bot,
    pub(super) token: SecretString,
}

impl Client {
    /// From the settings; connects to nothing yet.
    pub fn new(settings: &Telegram) -> Result<Self, Unreachable> {
        let api_url: Url = settings.api_url.parse().map_err(|_| Unreachable::Address)?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(REQUEST_DEADLINE)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Unreachable::Other(error.without_url().to_string()))?;
        let bot = Bot::with_client(settings.token.expose_secret(), http).set_api_url(api_url);
        let token = settings.token.clone();
        Ok(Self { bot, token })
    }

    /// The bot's token.
    pub fn token(&self) -> &SecretString {
        &self.token
    }

    /// The bot's name at Telegram, without the `@`. That it is answered proves the token.
    pub async fn name(&self) -> Result<String, Unreachable> {
        match tokio::time::timeout(ASK_DEADLINE, self.bot.get_me()).await {
            Ok(Ok(me)) => Ok(me.username().to_owned()),
            Ok(Err(error)) if is_token(&error) => Err(Unreachable::Token),
            Ok(Err(error)) => Err(Unreachable::Other(reason(&error))),
            Err(_) => Err(Unreachable::Other(format!(
                "no answer within {} s",
                ASK_DEADLINE.as_secs()
            ))),
        }
    }
}

/// Whether the bot itself is not let in.
pub(super) fn is_token(error: &RequestError) -> bool {
    match error {
        RequestError::Api(ApiError::InvalidToken) => true,
        RequestError::Api(ApiError::Unknown(text)) => text == "Unauthorized" || text == "Not Found",
        _ => false,
    }
}

/// What went wrong, without the address: the token is part of it.
pub(super) fn reason(error: &RequestError) -> String {
    match error {
        RequestError::Api(error) => error.to_string(),
        RequestError::Network(error) if error.is_connect() => "no connection".into(),
        RequestError::Network(error) if error.is_timeout() => "no answer in time".into(),
        RequestError::Network(_) => "the connection broke".into(),
        RequestError::InvalidJson { .. } => "an answer that is not the Bot API's".into(),
        RequestError::RetryAfter(seconds) => format!("asked to wait {} s", seconds.seconds()),
        RequestError::MigrateToChatId(_) => "the group has a new number".into(),
        RequestError::Io(_) => "an input or output failed".into(),
    }
}
