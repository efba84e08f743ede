//! Connections to Postgres, single ones and pools, all with the same settings.
//!
//! A connection is half-open if the server has disappeared without closing it. The client then sees no error. So each
//! connection has TCP keepalives and a `tcp_user_timeout`. With the defaults of the operating system, the client would
//! not notice a half-open connection for two hours.

mod address;
mod client;
mod error_text;
mod flight;
mod generic;
mod libpq;
mod parameters;
mod pool;
mod pooler;
mod savepoint;
mod statement;
mod tls;
mod turns;
mod verifier;

pub use address::Address;
pub use client::{Client, Transaction};
pub use error_text::{reason, reason_without_values};
pub use flight::Rows;
pub use generic::GenericClient;
pub use libpq::Surroundings;
pub use parameters::Unreadable;
pub use pool::{Lent, POOL_WAIT, Pool, PoolError};
pub use savepoint::{roll_back, savepoint};
pub use statement::Statement;
pub use tls::Tls;
pub use turns::{Busy, Reads, Turns, WAITING_PRESSES};

use std::time::Duration;

use futures::FutureExt as _;
use secrecy::SecretString;
use tokio::time::timeout;
use tokio_postgres::{Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::infra::config;

/// Time limit of one attempt to connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for Postgres to respond to a short statement. [`with_timeout`] enforces this limit.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Settings of the connections for lists, history and statistics. Postgres itself enforces this time limit of each
/// statement.
const READ_SETTINGS: [(&str, &str); 1] = [("statement_timeout", "'5s'")];
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// The reason why a connection to Postgres could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No database URL is configured.
    #[error("no database is given: set DATABASE_URL, or start `vestnik` here, which has one of its own")]
    Missing,
    /// The database URL is invalid. The error does not contain the URL, because the URL may contain a password.
    #[error("DATABASE_URL cannot be read ({0}): it looks like postgres://user:password@host:5432/name")]
    Url(#[from] Unreadable),
    /// Postgres refused the connection, or could not be reached.
    #[error("cannot connect to Postgres: {}", refusal(.0))]
    Connect(tokio_postgres::Error),
    /// The connection was not open within [`CONNECT_TIMEOUT`].
    #[error("cannot connect to Postgres: no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
    /// The connection pool could not be created.
    #[error("cannot make the connection pool: {0}")]
    Pool(#[from] deadpool::managed::BuildError),
    /// The TLS certificates or keys could not be used.
    #[error("cannot prepare TLS for Postgres: {0}")]
    Tls(#[from] tls::Error),
    /// The task needs its own Postgres backend, but a transaction pooler shares backends between clients.
    #[error(
        "a transaction pooler stands before Postgres, and gives no session of its own: set database.listen_url to \
         Postgres' direct address"
    )]
    Pooled,
}

/// Returns the text of a connection error for the operator. If TLS is the cause, the text says how to correct the
/// settings.
fn refusal(error: &tokio_postgres::Error) -> String {
    let advice = match tls::problem(error) {
        Some(tls::Problem::Untrusted) => {
            ": nobody that sslrootcert names has signed it; give the file with the server's CA, or sslrootcert=system"
        }
        Some(tls::Problem::OtherName) => {
            ": give the host by a name of its certificate, or sslmode=verify-ca, which does not look at names"
        }
        Some(tls::Problem::NoTls) => ": turn ssl on there, or give sslmode=disable where nobody can read along",
        None => "",
    };
    format!("{}{advice}", reason(error))
}

/// Parses a Postgres URL and adds Vestnik's settings: keepalives, time-outs, and an application name for
/// `pg_stat_activity`. The application name contains `role`, which says what the connection is for, such as `feed`.
pub fn parse(url: &SecretString, role: &str) -> Result<Address, Error> {
    let mut address = Address::read(url, &Surroundings::of_process())?;
    address
        .config
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(TCP_USER_TIMEOUT);
    if address.config.get_application_name().is_none() {
        address.config.application_name(format!("vestnik {role}"));
    }
    Ok(address)
}

/// Logs how the connection to Postgres is secured, and which parameters of its URL are ignored. A node calls this once
/// for each database. `database` is the database's name, if it has a name.
pub fn introduce(url: &SecretString, database: Option<&str>) -> Result<(), Error> {
    let address = parse(url, "introduction")?;
    warn_of_ignored(&address);
    tracing::info!(database, "the connection to Postgres is {}", address.tls);
    Ok(())
}

fn warn_of_ignored(address: &Address) {
    if !address.ignored.is_empty() {
        let names = address.ignored.join(", ");
        tracing::warn!("these parameters of the database's URL mean nothing here, and are ignored: {names}");
    }
}

/// The part of a connection that does the network I/O. The caller must poll it. It also receives the server's
/// notifications (LISTEN).
pub type RawConnection = Connection<Socket, <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream>;

/// Opens a connection. Returns the client, and the part of the connection that does the network I/O. Statements make
/// progress only while the caller polls the second value.
pub async fn connect_raw(url: &SecretString, role: &str) -> Result<(tokio_postgres::Client, RawConnection), Error> {
    let address = parse(url, role)?;
    let connector = address.tls.connector()?;
    connect_with(address, &connector).await
}

async fn connect_with(
    address: Address,
    connector: &MakeRustlsConnect,
) -> Result<(tokio_postgres::Client, RawConnection), Error> {
    match timeout(CONNECT_TIMEOUT, reach(address, connector)).await {
        Ok(connected) => connected,
        Err(_) => Err(Error::TimedOut),
    }
}

/// Tries each kind of connection that `sslmode` allows: with TLS, without TLS, or both. If all attempts fail, returns
/// an error from Postgres rather than an error of the TLS handshake.
async fn reach(
    mut address: Address,
    connector: &MakeRustlsConnect,
) -> Result<(tokio_postgres::Client, RawConnection), Error> {
    let mut refused: Option<tokio_postgres::Error> = None;
    for attempt in address.tls.attempts() {
        address.config.ssl_mode(attempt.negotiated());
        match address.config.connect(connector.clone()).await {
            Ok(connected) => return Ok(connected),
            Err(error) if error.as_db_error().is_some() => {
                refused = refused.filter(|first| first.as_db_error().is_some()).or(Some(error))
            }
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.map_or(Error::TimedOut, Error::Connect))
}

/// Spawns a task that does the network I/O of a connection until its client is dropped.
fn drive(connection: RawConnection) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = reason(&error), "a connection to Postgres ended");
        }
    })
}

/// Opens a connection. `role` says what the connection is for, such as `feed`: it is a part of `application_name`, not
/// a Postgres role. A background task does the network I/O until the client is dropped.
pub async fn connect_as(url: &SecretString, role: &str) -> Result<Client, Error> {
    let address = parse(url, role)?;
    let connector = address.tls.connector()?;
    let (client, connection) = connect_with(address, &connector).await?;
    let greeted = Client::greet(client, drive(connection), connector);
    match timeout(CONNECT_TIMEOUT, greeted).await {
        Ok(greeted) => greeted.map_err(Error::Connect),
        Err(_) => Err(Error::TimedOut),
    }
}

/// Opens a connection with its own Postgres backend, for advisory locks and settings that outlast a transaction. Fails
/// with [`Error::Pooled`] behind a transaction pooler.
pub async fn connect_session(url: &SecretString, role: &str) -> Result<tokio_postgres::Client, Error> {
    let (client, connection) = connect_raw(url, role).await?;
    drive(connection);
    needs_session(&client, url).await?;
    Ok(client)
}

/// Fails with [`Error::Pooled`] if a pooler shares the connection's backend with other clients. The backend is the
/// Postgres process that executes the connection's statements.
pub async fn needs_session(client: &tokio_postgres::Client, url: &SecretString) -> Result<(), Error> {
    let look = async {
        let announced = pooler::announced_process(client).await.ok();
        if announced.is_some() && announced == pooler::process(client).await? {
            return Ok(());
        }
        let another = || {
            let url = url.clone();
            async move {
                let (client, connection) = connect_raw(&url, "probe").await?;
                drive(connection);
                Ok::<_, Error>(client)
            }
            .boxed()
        };
        match pooler::is_kept(client, another).await? {
            true => Ok(()),
            false => Err(Error::Pooled),
        }
    };
    match timeout(CONNECT_TIMEOUT, look).await {
        Ok(looked) => looked,
        Err(_) => Err(Error::TimedOut),
    }
}

/// Opens a connection to the configured database, for a subcommand.
pub async fn connect(database: &config::Database) -> Result<Client, Error> {
    let url = database.url.as_ref().ok_or(Error::Missing)?;
    warn_of_ignored(&parse(url, "command")?);
    connect_as(url, "command").await
}

/// Opens a connection with its own Postgres backend, for a subcommand that changes the shop's tables. Uses
/// `listen_url`, the direct address of Postgres, if it is set.
pub async fn connect_directly(database: &config::Database, role: &str) -> Result<tokio_postgres::Client, Error> {
    let url = database.listen_url.as_ref().or(database.url.as_ref());
    let url = url.ok_or(Error::Missing)?;
    warn_of_ignored(&parse(url, role)?);
    connect_session(url, role).await
}

/// The error of a short statement to which Postgres did not respond within [`ANSWER_DEADLINE`].
#[derive(Debug, thiserror::Error)]
#[error("Postgres did not answer within {} s", ANSWER_DEADLINE.as_secs())]
pub struct Unanswered;

/// The reason why a short statement of Vestnik failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A connection that does not belong to a pool could not be opened.
    #[error(transparent)]
    Connect(#[from] Error),
    /// The pool had no free connection, and could not open one.
    #[error("no connection to Postgres: {0}")]
    Pool(#[from] PoolError),
    /// Postgres reported an error, or the connection failed.
    #[error("{}", reason(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// Postgres did not respond within [`ANSWER_DEADLINE`].
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// Vestnik's own tables contain contradictory data, because another program has changed them.
    #[error("the engine's tables do not agree: {0}")]
    Inconsistent(&'static str),
}

impl QueryError {
    /// The error code of Postgres, five characters. `None`: the error does not come from Postgres.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Postgres(error) => error.code().map(tokio_postgres::error::SqlState::code),
            _ => None,
        }
    }

    /// Whether a retry may succeed, because Postgres was unreachable, overloaded or shutting down. A retry after any
    /// other error would fail again.
    pub fn is_transient(&self) -> bool {
        const PASSING: [&str; 6] = ["08", "40", "53", "57", "58", "25"];
        match self {
            Self::Pool(_) | Self::Connect(_) | Self::Unanswered(_) => true,
            Self::Postgres(error) => error
                .code()
                .is_none_or(|code| PASSING.iter().any(|class| code.code().starts_with(class))),
            Self::Inconsistent(_) => false,
        }
    }
}

/// Executes a short statement, and fails after [`ANSWER_DEADLINE`]. Without this limit, the caller would wait for a
/// server that has disappeared without closing the connection.
pub async fn with_timeout<T, E: From<Unanswered>>(statement: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match timeout(ANSWER_DEADLINE, statement).await {
        Ok(answer) => answer,
        Err(_) => Err(Unanswered.into()),
    }
}

/// Creates the pool for replays, status changes and background work.
pub fn pool(database: &config::Database) -> Result<Pool, Error> {
    let url = database.url.clone().ok_or(Error::Missing)?;
    Pool::new(url, "pool", database.pool_size, &[])
}

/// Creates the pool that only token checks and acknowledgements use, so that these short statements never wait for long
/// ones.
pub fn token_pool(database: &config::Database) -> Result<Pool, Error> {
    let url = database.url.clone().ok_or(Error::Missing)?;
    Pool::new(url, "tokens", database.token_pool_size, &[])
}

/// Creates the pool for lists, history and statistics. The returned value also limits the concurrent requests of each
/// store.
pub fn reads(database: &config::Database) -> Result<Reads, Error> {
    let url = database.url.clone().ok_or(Error::Missing)?;
    Ok(Reads::new(Pool::new(
        url,
        "reads",
        database.read_pool_size,
        &READ_SETTINGS,
    )?))
}

/// Begins a read-only transaction in which all statements see the same data.
pub async fn snapshot(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    client.snapshot().await
}

/// Makes Postgres end this transaction after five seconds without a statement. Without this limit, a suspended or
/// disconnected node would keep its locks. Other nodes could then not send to a chat or enqueue messages.
pub async fn limit_idle_in_transaction(transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    transaction
        .batch_execute("set local idle_in_transaction_session_timeout = '5s'")
        .await
}

/// Tries to lock the row of a task that only one node may execute at a time. Never waits. `true`: the transaction holds
/// the lock until the transaction ends, so the caller may execute the task. `false`: another node holds the lock.
pub async fn take_turn(transaction: &Transaction<'_>, task: &str) -> Result<bool, tokio_postgres::Error> {
    const TURN: &str = "select from vestnik.vst_turn where task = $1 for update skip locked";
    Ok(transaction.query_opt(TURN, &[&task]).await?.is_some())
}

/// Disables sequential scans and JIT for the rest of a transaction. Use it before statements that find few rows of the
/// journal: Postgres may wrongly expect many rows, and then scan the whole table.
pub async fn read_by_index(transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    transaction
        .batch_execute("set local enable_seqscan = off; set local jit = off")
        .await
}

/// Measurements of the Postgres server, for metrics.
#[derive(Debug, Clone, Copy)]
pub struct ServerStats {
    /// The used share of Postgres' notification queue, 0 to 1. The queue fills up if a connection that listens does not
    /// read its notifications.
    pub notification_queue_usage: f64,
    /// Age of the oldest running transaction, in seconds.
    pub oldest_transaction_seconds: f64,
}

/// Measures the Postgres server, for metrics.
pub async fn server_stats(pool: &Pool) -> Result<ServerStats, QueryError> {
    const SERVER_STATS: &str = "select pg_notification_queue_usage(), \
         coalesce((select extract(epoch from max(clock_timestamp() - xact_start)) from pg_stat_activity), 0)::float8";
    with_timeout(async {
        let row = pool.get().await?.query_one(SERVER_STATS, &[]).await?;
        Ok(ServerStats {
            notification_queue_usage: row.try_get(0)?,
            oldest_transaction_seconds: row.try_get(1)?,
        })
    })
    .await
}
