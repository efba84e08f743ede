//! Receives the events of large transactions from the journal in chunks. Returns a chunk only when the sessions that
//! will receive it have room in their send queues.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use crate::domain::event::{JournalEvent, StoreId};
use crate::fanout::router::Router;
use crate::journal::{self, ConnectError};

/// Maximum time that a chunk waits for a session whose send queue is too full. After this time the chunk is published
/// anyway. If the queue overflows, the router closes the session, and its client reconnects with its cursor.
const MAX_WAIT_FOR_ROOM: Duration = Duration::from_millis(50);
/// Time between two checks whether the sessions' send queues have room.
const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// Reads the events of large transactions in chunks. Keeps each chunk until the receiving sessions have room for it.
pub struct ChunkPublisher {
    chunks: journal::LargeTransactionStream,
    /// The next chunk, the stores of its events, and the time when it arrived; `None`: the next chunk has not arrived
    /// yet.
    next: Option<(Vec<JournalEvent>, HashSet<StoreId>, Instant)>,
}

impl ChunkPublisher {
    /// Creates a publisher for the chunks of this stream.
    pub fn new(chunks: journal::LargeTransactionStream) -> Self {
        Self { chunks, next: None }
    }

    /// Returns the next chunk when it has arrived and may be published. `None`: the stream has ended. If the caller
    /// drops the future, no event is lost.
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
