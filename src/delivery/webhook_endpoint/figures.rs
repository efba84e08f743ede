//! The state of the webhook endpoints, for the metrics of a node and for `vestnik doctor`.

use std::time::Duration;

use metrics::Label;
use tokio_util::sync::CancellationToken;

use crate::delivery::gauges::database_label;
use crate::infra::db::{self, GenericClient, Pool, QueryError};
use crate::infra::periodic::Periodic;

/// The time between two updates of the gauges.
const INTERVAL: Duration = Duration::from_secs(5);

/// The state of all webhook endpoints of a database.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The number of endpoints.
    pub endpoints: i64,
    /// The ids of the stopped endpoints.
    pub stopped: Vec<i64>,
    /// The ids of the endpoints that are not stopped, but whose newest post failed.
    pub failing: Vec<i64>,
    /// For the endpoint whose posts have failed longest: seconds since they began to fail. 0: no endpoint fails.
    /// Stopped endpoints do not count.
    pub failing_s: f64,
    /// The number of events that were skipped because an endpoint refused them too often, for all endpoints together.
    pub given_up: i64,
}

/// Reads the state of all endpoints.
pub async fn read(client: &impl GenericClient) -> Result<State, QueryError> {
    const READ: &str = "select count(*), array_remove(array_agg(case when stopped_at is not null then id end order by id), null), \
             array_remove(array_agg(case when stopped_at is null and failing_since is not null then id end order by id), null), \
             coalesce(extract(epoch from clock_timestamp() - min(failing_since) filter (where stopped_at is null)), 0)::float8, \
             coalesce(sum(given_up), 0)::bigint \
         from vestnik.vst_webhook_endpoint";
    let statement = client.prepare_cached(READ).await?;
    let row = client.query_one(&statement, &[]).await?;
    Ok(State {
        endpoints: row.try_get(0)?,
        stopped: row.try_get::<_, Option<_>>(1)?.unwrap_or_default(),
        failing: row.try_get::<_, Option<_>>(2)?.unwrap_or_default(),
        failing_s: row.try_get(3)?,
        given_up: row.try_get(4)?,
    })
}

/// Adds one to the metric `vestnik_webhook_posts_total`. `outcome` is the value of the label `outcome`.
pub(super) fn count(outcome: &'static str) {
    metrics::counter!("vestnik_webhook_posts_total", "outcome" => outcome).increment(1);
}

/// The task that updates the gauges of the webhook endpoints.
pub(super) struct Figures {
    pool: Pool,
    labels: Vec<Label>,
}

impl Figures {
    /// Creates the task that updates the gauges. `database` is the value of the gauges' label `database`. `None`: the
    /// node serves only one database, and the gauges have no such label.
    pub fn new(pool: Pool, database: Option<&str>) -> Self {
        let labels = database_label(database).collect();
        Self { pool, labels }
    }

    /// Updates the gauges until the shutdown.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut periodic = Periodic::now(INTERVAL, stop);
        while periodic.next_run().await {
            let state = db::with_timeout(async { read(&*self.pool.get().await?).await });
            match state.await {
                Ok(state) => {
                    let stopped = state.stopped.len() as f64;
                    metrics::gauge!("vestnik_webhook_endpoints", self.labels.iter()).set(state.endpoints as f64);
                    metrics::gauge!("vestnik_webhook_endpoints_stopped", self.labels.iter()).set(stopped);
                    metrics::gauge!("vestnik_webhook_failing_seconds", self.labels.iter()).set(state.failing_s);
                }
                Err(error) => tracing::debug!(%error, "the figures of the webhooks could not be read"),
            }
        }
    }
}
