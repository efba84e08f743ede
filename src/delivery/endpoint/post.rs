//! Sends one message to an endpoint, and sorts the answers.

use super::lease::Failure;
use crate::infra::standard_webhook::{DEADLINE, Letter, Poster};

/// Sends the message. `Err` has the kind and the reason of the failure. The reason never quotes the answer.
pub(super) async fn post(poster: &Poster, letter: &Letter) -> Result<u16, (Failure, String)> {
    let posted = poster.post(letter, DEADLINE).await;
    let status = match posted.map(|answer| answer.status().as_u16()) {
        Ok(status @ 200..300) => return Ok(status),
        Ok(status) => status,
        Err(error) => return Err((Failure::Down, error.to_string())),
    };
    Err(match status {
        // By Standard Webhooks, 410 means that the receiver is gone for good.
        410 => (Failure::Gone, "answered 410: the receiver is gone".to_owned()),
        // These speak of the message. Others, such as 401, 404 and 503, speak of the receiver.
        400 | 413 | 415 | 422 => (Failure::Refused, format!("answered {status}")),
        _ => (Failure::Down, format!("answered {status}")),
    })
}
