//! Posts one message to an endpoint, and classifies the HTTP status of the response.

use super::lease::Failure;
use crate::infra::standard_webhook::{DEADLINE, Letter, Poster};

/// Posts the message, and returns the HTTP status. `Err` has the kind of the failure and its reason. The reason never
/// quotes the body of the response.
pub(super) async fn post(poster: &Poster, letter: &Letter) -> Result<u16, (Failure, String)> {
    let posted = poster.post(letter, DEADLINE).await;
    let status = match posted.map(|answer| answer.status().as_u16()) {
        Ok(status @ 200..300) => return Ok(status),
        Ok(status) => status,
        Err(error) => return Err((Failure::Down, error.to_string())),
    };
    Err(match status {
        // In the Standard Webhooks specification, status 410 means that the receiver is gone for good.
        410 => (Failure::Gone, "answered 410: the receiver is gone".to_owned()),
        // These statuses refuse the message. Other statuses, such as 401, 404 and 503, are about the endpoint.
        400 | 413 | 415 | 422 => (Failure::Refused, format!("answered {status}")),
        _ => (Failure::Down, format!("answered {status}")),
    })
}
