//! Before the first panel is let in: after a restart all of them come at once, and what they ask for should be at hand.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::FRESH_LOOK_INTERVAL;
use crate::event::StoreId;
use crate::http::Site;
use crate::journal::{self, Start};
use crate::session::Hub;
use crate::token::{self, Token};

/// How long the first panels wait for it at most: it takes a tenth of that, but for ever while Postgres is away.
const WARM_DEADLINE: Duration = Duration::from_secs(1);
/// Connections of the pool that are opened at most.
const WARM_CONNECTIONS: usize = 16;

/// Opens the pool's connections, has each plan what a coming panel asks, and reads the recent events into memory. Left to
/// the rush, this holds up the live orders of its first 50 ms (`cargo bench --bench replay`).
pub(super) async fn warm(site: &Site) {
    let warmed = timeout(WARM_DEADLINE, async {
        look_up_nobody(&site.hub).await;
        let cursor = loop {
            match site.hub.router.cursor() {
                Some(cursor) => break cursor,
                None => tokio::time::sleep(FRESH_LOOK_INTERVAL).await,
            }
        };
        read_nothing(&site.hub, &cursor).await;
        site.hub.remember_past().await;
    });
    if warmed.await.is_err() {
        tracing::debug!("the first panels come before everything is at hand");
    }
}

/// How many ask at once: as many as there are connections, so that each gets one of its own.
fn askers(hub: &Hub) -> std::ops::Range<usize> {
    0..hub.pool.status().max_size.min(WARM_CONNECTIONS)
}

async fn look_up_nobody(hub: &Hub) {
    let Ok(nobody) = Token::generate() else { return };
    for found in join_all(askers(hub).map(|_| token::look_up(&hub.pool, &nobody))).await {
        if let Err(error) = found {
            tracing::debug!(%error, "a connection of the pool is not open yet");
        }
    }
}

async fn read_nothing(hub: &Hub, cursor: &str) {
    let nowhere = StoreId::new("");
    for read in join_all(askers(hub).map(|_| journal::read_page(&hub.pool, &nowhere, Start::After(cursor), 1))).await {
        if let Err(error) = read {
            tracing::debug!(%error, "a connection of the pool has not read yet");
        }
    }
}
