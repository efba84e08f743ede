//! Rate limits of requests. A request with a valid token counts against the limit of the token, so other clients of the
//! same address cannot use up that limit. A request without a valid token counts against the limit of the client's
//! address.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::error::ApiError;
use super::server::Network;
use crate::infra::config;
use crate::infra::rate_limiter::{Rate, RateLimiters};
use crate::token::TokenId;

/// The burst of each rate limit, as seconds of the sustained rate. For example, with a rate of 10 requests/s, a client
/// may send 200 requests in a burst. This is enough for a page with its files, or for all panels of a large kitchen.
const BURST_S: u32 = 20;
/// Maximum number of addresses, and maximum number of tokens, whose requests are counted.
const MAX_KEYS: usize = 20_000;
/// Delay of the response to a request that exceeds the limit of its client's address. With this delay, a client that
/// floods the node can send only one request a second on each connection.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// The rate limits of a node's requests.
#[derive(Debug)]
pub struct RequestLimits {
    by_address: RateLimiters<Network>,
    /// The rate limiters of tokens. The key is the index of a database and the id of a token.
    by_token: RateLimiters<(usize, TokenId)>,
}

impl RequestLimits {
    /// Takes the limits from the settings.
    pub fn new(http: &config::Http) -> Self {
        let rate = |per_second: u32| Rate::per_second(per_second, per_second.saturating_mul(BURST_S));
        Self {
            by_address: RateLimiters::new(rate(http.requests_per_address), MAX_KEYS),
            by_token: RateLimiters::new(rate(http.requests_per_token), MAX_KEYS),
        }
    }

    /// Counts a request without a valid token against the limit of its client's address. `Err`: the limit is reached.
    /// In this case, the method waits for `REFUSAL_PAUSE` before it returns.
    pub async fn count_guest(&self, client: IpAddr) -> Result<(), ApiError> {
        let Err(wait) = self.by_address.take(Network::of(client), Instant::now()) else {
            return Ok(());
        };
        metrics::counter!("vestnik_requests_refused_total", "limit" => "address").increment(1);
        tokio::time::sleep(REFUSAL_PAUSE).await;
        Err(ApiError::TooManyRequests(wait))
    }

    /// Counts a request against the limit of its token. `Err`: the limit is reached.
    pub fn count_token(&self, database: usize, token: TokenId) -> Result<(), ApiError> {
        self.by_token.take((database, token), Instant::now()).map_err(|wait| {
            metrics::counter!("vestnik_requests_refused_total", "limit" => "token").increment(1);
            ApiError::TooManyRequests(wait)
        })
    }
}
