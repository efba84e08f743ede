//! Before the first panel is let in: after a restart all of them come at once, and what they ask for should be at hand.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::FRESH_LOOK_INTERVAL;
use crate::domain::event::StoreId;
use crate::fanout::session::Hub;
use crate::http::DatabaseContext;
use crate::infra::db::Pool;
use crate::journal::{self, Start};
use crate::token;

/// How long the first panels wait for it at most. It takes a tenth of that on an idle machine.
const FIRST_PANELS_WAIT: Duration = Duration::from_secs(1);
/// How long it goes on at most, while the first panels are let in: Postgres may be away.
const WARM_DEADLINE: Duration = Duration::from_secs(10);
/// Connections of the pool that are opened at most.
const WARM_CONNECTIONS: usize = 16;

/// Opens the pool's connections, has each plan what a coming panel asks, and reads the recent events into memory. Left to
/// the rush, this holds up the live orders of its first 50 ms (`cargo bench --bench replay`). Returns when it is done, or
/// after `FIRST_PANELS_WAIT`, and goes on behind that.
pub(super) async fn warm(site: Arc<DatabaseContext>, background: &TaskTracker, stop: CancellationToken) {
    let warmed = background.spawn(async move {
        let warmed = timeout(WARM_DEADLINE, open_and_read(&site));
        if let Some(Err(_)) = stop.run_until_cancelled(warmed).await {
            tracing::debug!("the first panels came before everything was at hand");
        }
    });
    let _ = timeout(FIRST_PANELS_WAIT, warmed).await;
}

async fn open_and_read(site: &DatabaseContext) {
    let Hub {
        pool,
        token_pool,
        router,
        ..
    } = &*site.hub;
    let nowhere = StoreId::new("");
    over_each(token_pool, || token::prepare(token_pool)).await;
    let cursor = loop {
        match router.cursor() {
            Some(cursor) => break cursor,
            None => tokio::time::sleep(FRESH_LOOK_INTERVAL).await,
        }
    };
    over_each(pool, || journal::read_page(pool, &nowhere, Start::After(&cursor), 1)).await;
    site.hub.remember_past().await;
}

/// Asks as often at once as there are connections, so that each gets one of its own.
async fn over_each<T, E: Display, F: Future<Output = Result<T, E>>>(pool: &Pool, ask: impl Fn() -> F) {
    let connections = pool.max_size().min(WARM_CONNECTIONS);
    for asked in join_all((0..connections).map(|_| ask())).await {
        if let Err(error) = asked {
            tracing::debug!(%error, "a connection of the pool is not ready yet");
        }
    }
}
