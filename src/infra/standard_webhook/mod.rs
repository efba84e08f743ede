//! A POST that the receiver can check, by Standard Webhooks: it is signed, and its id is the same in every attempt.
//! `address` checks which addresses may be called, `signature` signs.

pub mod address;
pub mod signature;

use std::sync::Arc;
use std::time::Duration;

use crate::infra::config::Webhook;

/// A message to post.
pub struct Letter {
    /// The message's id, the same in every attempt.
    pub id: String,
    /// The time by the database's clock, seconds since 1970.
    pub time: i64,
    /// The receiver's address.
    pub url: String,
    /// The secrets; two during a change.
    pub secrets: Vec<String>,
    /// The body, as JSON text.
    pub body: String,
}

/// Why there was no response.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The address may not be called.
    #[error(transparent)]
    Address(#[from] address::Refused),
    /// The request failed; the reason, without the address.
    #[error("{0}")]
    Failed(String),
}

/// The HTTP client; it calls only addresses that are allowed.
#[derive(Clone)]
pub struct Poster {
    http: reqwest::Client,
    allow_private: bool,
}

impl Poster {
    /// Creates the client. It follows no redirect: the new address would not have been checked.
    pub fn new(settings: Webhook) -> Result<Self, reqwest::Error> {
        // Ignore the proxies of the environment: they would resolve names, and could reach private addresses.
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

    /// Sends the request. The whole response, with its body, must arrive before the deadline.
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
        // The address may contain a secret of the store.
        request.send().await.map_err(|error| PostError::Failed(reason(error)))
    }
}

/// The error and its causes, without the address.
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
