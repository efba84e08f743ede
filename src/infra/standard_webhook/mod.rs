//! Sends a POST request whose sender the receiver can verify, as the Standard Webhooks specification defines it. The
//! request is signed, and its id is the same in every attempt. `address` checks addresses, and `signature` signs
//! requests.

pub mod address;
pub mod signature;

use std::sync::Arc;
use std::time::Duration;

use crate::infra::config::Webhook;

/// The deadline of one POST request.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// One POST request to a webhook.
pub struct Letter {
    /// The message's id. It is the same in every attempt to send the message, so that the receiver can recognize a
    /// repetition.
    pub id: String,
    /// The time of this attempt to send the message, by Postgres' clock, in seconds since 1970.
    pub time: i64,
    /// The address that the request is sent to.
    pub url: String,
    /// The secrets with which the request is signed. During a replacement of the secret, these are the new and the old
    /// secret.
    pub secrets: Vec<String>,
    /// The body, as JSON text.
    pub body: String,
}

/// The reason why a POST request got no response.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The address is not allowed for webhooks.
    #[error(transparent)]
    Address(#[from] address::Refused),
    /// The request failed. The text gives the cause without the address, which may contain a secret.
    #[error("{0}")]
    Failed(String),
}

/// The HTTP client for webhooks. It sends requests only to addresses that the module `address` allows.
#[derive(Clone)]
pub struct Poster {
    http: reqwest::Client,
    allow_private: bool,
}

impl Poster {
    /// Creates the client. It follows no redirects, because the address of a redirect would not be checked.
    pub fn new(settings: Webhook) -> Result<Self, reqwest::Error> {
        // Ignore the proxies of the environment: they would resolve names themselves, and could reach private
        // addresses.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        let http = match settings.allow_private {
            true => http,
            false => http.dns_resolver(Arc::new(address::PublicOnly)),
        };
        Ok(Self {
            http: http.build()?,
            allow_private: settings.allow_private,
        })
    }

    /// Sends the POST request. The whole response, with its body, must arrive within `deadline`.
    pub async fn post(&self, letter: &Letter, deadline: Duration) -> Result<reqwest::Response, PostError> {
        let url = address::check(&letter.url, self.allow_private)?;
        let secrets: Vec<&str> = letter.secrets.iter().map(String::as_str).collect();
        let request = self
            .http
            .post(url)
            .timeout(deadline)
            .header("content-type", "application/json")
            .header("webhook-id", &letter.id)
            .header("webhook-timestamp", letter.time)
            .header(
                "webhook-signature",
                signature::header(&secrets, &letter.id, letter.time, &letter.body),
            )
            .body(letter.body.clone());
        // Leave the address out of the error, because the address may contain a secret of the store.
        request.send().await.map_err(|error| PostError::Failed(reason(error)))
    }
}

/// Returns the text of an error and of its causes, without the address.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        reason = format!("{reason}: {inner}");
        cause = inner.source();
    }
    reason
}
