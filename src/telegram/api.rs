//! Sends one request to the Bot API over HTTP, and reads its response. Requests use the types of the library teloxide.
//! Responses are parsed here, because the meaning of an error depends on its code and its description. teloxide drops
//! the code, and does not know many descriptions.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use teloxide::requests::Payload;
use tokio::time::timeout;

use super::refusal::{Refusal, RefusalKind, Request};
use crate::infra::config::Telegram;

/// The reason why Telegram cannot be used. The text of a reason never contains a URL, because the URL of a request
/// contains the token.
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
    /// Telegram did not respond, or refused the request for another reason than the token. The field is the reason.
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

/// The deadline for opening a connection to Telegram.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The largest accepted response, bytes. The largest response of the Bot API is a list of updates, of at most 4 MiB.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The HTTP client of the Bot API, for one bot.
#[derive(Clone)]
pub(super) struct Api {
    http: reqwest::Client,
    /// The URL of the Bot API without the token. A request adds the token to the path.
    base: Url,
    token: SecretString,
}

/// The reason why a request to the Bot API failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// The Bot API refused the request.
    Refused(Refusal),
    /// The Bot API did not respond: there was no connection, no response in time, a page of a proxy, or a 5xx status
    /// from Telegram. The field is the reason. It leaves out the URL, because the URL contains the token.
    NoAnswer(String),
}

#[derive(Deserialize)]
struct Answer<'a> {
    ok: bool,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error_code: Option<u16>,
    description: Option<String>,
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

impl Api {
    /// Builds the HTTP client. Does not open a connection yet. Fails if the settings are invalid.
    pub fn new(settings: &Telegram) -> Result<Self, Unreachable> {
        let base: Url = settings.api_url.parse().map_err(|_| Unreachable::Address)?;
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_DEADLINE)
            .tcp_nodelay(true);
        if let Some(proxy) = &settings.proxy {
            http = http.proxy(reqwest::Proxy::all(proxy.expose_secret()).map_err(|_| Unreachable::Proxy)?);
        }
        let http = http
            .build()
            .map_err(|error| Unreachable::Other(error.without_url().to_string()))?;
        let token = settings.token.clone();
        Ok(Self { http, base, token })
    }

    pub fn token(&self) -> &SecretString {
        &self.token
    }

    /// Sends a request to the Bot API. Returns the JSON of the field `result` in the response.
    pub async fn call<P>(&self, payload: &P, deadline: Duration) -> Result<Box<RawValue>, Problem>
    where
        P: Payload + Serialize + Sync,
    {
        let no_answer = || Problem::NoAnswer(format!("no answer within {} s", deadline.as_secs()));
        timeout(deadline, self.exchange(payload))
            .await
            .map_err(|_| no_answer())?
    }

    async fn exchange<P>(&self, payload: &P) -> Result<Box<RawValue>, Problem>
    where
        P: Payload + Serialize + Sync,
    {
        let body = serde_json::to_vec(payload).map_err(|error| Problem::NoAnswer(error.to_string()))?;
        let request = self
            .http
            .post(self.url(P::NAME)?)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body);
        let mut response = request
            .send()
            .await
            .map_err(|error| Problem::NoAnswer(reason(&error)))?;
        let status = response.status().as_u16();
        let mut answer = Vec::new();
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| Problem::NoAnswer(reason(&error)))?
        {
            if answer.len() + part.len() > ANSWER_BYTES {
                return Err(Problem::NoAnswer("an answer that does not end".into()));
            }
            answer.extend_from_slice(&part);
        }
        read(status, &answer)
    }

    /// The URL of a method of the Bot API. `method` is teloxide's name of the method. For the name `SendMessage`, the
    /// URL ends with `sendMessage`.
    fn url(&self, method: &str) -> Result<Url, Problem> {
        let mut url = self.base.clone();
        let (first, rest) = method.split_at(1);
        let method = format!("{}{rest}", first.to_ascii_lowercase());
        url.path_segments_mut()
            .map_err(|()| Problem::NoAnswer("telegram.api_url cannot be used".into()))?
            .pop_if_empty()
            .push(&format!("bot{}", self.token.expose_secret()))
            .push(&method);
        Ok(url)
    }
}

fn read(status: u16, answer: &[u8]) -> Result<Box<RawValue>, Problem> {
    let text = String::from_utf8_lossy(answer);
    let Ok(answer) = serde_json::from_str::<Answer<'_>>(&text) else {
        return Err(Problem::NoAnswer(format!("answered {status}, and not as the Bot API")));
    };
    match (answer.ok, answer.result) {
        (true, Some(result)) => return Ok(result.to_owned()),
        (true, None) => return Err(Problem::NoAnswer(format!("answered {status} without a result"))),
        (false, _) => {}
    }
    let code = answer.error_code.unwrap_or(status);
    if code >= 500 {
        return Err(Problem::NoAnswer(format!("Telegram fails itself: {code}")));
    }
    let parameters = answer.parameters.as_ref();
    Err(Problem::Refused(Refusal {
        code,
        description: answer.description.unwrap_or_default(),
        retry_after_s: parameters.and_then(|parameters| parameters.retry_after),
        migrated_to: parameters.and_then(|parameters| parameters.migrate_to_chat_id),
    }))
}

/// Returns a short text about an HTTP error. Unlike the error's own text, it does not contain the URL.
fn reason(error: &reqwest::Error) -> String {
    if error.is_connect() {
        "no connection".into()
    } else if error.is_timeout() {
        "no answer in time".into()
    } else {
        "the connection broke".into()
    }
}

impl Problem {
    /// The reason of the problem in one line, for the log.
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.description,
            Self::NoAnswer(reason) => reason,
        }
    }
}

impl Problem {
    /// Whether Telegram refused the bot's token.
    pub fn is_token(&self) -> bool {
        let is_token = |refusal: &Refusal| refusal.meaning(Request::Message) == RefusalKind::UnknownToken;
        matches!(self, Self::Refused(refusal) if is_token(refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whatever_stands_before_the_bot_api() {
        let no_answer = |status, text: &str| match read(status, text.as_bytes()) {
            Err(Problem::NoAnswer(reason)) => reason,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(read(200, br#"{"ok":true,"result":true}"#).unwrap().get(), "true");
        assert!(no_answer(502, "<html>Bad Gateway</html>").contains("502"));
        assert!(no_answer(403, "<html>blocked by your provider</html>").contains("403"));
        assert!(no_answer(200, "").contains("200"));
        assert!(no_answer(200, r#"{"ok":true}"#).contains("without a result"));
        let restart = r#"{"ok":false,"error_code":500,"description":"Internal Server Error: restart"}"#;
        assert!(no_answer(500, restart).contains("500"));
        let flood = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 7","parameters":{"retry_after":7}}"#;
        let Err(Problem::Refused(refusal)) = read(429, flood.as_bytes()) else {
            panic!("it is a refusal")
        };
        assert_eq!((refusal.code, refusal.retry_after_s), (429, Some(7)));
        let deep = format!(r#"{{"ok":true,"result":{}1e400{}}}"#, "[".repeat(500), "]".repeat(500));
        assert!(
            read(200, deep.as_bytes()).is_ok(),
            "what one part of it holds is not looked at here"
        );
    }
}
