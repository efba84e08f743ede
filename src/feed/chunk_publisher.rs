//! The chunks of what is large_transactions, each at its time: when the sessions that it is for have room for it.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use crate::domain::event::{JournalEvent, StoreId};
use crate::fanout::router::Router;
use crate::journal::{self, ConnectError};

/// How long a chunk waits for a slow session at most, before that is let go as lagged: it comes back with its cursor.
const ROOM_PATIENCE: Duration = Duration::from_millis(50);
/// Between two looks.
const ROOM_PAUSE: Duration = Duration::from_millis(2);

/// What comes beside the reads.
pub struct Beside {
    chunks: journal::Beside,
    /// The next chunk, its stores, and when it came.
    next: Option<(Vec<JournalEvent>, HashSet<StoreId>, Instant)>,
}

impl Beside {
    /// From these.
    pub fn new(chunks: journal::Beside) -> Self {
        Self { chunks, next: None }
    }

    /// The next chunk, when it may be published; `None` when that was all. Nothing is lost where the wait is given up.
    pub async fn next(&mut self, router: &Router) -> Result<Option<Vec<JournalEvent>>, ConnectError> {
        if self.next.is_none() {
            let Some(events) = self.chunks.next().await.transpose()? else {
                return Ok(None);
            };
            let stores = events.iter().filter_map(|event| event.store.clone()).collect();
            self.next = Some((events, stores, Instant::now()));
        }
        while let Some((_, stores, since)) = &self.next
            && since.elapsed() < ROOM_PATIENCE
            && !router.has_room(stores)
        {
            tokio::time::sleep(ROOM_PAUSE).await;
        }
        Ok(self.next.take().map(|(events, ..)| events))
    }
}
