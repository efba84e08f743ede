//! Posts one message to an endpoint, and classifies the HTTP status of the response.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::infra::standard_webhook::{DEADLINE, Letter, Poster};

/// The kinds of failures of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The endpoint is down or misconfigured. The same event is posted again later.
    Down,
    /// The endpoint refuses this event. After `MOST_REFUSALS` attempts the event is skipped.
    Refused,
    /// The endpoint answered with status 410: its receiver does not exist any more. The endpoint is stopped.
    Gone,
}

/// A post that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub failure: Failure,
    /// The reason of the failure, for the operator. It never quotes the body of the response.
    pub reason: String,
    /// The pause that the endpoint asks for with `Retry-After`. Zero: it asks for none.
    pub retry_after: Duration,
}

/// Posts the message, and returns the HTTP status.
pub(super) async fn post(poster: &Poster, letter: &Letter) -> Result<u16, Failed> {
    let failed = |failure, reason, retry_after| Failed {
        failure,
        reason,
        retry_after,
    };
    let response = match poster.post(letter, DEADLINE).await {
        Ok(response) => response,
        Err(error) => return Err(failed(Failure::Down, error.to_string(), Duration::ZERO)),
    };
    let retry_after = retry_after(response.headers(), SystemTime::now());
    Err(match response.status().as_u16() {
        status @ 200..300 => return Ok(status),
        // In the Standard Webhooks specification, status 410 means that the receiver is gone for good.
        410 => failed(
            Failure::Gone,
            "answered 410: the receiver is gone".to_owned(),
            retry_after,
        ),
        // These statuses refuse the message. Other statuses, such as 401, 404 and 503, are about the endpoint.
        status @ (400 | 413 | 415 | 422) => failed(Failure::Refused, format!("answered {status}"), retry_after),
        status => failed(Failure::Down, format!("answered {status}"), retry_after),
    })
}

/// Returns the pause in the header `Retry-After`, which has a number of seconds or a date. Zero: the response has no
/// such header, or the header has another value.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Duration {
    let value = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let pause = value.and_then(|value| match value.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).ok(),
    });
    pause.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_until_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for (value, seconds) in [
            ("120", 120),
            (" 7 ", 7),
            ("Sun, 09 Sep 2001 01:47:40 GMT", 60),
            ("Sun, 09 Sep 2001 01:40:00 GMT", 0),
            ("-5", 0),
            ("soon", 0),
            ("99999999999999999999999", 0),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), Duration::from_secs(seconds), "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), Duration::ZERO);
    }
}
