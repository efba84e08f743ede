//! Receives the events of large transactions from the journal in chunks. A chunk waits until the queues of the
//! sessions that will receive it have room.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use crate::domain::event::{JournalEvent, StoreId};
use crate::fanout::router::Router;
use crate::journal::{self, ConnectError};

/// Maximum time that a chunk waits for a session whose queue is full. After this time the chunk is published, and the
/// router closes the session as lagged. The client of this session then reconnects with its cursor.
const MAX_WAIT_FOR_ROOM: Duration = Duration::from_millis(50);
/// Time between two checks of whether the queues have room.
const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// Reads chunks from the journal. Keeps each chunk until it may be published.
pub struct ChunkPublisher {
    chunks: journal::LargeTransactionStream,
    /// The next chunk, its stores, and the time when it arrived; `None`: the next chunk has not arrived yet.
    next: Option<(Vec<JournalEvent>, HashSet<StoreId>, Instant)>,
}

impl ChunkPublisher {
    /// Creates a publisher for the chunks of this stream.
    pub fn new(chunks: journal::LargeTransactionStream) -> Self {
        Self { chunks, next: None }
    }

    /// Waits until the next chunk has arrived and may be published. `None`: the stream has ended. Dropping the future
    /// loses no event.
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
