//! Chunks of large transactions. Each is published when the queues of its sessions have room.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use crate::domain::event::{JournalEvent, StoreId};
use crate::fanout::router::Router;
use crate::journal::{self, ConnectError};

/// How long a chunk waits for a slow session at most. Then the router closes that session as lagged, and it
/// reconnects with its cursor.
const MAX_WAIT_FOR_ROOM: Duration = Duration::from_millis(50);
/// Between two checks for room.
const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// Publishes chunks between the reads.
pub struct ChunkPublisher {
    chunks: journal::LargeTransactionStream,
    /// The next chunk, its stores, and the time when it arrived.
    next: Option<(Vec<JournalEvent>, HashSet<StoreId>, Instant)>,
}

impl ChunkPublisher {
    /// A publisher of these chunks.
    pub fn new(chunks: journal::LargeTransactionStream) -> Self {
        Self { chunks, next: None }
    }

    /// The next chunk, once it may be published; `None` after the last one. Dropping the future loses no event.
    pub async fn next(&mut self, router: &Router) -> Result<Option<Vec<JournalEvent>>, ConnectError> {
        if self.next.is_none() {
            let Some(events) = self.chunks.next().await.transpose()? else {
                return Ok(None);
            };
            let stores = events.iter().filter_map(|event| event.store.clone()).collect();
            self.next = Some((events, stores, Instant::now()));
        }
        while let Some((_, stores, since)) = &self.next
            && since.elapsed() < MAX_WAIT_FOR_ROOM
            && !router.has_room(stores)
        {
            tokio::time::sleep(ROOM_CHECK_INTERVAL).await;
        }
        Ok(self.next.take().map(|(events, ..)| events))
    }
}
