//! Updates the gauges of the durable sends. The values come from Postgres, so each node reports the same values.

use std::time::Duration;

use metrics::Label;
use tokio_util::sync::CancellationToken;

use crate::infra::db::{self, Pool, QueryError};
use crate::infra::periodic::Periodic;

/// The time between two updates of the gauges.
const INTERVAL: Duration = Duration::from_secs(5);

/// Returns the label that names the database in a metric. No label is returned if the node serves only one database.
pub(super) fn database_label(database: Option<&str>) -> impl Iterator<Item = Label> {
    database.map(|name| Label::new("database", name.to_owned())).into_iter()
}

/// Updates the gauges until the shutdown. `database` is the value of the gauges' label `database`. `None`: the node
/// serves only one database, and the gauges have no such label.
pub async fn run(pool: &Pool, database: Option<&str>, stop: &CancellationToken) {
    let labels: Vec<Label> = database_label(database).collect();
    let mut periodic = Periodic::now(INTERVAL, stop);
    while periodic.next_run().await {
        if let Err(error) = publish(pool, &labels).await {
            tracing::debug!(%error, "the figures of the durable sends could not be read");
        }
    }
}

async fn publish(pool: &Pool, labels: &[Label]) -> Result<(), QueryError> {
    // Count only open deliveries, because an index of them makes this fast. The metric of completed deliveries is a
    // counter.
    const OPEN: &str = "select count(*) filter (where state = 'pending'), count(*) filter (where state = 'sending'), \
             count(*) filter (where state = 'retrying'), \
             coalesce(extract(epoch from clock_timestamp() - min(waits_since)), 0)::float8, \
             (select count(*) from vestnik.vst_bot where stopped_at is not null), \
             (select count(*) from vestnik.vst_chat where disabled_at is not null), \
             (select count(*) from vestnik.vst_chat_link where blocked_at is not null), \
             (select coalesce(extract(epoch from clock_timestamp() - polled_at), 0)::float8 from vestnik.vst_bot), \
             (select count(*) from vestnik.vst_webhook where state in ('pending', 'sending', 'retrying')) \
         from vestnik.vst_delivery where state in ('pending', 'sending', 'retrying')";
    let row = db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(OPEN).await?;
        Ok::<_, QueryError>(client.query_one(&statement, &[]).await?)
    })
    .await?;
    for (index, state) in ["pending", "sending", "retrying"].into_iter().enumerate() {
        let labels = labels.iter().cloned().chain([Label::new("state", state)]);
        metrics::gauge!("vestnik_telegram_deliveries", labels.collect::<Vec<_>>())
            .set(row.try_get::<_, i64>(index)? as f64);
    }
    metrics::gauge!("vestnik_telegram_oldest_delivery_age_seconds", labels.iter()).set(row.try_get::<_, f64>(3)?);
    metrics::gauge!("vestnik_telegram_stopped", labels.iter()).set(row.try_get::<_, i64>(4)? as f64);
    metrics::gauge!("vestnik_telegram_chats_disabled", labels.iter()).set(row.try_get::<_, i64>(5)? as f64);
    metrics::gauge!("vestnik_telegram_chats_blocked", labels.iter()).set(row.try_get::<_, i64>(6)? as f64);
    metrics::gauge!("vestnik_telegram_poll_age_seconds", labels.iter()).set(row.try_get::<_, f64>(7)?);
    metrics::gauge!("vestnik_webhooks_open", labels.iter()).set(row.try_get::<_, i64>(8)? as f64);
    Ok(())
}
