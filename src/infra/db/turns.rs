//! Limits the number of concurrent database requests of each store, so that a store with many requests does not delay
//! the other stores.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Pool;

/// Maximum number of requests of one store that run at the same time.
const AT_ONCE: usize = 2;
/// Maximum number of reads of one store that wait for a turn. A turn is the permission to run.
const WAITING: usize = 8;
/// Maximum number of status changes of one store that wait for a turn. A turn is the permission to run. This maximum is
/// higher than `WAITING`, because several people may answer an order at the same time, and each must learn who was
/// first.
pub const WAITING_PRESSES: usize = 32;
/// Maximum time that a request waits for a turn. A turn is the permission to run.
const PATIENCE: Duration = Duration::from_secs(3);

/// The reason why a request got no turn. A turn is the permission to run one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// The store itself has too many running or waiting requests.
    #[error("this store asks for too much at once")]
    Store,
    /// All turns of the database are in use. A turn is the permission to run one request.
    #[error("as many requests run as may, for {} s already", PATIENCE.as_secs())]
    Database,
}

/// Gives turns to the requests to a database. A turn is the permission to run one request. It consists of a permit of
/// the request's store, and of a permit that all stores share.
#[derive(Debug)]
pub struct Turns {
    stores: Mutex<HashMap<Box<str>, StoreQueue>>,
    /// The permits to run a request, which all stores share.
    all: Arc<Semaphore>,
    /// Maximum number of requests of one store that wait for a turn.
    waiting: usize,
}

/// The requests of one store: those that run, and those that wait for a turn. `requests` is the number of both
/// together.
#[derive(Debug)]
struct StoreQueue {
    turns: Arc<Semaphore>,
    requests: usize,
}

impl Turns {
    /// Creates the turns of a database. At most `in_all` requests run at the same time, whatever their stores. In
    /// addition, at most `waiting` requests of each store wait.
    pub fn new(in_all: usize, waiting: usize) -> Self {
        Self {
            stores: Mutex::default(),
            all: Arc::new(Semaphore::new(in_all.max(1))),
            waiting,
        }
    }

    /// Waits until a request of this store may run. Fails if no turn is free within three seconds, or if too many
    /// requests of the store wait already.
    pub async fn take(&self, store: &str) -> Result<Turn<'_>, Busy> {
        let (turns, count) = self.count(store)?;
        let begin = tokio::time::Instant::now();
        let Ok(Ok(of_store)) = timeout(PATIENCE, turns.acquire_owned()).await else {
            return Err(Busy::Store);
        };
        let left = PATIENCE.saturating_sub(begin.elapsed());
        match timeout(left, Arc::clone(&self.all).acquire_owned()).await {
            Ok(Ok(of_all)) => Ok(Turn {
                _permits: (of_store, of_all),
                _count: count,
            }),
            _ => Err(Busy::Database),
        }
    }

    fn count<'a>(&'a self, store: &str) -> Result<(Arc<Semaphore>, RequestCount<'a>), Busy> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = stores.entry(store.into()).or_insert_with(|| StoreQueue {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            requests: 0,
        });
        if queue.requests == AT_ONCE + self.waiting {
            return Err(Busy::Store);
        }
        queue.requests += 1;
        let count = RequestCount {
            turns: self,
            store: store.into(),
        };
        Ok((Arc::clone(&queue.turns), count))
    }
}

/// Counts a request of a store from its arrival to its end. Dropping this value ends the count.
struct RequestCount<'a> {
    turns: &'a Turns,
    store: Box<str>,
}

impl Drop for RequestCount<'_> {
    fn drop(&mut self) {
        let mut stores = self.turns.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = stores.get_mut(&self.store) {
            queue.requests -= 1;
            if queue.requests == 0 {
                stores.remove(&self.store);
            }
        }
    }
}

/// The permission to run one request of a store. Dropping it ends the turn.
pub struct Turn<'a> {
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
    _count: RequestCount<'a>,
}

/// The connections for lists, history and statistics. The statements of these requests may be slow, so each store may
/// use only some of these connections at the same time. Token checks and acknowledgements use other connections, so
/// they never wait for slow statements.
pub struct Reads {
    pool: Pool,
    turns: Turns,
}

impl Reads {
    /// Takes over the pool, and limits how many of its connections each store may use at the same time.
    pub fn new(pool: Pool) -> Self {
        Self {
            turns: Turns::new(pool.max_size(), WAITING),
            pool,
        }
    }

    /// Waits until the store with this id may read. Returns the permission and the pool. The caller must hold the
    /// permission while it reads.
    pub async fn turn(&self, store: &str) -> Result<(Turn<'_>, &Pool), Busy> {
        Ok((self.turns.take(store).await?, &self.pool))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_store_waits_for_itself_and_for_no_other() {
        let turns = Turns::new(100, WAITING);
        let first = turns.take("7").await.unwrap();
        let second = turns.take("7").await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(turns.take("7"))).collect();
        for wait in &mut waiting {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        assert_eq!(turns.take("7").await.err(), Some(Busy::Store), "the queue is full");
        assert!(
            turns.take("8").now_or_never().is_some(),
            "another store has its own turns"
        );
        drop(first);
        let third = waiting.remove(0).now_or_never();
        assert!(third.is_some(), "the oldest waiting request gets the next turn");
        drop(waiting);
        drop((third, second));
        assert!(
            turns.stores.lock().unwrap().is_empty(),
            "a store without requests has no entry"
        );
    }

    #[tokio::test]
    async fn all_stores_together_have_no_more_turns_than_there_are() {
        let turns = Turns::new(2, WAITING);
        let held = (turns.take("7").await.unwrap(), turns.take("8").await.unwrap());
        let mut third = Box::pin(turns.take("9"));
        assert!(
            third.as_mut().now_or_never().is_none(),
            "the third request waits for a turn"
        );
        drop(held.0);
        assert!(third.now_or_never().is_some_and(|turn| turn.is_ok()));
    }
}
