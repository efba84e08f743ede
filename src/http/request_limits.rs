//! Rate limits of requests. Requests with a valid token are counted by token, so other clients of the same address
//! cannot exhaust their limit. Requests without one are counted by address.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::error::ApiError;
use super::server::Network;
use crate::infra::config;
use crate::infra::rate_limiter::{Rate, RateLimiters};
use crate::token::TokenId;

/// Burst, in seconds of the rate: a page and its files, or all panels of a large kitchen.
const BURST_S: u32 = 20;
/// Limit of addresses, and of tokens, whose rate is tracked.
const MAX_KEYS: usize = 20_000;
/// Delay of a request that is refused for its address. It limits a flood to one request a second for each connection.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// The rate limiters of a node.
#[derive(Debug)]
pub struct RequestLimits {
    by_address: RateLimiters<Network>,
    /// By database number and token.
    by_token: RateLimiters<(usize, TokenId)>,
}

impl RequestLimits {
    /// Limits from the settings.
    pub fn new(http: &config::Http) -> Self {
        let rate = |per_second: u32| Rate::per_second(per_second, per_second.saturating_mul(BURST_S));
        Self {
            by_address: RateLimiters::new(rate(http.requests_per_address), MAX_KEYS),
            by_token: RateLimiters::new(rate(http.requests_per_token), MAX_KEYS),
        }
    }

    /// Counts a request without a valid token from this address. A refusal is delayed by `REFUSAL_PAUSE`.
    pub async fn count_guest(&self, client: IpAddr) -> Result<(), ApiError> {
        let Err(wait) = self.by_address.take(Network::of(client), Instant::now()) else {
            return Ok(());
        };
        metrics::counter!("vestnik_requests_refused_total", "limit" => "address").increment(1);
        tokio::time::sleep(REFUSAL_PAUSE).await;
        Err(ApiError::TooManyRequests(wait))
    }

    /// Counts a request with this token.
    pub fn count_token(&self, database: usize, token: TokenId) -> Result<(), ApiError> {
        self.by_token.take((database, token), Instant::now()).map_err(|wait| {
            metrics::counter!("vestnik_requests_refused_total", "limit" => "token").increment(1);
            ApiError::TooManyRequests(wait)
        })
    }
}
