//! How many requests are answered. A valid token is never refused for what others from its address do: only requests
//! that show none are counted by address, and those of each token by itself.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::error::ApiError;
use super::server::Network;
use crate::infra::config;
use crate::infra::rate_limiter::{Rate, RateLimiters};
use crate::token::TokenId;

/// Seconds' worth of requests that may come at once: a page and its files, or all panels of a large kitchen.
const BURST_S: u32 = 20;
/// Addresses, and tokens, of which the rate is kept.
const MAX_KEYS: usize = 20_000;
/// How long a request waits that is refused for its address: a flood is as slow as its connections.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// The rates of a node.
#[derive(Debug)]
pub struct RequestLimits {
    by_address: RateLimiters<Network>,
    /// By database and token.
    by_token: RateLimiters<(usize, TokenId)>,
}

impl RequestLimits {
    /// As the settings say.
    pub fn new(http: &config::Http) -> Self {
        let rate = |per_second: u32| Rate::per_second(per_second, per_second.saturating_mul(BURST_S));
        Self {
            by_address: RateLimiters::new(rate(http.requests_per_address), MAX_KEYS),
            by_token: RateLimiters::new(rate(http.requests_per_token), MAX_KEYS),
        }
    }

    /// One more request without a valid token from this address. A refusal takes a second.
    pub async fn count_guest(&self, client: IpAddr) -> Result<(), ApiError> {
        let Err(wait) = self.by_address.take(Network::of(client), Instant::now()) else {
            return Ok(());
        };
        metrics::counter!("vestnik_requests_refused_total", "limit" => "address").increment(1);
        tokio::time::sleep(REFUSAL_PAUSE).await;
        Err(ApiError::TooManyRequests(wait))
    }

    /// One more request with this token.
    pub fn count_token(&self, database: usize, token: TokenId) -> Result<(), ApiError> {
        self.by_token.take((database, token), Instant::now()).map_err(|wait| {
            metrics::counter!("vestnik_requests_refused_total", "limit" => "token").increment(1);
            ApiError::TooManyRequests(wait)
        })
    }
}
