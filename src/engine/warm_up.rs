//! Warms up a node before the first panel is admitted, because after a restart all panels reconnect at the same time.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::FRESH_LOOK_INTERVAL;
use crate::domain::event::StoreId;
use crate::domain::store_set::StoreSet;
use crate::fanout::session::Hub;
use crate::http::DatabaseContext;
use crate::infra::db::Pool;
use crate::journal::{self, Start};
use crate::token;

/// Maximum time that the first panels wait for the warm-up. On an idle machine, the warm-up needs about a tenth of this
/// time.
const FIRST_PANELS_WAIT: Duration = Duration::from_secs(1);
/// Maximum time of the warm-up, because Postgres may be unavailable. The warm-up may continue after the first panels
/// are admitted.
const WARM_DEADLINE: Duration = Duration::from_secs(10);
/// Maximum number of connections of one pool that the warm-up opens.
const WARM_CONNECTIONS: usize = 16;

/// Opens the connections of the pools, prepares the panels' queries on each connection, and reads recent events into
/// the cache. Without the warm-up, live orders of the first 50 ms would be late (`cargo bench --bench replay`). Returns
/// when the warm-up is complete, or after `FIRST_PANELS_WAIT`. In that case the warm-up continues in the background.
pub(super) async fn warm(database: Arc<DatabaseContext>, background: &TaskTracker, stop: CancellationToken) {
    let warmed = background.spawn(async move {
        let warmed = timeout(WARM_DEADLINE, open_and_read(&database));
        if let Some(Err(_)) = stop.run_until_cancelled(warmed).await {
            tracing::debug!("admitted the first panels before the warm-up was complete");
        }
    });
    let _ = timeout(FIRST_PANELS_WAIT, warmed).await;
}

async fn open_and_read(database: &DatabaseContext) {
    let Hub {
        pool,
        token_pool,
        router,
        ..
    } = &*database.hub;
    let no_store = StoreSet::One(StoreId::new(""));
    on_each_connection(token_pool, || token::prepare(token_pool)).await;
    let cursor = loop {
        match router.cursor() {
            Some(cursor) => break cursor,
            None => tokio::time::sleep(FRESH_LOOK_INTERVAL).await,
        }
    };
    on_each_connection(pool, || journal::read_page(pool, &no_store, Start::After(&cursor), 1)).await;
    database.hub.load_history().await;
}

/// Runs `query` once for each connection of the pool, at most `WARM_CONNECTIONS` times. All runs are concurrent, so
/// that each uses another connection.
async fn on_each_connection<T, E: Display, F: Future<Output = Result<T, E>>>(pool: &Pool, query: impl Fn() -> F) {
    let connections = pool.max_size().min(WARM_CONNECTIONS);
    for result in join_all((0..connections).map(|_| query())).await {
        if let Err(error) = result {
            tracing::debug!(%error, "could not warm up a connection of the pool");
        }
    }
}
