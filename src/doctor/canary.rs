//! Checks the canary (self-test) of each node.

use super::{Finding, fail, ok};
use crate::http::CanaryFailure;
use crate::infra::db::{self, Client};

/// Reports the nodes whose newest canary failed. A canary is a synthetic order that the node writes and must receive.
pub(super) async fn examine(client: &Client) -> Result<Finding, db::QueryError> {
    const NODES: &str = "select store, coalesce(outcome, 'waiting') from vestnik.vst_canary where until > clock_timestamp() order by store";
    let rows = db::with_timeout(async { Ok::<_, db::QueryError>(client.query(NODES, &[]).await?) }).await?;
    let mut failed = Vec::new();
    for row in &rows {
        let (store, outcome): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let failure = CanaryFailure::ALL
            .into_iter()
            .find(|failure| failure.as_str() == outcome);
        failed.extend(failure.map(|failure| format!("{store}: {failure}")));
    }
    Ok(match (rows.len(), failed.as_slice()) {
        (0, _) => ok("canary", "no node has sent one lately"),
        (1, []) => ok("canary", "it comes back at the one node".to_owned()),
        (nodes, []) => ok("canary", format!("it comes back at {nodes} nodes")),
        (_, failed) => fail("canary", failed.join("; ")),
    })
}
