//! A pool of connections.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Manager, Metrics, RecycleError, RecycleResult, TimeoutType};
use secrecy::SecretString;
use tokio::time::timeout;

use super::{CONNECT_TIMEOUT, Client, Error, connect_as};

/// How long a request waits for a free connection of the pool.
pub const POOL_WAIT: Duration = Duration::from_secs(5);
/// How long a connection of the pool may take to say that it is alive before it is used again.
const POOL_PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// For how long a connection that was just used is taken to be alive: when thousands of panels come back, each is used
/// every 25 ms. Far less than an answer is waited for, so one that was silent is probed before it is used again.
const TRUSTED_FOR: Duration = Duration::from_millis(100);

/// Several connections, lent one at a time.
#[derive(Clone)]
pub struct Pool(managed::Pool<Connector>);

/// A connection that goes back to its pool when it is dropped.
pub type Lent = managed::Object<Connector>;

/// Why no connection was lent.
#[derive(Debug, thiserror::Error)]
#[error("{}", pool_reason(.0))]
pub struct PoolError(#[from] managed::PoolError<Error>);

fn pool_reason(error: &managed::PoolError<Error>) -> String {
    match error {
        managed::PoolError::Backend(error) => error.to_string(),
        managed::PoolError::Timeout(TimeoutType::Wait) => format!(
            "all connections of the pool are in use, for {} s already",
            POOL_WAIT.as_secs()
        ),
        managed::PoolError::Timeout(_) => Error::TimedOut.to_string(),
        other => other.to_string(),
    }
}

/// Makes the connections of a pool, and looks whether they are alive.
pub struct Connector {
    url: SecretString,
    role: &'static str,
    settings: &'static [(&'static str, &'static str)],
}

impl Manager for Connector {
    type Type = Client;
    type Error = Error;

    async fn create(&self) -> Result<Client, Error> {
        let mut client = Box::pin(connect_as(&self.url, self.role)).await?;
        if !self.settings.is_empty() {
            client.set(self.settings).await.map_err(Error::Connect)?;
        }
        Ok(client)
    }

    /// A connection that nobody has just used is probed with one empty statement: a half-open one looks like any other,
    /// and would be handed out again and again.
    async fn recycle(&self, client: &mut Client, metrics: &Metrics) -> RecycleResult<Error> {
        if client.is_closed() {
            return Err(RecycleError::message("it is closed"));
        }
        if metrics.last_used() < TRUSTED_FOR {
            return Ok(());
        }
        match timeout(POOL_PROBE_DEADLINE, Box::pin(client.raw().simple_query(""))).await {
            Ok(answer) => answer
                .map(drop)
                .map_err(|error| RecycleError::Backend(Error::Connect(error))),
            Err(_) => Err(RecycleError::message("it does not answer")),
        }
    }
}

impl Pool {
    /// Of so many connections at most, which are called `role` in `pg_stat_activity`. None is made yet.
    pub(super) fn new(
        url: SecretString,
        role: &'static str,
        connections: usize,
        settings: &'static [(&'static str, &'static str)],
    ) -> Result<Self, Error> {
        let pool = managed::Pool::builder(Connector { url, role, settings })
            .max_size(connections)
            .wait_timeout(Some(POOL_WAIT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Self(pool))
    }

    /// Lends a connection, or makes one.
    pub async fn get(&self) -> Result<Lent, PoolError> {
        Ok(self.0.get().await?)
    }

    /// How many connections there may be.
    pub fn max_size(&self) -> usize {
        self.0.status().max_size
    }
}
