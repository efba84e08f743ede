//! A pool of connections to Postgres.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Manager, Metrics, RecycleError, RecycleResult, TimeoutType};
use secrecy::SecretString;
use tokio::time::timeout;

use super::{CONNECT_TIMEOUT, Client, Error, connect_as};

/// Maximum time that a caller waits for a free connection.
pub const POOL_WAIT: Duration = Duration::from_secs(5);
/// Time limit of the probe of an idle connection. The pool probes such a connection before it lends the connection to a
/// caller.
const POOL_PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// A connection that was lent less than this time ago is lent again without a probe. When thousands of panels
/// reconnect, each connection is lent every 25 ms, so no time is lost with probes. A statement on a broken connection
/// waits longer than this time. So the pool probes each broken connection before it lends the connection again.
const TRUSTED_FOR: Duration = Duration::from_millis(100);

/// A pool of connections to Postgres. Each connection is lent to one caller at a time.
#[derive(Clone)]
pub struct Pool(managed::Pool<Connector>);

/// A connection that the pool has lent. It returns to the pool when it is dropped.
pub type Lent = managed::Object<Connector>;

/// The reason why the pool could not lend a connection.
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

/// Opens the pool's connections, and tests whether an idle connection still works.
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

    /// Probes a connection with an empty statement before it is lent again, unless it was lent a moment ago. If the
    /// server has disappeared without closing the connection, only a probe shows this. Without a probe, the pool would
    /// lend the broken connection again and again.
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
    /// Creates a pool of at most `connections` connections. It opens a connection only when a caller needs one. `role`
    /// is the pool's name in `pg_stat_activity`.
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

    /// Lends a free connection. If no connection is free, opens one, or waits until a connection is returned.
    pub async fn get(&self) -> Result<Lent, PoolError> {
        Ok(self.0.get().await?)
    }

    /// The maximum number of connections in the pool.
    pub fn max_size(&self) -> usize {
        self.0.status().max_size
    }
}
