//! Connections to Postgres: single ones and the pool, with the same manners everywhere.
//!
//! A half-open connection is silent, so each one has TCP keepalives and a `tcp_user_timeout`: the defaults of the
//! operating system would notice after two hours.

use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Transaction,
};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::{Client, Connection, IsolationLevel, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config;

/// How long one attempt to connect may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for a free connection of the pool.
pub const POOL_WAIT: Duration = Duration::from_secs(5);
/// How long a connection of the pool may take to say that it is alive before it is used again.
const POOL_PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// For how long a connection that was just used is taken to be alive: when thousands of panels come back, each is used
/// every 25 ms. Far less than an answer is waited for, so one that was silent is probed before it is used again.
const TRUSTED_FOR: Duration = Duration::from_millis(100);
/// How long Postgres may take to answer a short statement: [`answered`].
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is missing.
    #[error("no database is given: set DATABASE_URL, or start `vestnik` here, which has one of its own")]
    Missing,
    /// The URL cannot be read. Its text is not shown, for it may hold a password.
    #[error("DATABASE_URL cannot be read ({0}): it looks like postgres://user:password@host:5432/name")]
    Url(String),
    /// Postgres refused, or is not there.
    #[error("cannot connect to Postgres: {}", reason(.0))]
    Connect(tokio_postgres::Error),
    /// It took too long.
    #[error("cannot connect to Postgres: no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
    /// The pool could not be made.
    #[error("cannot make the connection pool: {0}")]
    Pool(#[from] deadpool_postgres::BuildError),
    /// The certificates of the system could not be used.
    #[error("cannot prepare TLS for Postgres: {0}")]
    Tls(#[from] rustls::Error),
}

/// What Postgres or the operating system says, in one line.
pub fn reason(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => match db.hint() {
            Some(hint) => format!("{} ({}): {hint}", db.message(), db.code().code()),
            None => format!("{} ({})", db.message(), db.code().code()),
        },
        (None, Some(source)) => source.to_string(),
        (None, None) => error.to_string(),
    }
}

/// The parsed address with our manners: keepalives, time-outs, a name that `pg_stat_activity` shows.
pub fn parse(url: &SecretString, role: &str) -> Result<tokio_postgres::Config, Error> {
    let mut parsed =
        tokio_postgres::Config::from_str(url.expose_secret()).map_err(|error| Error::Url(reason(&error)))?;
    parsed
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(TCP_USER_TIMEOUT);
    if parsed.get_application_name().is_none() {
        parsed.application_name(format!("vestnik {role}"));
    }
    Ok(parsed)
}

/// A connection whose messages the caller drives: LISTEN needs them.
pub type RawConnection = Connection<Socket, <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream>;

/// One connection and its driver, not yet running.
pub async fn connect_raw(url: &SecretString, role: &str) -> Result<(Client, RawConnection), Error> {
    let parsed = parse(url, role)?;
    match tokio::time::timeout(CONNECT_TIMEOUT, parsed.connect(tls()?)).await {
        Ok(connected) => connected.map_err(Error::Connect),
        Err(_) => Err(Error::TimedOut),
    }
}

/// One connection; its driver runs until the client is dropped.
pub async fn connect_as(url: &SecretString, role: &str) -> Result<Client, Error> {
    let (client, connection) = connect_raw(url, role).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = reason(&error), "a connection to Postgres ended");
        }
    });
    Ok(client)
}

/// One connection to the configured database, for a command.
pub async fn connect(database: &config::Database) -> Result<Client, Error> {
    connect_as(database.url.as_ref().ok_or(Error::Missing)?, "command").await
}

/// Postgres did not answer a short statement.
#[derive(Debug, thiserror::Error)]
#[error("Postgres did not answer within {} s", ANSWER_DEADLINE.as_secs())]
pub struct Unanswered;

/// Why a short statement of the engine's own brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A connection of its own could not be made.
    #[error(transparent)]
    Connect(#[from] Error),
    /// No connection was free, or could be made.
    #[error("no connection to Postgres: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// Postgres says so, or is gone.
    #[error("{}", reason(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// Postgres is silent.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// What the database holds cannot be: somebody has written into the engine's own tables.
    #[error("the engine's tables do not agree: {0}")]
    Inconsistent(&'static str),
}

impl Failed {
    /// Whether the same may go well a little later: Postgres was away, overloaded or going down. What else it says, it
    /// says again.
    pub fn may_pass(&self) -> bool {
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

/// Waits for a short statement no longer than [`ANSWER_DEADLINE`]: over a half-open connection no answer ever comes.
pub async fn answered<T, E: From<Unanswered>>(statement: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match tokio::time::timeout(ANSWER_DEADLINE, statement).await {
        Ok(answer) => answer,
        Err(_) => Err(Unanswered.into()),
    }
}

/// The pool for tokens, replay, history and acknowledgements. A connection that nobody has just used is
/// probed with one empty statement: a half-open one looks like any other, and would be handed out again and again.
pub fn pool(database: &config::Database) -> Result<Pool, Error> {
    let parsed = parse(database.url.as_ref().ok_or(Error::Missing)?, "pool")?;
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_config(parsed, tls()?, recycling);
    let pool = Pool::builder(manager)
        .max_size(database.pool_size)
        .wait_timeout(Some(POOL_WAIT))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .pre_recycle(Hook::async_fn(|client, metrics| {
            Box::pin(probe(client, metrics.last_used()))
        }))
        .runtime(Runtime::Tokio1)
        .build()?;
    Ok(pool)
}

async fn probe(client: &ClientWrapper, idle: Duration) -> Result<(), HookError> {
    if idle < TRUSTED_FOR {
        return Ok(());
    }
    match tokio::time::timeout(POOL_PROBE_DEADLINE, client.simple_query("")).await {
        Ok(answer) => answer.map(drop).map_err(HookError::Backend),
        Err(_) => Err(HookError::message("it does not answer")),
    }
}

/// TLS as the URL's `sslmode` asks for; the roots are Mozilla's.
fn tls() -> Result<MakeRustlsConnect, Error> {
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// A transaction that only reads, and sees one moment throughout: so that what several statements bring meets exactly.
pub async fn snapshot(client: &mut ClientWrapper) -> Result<Transaction<'_>, tokio_postgres::Error> {
    client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
}

/// Ends the transaction, and with it its locks, when this process says nothing for so long: one that is stopped, or whose
/// cable is pulled, would keep a chat, or all planning, from the other nodes.
pub async fn bound_silence(transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    transaction
        .batch_execute("set local idle_in_transaction_session_timeout = '5s'")
        .await
}

/// For the rest of a transaction: no table is read as a whole, and nothing is compiled. For statements that find a few
/// rows of the journal, but of which Postgres cannot know that they are few.
pub async fn read_by_index(transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    transaction
        .batch_execute("set local enable_seqscan = off; set local jit = off")
        .await
}

/// What Postgres itself suffers from, seen from outside.
#[derive(Debug, Clone, Copy)]
pub struct Vitals {
    /// Share of the notification queue in use, 0 to 1: a listener that never reads fills it.
    pub notification_queue_usage: f64,
    /// Age of the oldest running transaction, seconds.
    pub oldest_transaction_seconds: f64,
}

/// Reads them.
pub async fn vitals(pool: &Pool) -> Result<Vitals, Failed> {
    const VITALS: &str = "select pg_notification_queue_usage(), \
         coalesce((select extract(epoch from max(clock_timestamp() - xact_start)) from pg_stat_activity), 0)::float8";
    answered(async {
        let row = pool.get().await?.query_one(VITALS, &[]).await?;
        Ok(Vitals {
            notification_queue_usage: row.try_get(0)?,
            oldest_transaction_seconds: row.try_get(1)?,
        })
    })
    .await
}
