//! Checks the webhooks (addresses) to which events are posted.

use super::{Finding, fail, note, ok};
use crate::delivery::webhook_endpoint::figures;
use crate::infra::db::{self, Client};

/// Reports webhooks that were stopped, whose posts fail, or that refused events.
pub(super) async fn examine(client: &Client) -> Result<Finding, db::QueryError> {
    let state = db::with_timeout(figures::read(client)).await?;
    let list = |ids: &[i64]| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    Ok(if !state.stopped.is_empty() {
        fail(
            "webhooks",
            format!(
                "nothing is posted to {}: repair the receiver, then `vestnik webhook resume`; `vestnik webhook list` says why",
                list(&state.stopped)
            ),
        )
    } else if !state.failing.is_empty() {
        fail(
            "webhooks",
            format!(
                "posts to {} fail, and wait: `vestnik webhook test` says why",
                list(&state.failing)
            ),
        )
    } else if state.given_up > 0 {
        note(
            "webhooks",
            format!(
                "{} events were refused and given up: `vestnik webhook list` says by which",
                state.given_up
            ),
        )
    } else {
        ok(
            "webhooks",
            match state.endpoints {
                1 => "events are posted to one address".to_owned(),
                many => format!("events are posted to {many} addresses"),
            },
        )
    })
}
