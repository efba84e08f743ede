//! A connection that executes statements. It has the same interface for a direct connection to Postgres and for a
//! connection through a pooler, such as PgBouncer.
//!
//! A direct connection prepares each statement once, and keeps Vestnik's settings. Through a pooler, nothing is
//! prepared, and settings last for one transaction only. A single statement through a pooler is sent together with its
//! own `begin` and `commit`.

use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use futures::FutureExt as _;
use futures::future::join3;
use tokio::task::JoinHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, Portal, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::flight::{Canceller, Rows, under_way};
use super::pooler;
use super::savepoint::{ROLL_BACK, SAVEPOINT};
use super::statement::{Parameters, Spoken, Sql, Statement, typed};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Settings of every direct connection. They override the settings of the role, the database or the server, because
/// Vestnik has its own time limits.
const SETTINGS: [(&str, &str); 8] = [
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
];
/// Begins a transaction through a pooler. The settings in `SETTINGS_BEHIND_A_POOLER` follow. They do not include
/// `idle_session_timeout`, because the pooler manages its idle connections.
const BEGIN: &str = "begin isolation level read committed read write";
const SETTINGS_BEHIND_A_POOLER: &str = "set local statement_timeout = 0; set local lock_timeout = 0; \
     set local idle_in_transaction_session_timeout = 0";
/// Whether the connection is direct, or goes through a pooler, such as PgBouncer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    Direct,
    /// A connection through a pooler. `begin` contains the statements that start each transaction, joined by
    /// semicolons.
    Pooled {
        begin: String,
    },
}

/// One connection to Postgres, direct or through a pooler.
pub struct Client {
    inner: ClientWrapper,
    way: Way,
    canceller: Arc<Canceller>,
    driver: JoinHandle<()>,
}

impl Drop for Client {
    /// Keeps the connection open for a while if the caller of a statement stopped waiting and the statement is being
    /// cancelled. A pooler drops a cancellation when the client disconnects. So the connection stays open until the
    /// statement ends, or until the time limit of the cancellation.
    fn drop(&mut self) {
        match self.canceller.is_abandoned() {
            true => self.canceller.linger(),
            false => self.driver.abort(),
        }
    }
}

/// Defines the methods that execute statements, for a connection and for a transaction. Their names are those of
/// tokio-postgres. Each future is boxed, because otherwise a caller that awaits many of them would need much memory.
macro_rules! statements {
    () => {
        /// Prepares a statement, unless this connection has prepared the same SQL text before. Through a pooler,
        /// returns the SQL text without preparing it.
        pub async fn prepare_cached(&self, sql: &str) -> Result<Statement> {
            match self.is_pooled() {
                true => Ok(Statement::Text(sql.to_owned())),
                false => Ok(Statement::Prepared(
                    self.under_way(Box::pin(self.inner.prepare_cached(sql))).await?,
                )),
            }
        }

        /// Executes a statement and returns all rows of its result, in order.
        pub async fn query(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<Vec<Row>> {
            match sql.spoken() {
                Spoken::Text(text) if self.is_pooled() => self.query_typed(text, &typed(parameters)).await,
                Spoken::Text(text) => self.under_way(Box::pin(self.inner.query(text, parameters))).await,
                Spoken::Prepared(statement) => {
                    self.under_way(Box::pin(self.inner.query(statement, parameters)))
                        .await
                }
            }
        }

        /// Executes a statement and returns its only row. Another number of rows is an error.
        pub async fn query_one(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<Row> {
            match sql.spoken() {
                Spoken::Text(text) if self.is_pooled() => self.query_typed_one(text, &typed(parameters)).await,
                Spoken::Text(text) => {
                    self.under_way(Box::pin(self.inner.query_one(text, parameters)))
                        .await
                }
                Spoken::Prepared(statement) => {
                    self.under_way(Box::pin(self.inner.query_one(statement, parameters)))
                        .await
                }
            }
        }

        /// Executes a statement and returns its row, or `None` if the result is empty. Several rows are an error.
        pub async fn query_opt(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<Option<Row>> {
            match sql.spoken() {
                Spoken::Text(text) if self.is_pooled() => self.query_typed_opt(text, &typed(parameters)).await,
                Spoken::Text(text) => {
                    self.under_way(Box::pin(self.inner.query_opt(text, parameters)))
                        .await
                }
                Spoken::Prepared(statement) => {
                    self.under_way(Box::pin(self.inner.query_opt(statement, parameters)))
                        .await
                }
            }
        }

        /// Executes a statement and returns the number of affected rows.
        pub async fn execute(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<u64> {
            match sql.spoken() {
                Spoken::Text(text) if self.is_pooled() => {
                    let typed = typed(parameters);
                    self.alone(Box::pin(self.inner.execute_typed(text, &typed))).await
                }
                Spoken::Text(text) => {
                    self.under_way(Box::pin(self.inner.execute(text, parameters)))
                        .await
                }
                Spoken::Prepared(statement) => {
                    self.under_way(Box::pin(self.inner.execute(statement, parameters)))
                        .await
                }
            }
        }

        /// Executes a statement and returns its rows as a stream.
        pub async fn query_raw(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<Rows> {
            let values = || parameters.iter().copied();
            let rows = match sql.spoken() {
                Spoken::Text(text) if self.is_pooled() => return self.query_typed_raw(text, &typed(parameters)).await,
                Spoken::Text(text) => {
                    self.under_way(Box::pin(self.inner.query_raw(text, values())))
                        .await?
                }
                Spoken::Prepared(statement) => {
                    self.under_way(Box::pin(self.inner.query_raw(statement, values())))
                        .await?
                }
            };
            Ok(Rows::new(rows, Arc::clone(&self.canceller)))
        }

        /// Executes a statement without preparing it, and returns all rows.
        pub async fn query_typed(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
            self.alone(Box::pin(self.inner.query_typed(sql, parameters)))
                .await
        }

        /// Executes a statement without preparing it, and returns its only row. Another number of rows is an error.
        pub async fn query_typed_one(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Row> {
            self.alone(Box::pin(self.inner.query_typed_one(sql, parameters)))
                .await
        }

        /// Executes a statement without preparing it, and returns its row, or `None`. Several rows are an error.
        pub async fn query_typed_opt(
            &self,
            sql: &str,
            parameters: &[(&(dyn ToSql + Sync), Type)],
        ) -> Result<Option<Row>> {
            self.alone(Box::pin(self.inner.query_typed_opt(sql, parameters)))
                .await
        }

        /// Executes a statement without preparing it, and returns its rows as a stream.
        pub async fn query_typed_raw(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Rows> {
            let parameters = parameters.iter().map(|(value, kind)| (*value, kind.clone()));
            let rows = self
                .alone(Box::pin(self.inner.query_typed_raw(sql, parameters)))
                .await?;
            Ok(Rows::new(rows, Arc::clone(&self.canceller)))
        }

        /// Executes SQL statements without parameters, separated by semicolons.
        pub async fn batch_execute(&self, sql: &str) -> Result<()> {
            self.under_way(Box::pin(self.inner.batch_execute(sql))).await
        }

        /// Waits for the result of a statement. If the caller drops this future, cancels the statement in Postgres.
        async fn under_way<T>(&self, statement: impl Future<Output = T>) -> T {
            under_way(&self.canceller, statement).await
        }
    };
}

impl Client {
    /// Creates the client of a new connection: detects a pooler, and applies Vestnik's settings to the connection. The
    /// task `driver` does the connection's network I/O.
    pub(super) async fn greet(
        client: tokio_postgres::Client,
        driver: JoinHandle<()>,
        connector: MakeRustlsConnect,
    ) -> Result<Self> {
        let cancel = client.cancel_token();
        let announced = pooler::announced_process(&client).await.unwrap_or_default();
        // `ClientWrapper` aborts its task when it is dropped, but `driver` may have to run longer. So give it an empty
        // task.
        let inner = ClientWrapper::new(client, tokio::spawn(std::future::ready(())));
        // The query skips settings that this version of Postgres does not have.
        let settings = SETTINGS
            .map(|(name, value)| format!("('{name}', '{value}')"))
            .join(", ");
        let set = format!(
            "select set_config(name, value, false) from (values {settings}) s (name, value) \
             where pg_backend_pid() = {announced} and current_setting(name, true) is not null"
        );
        let answer = inner.simple_query(&set).await?;
        let is_set = answer
            .iter()
            .any(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_)));
        let way = match is_set {
            true => Way::Direct,
            false => Way::Pooled {
                begin: format!("{BEGIN}; {SETTINGS_BEHIND_A_POOLER}"),
            },
        };
        let canceller = Arc::new(Canceller::new(
            cancel,
            connector,
            driver.abort_handle(),
            way != Way::Direct,
        ));
        Ok(Self {
            inner,
            way,
            canceller,
            driver,
        })
    }

    /// Whether the connection goes through a pooler.
    pub fn is_pooled(&self) -> bool {
        self.way != Way::Direct
    }

    /// Applies more settings to all later statements of this connection. Each setting is a name and a value in SQL
    /// syntax.
    pub async fn set(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        let each = |word: &str| {
            let all = settings.iter().map(|(name, value)| format!("{word} {name} = {value}"));
            all.collect::<Vec<_>>().join("; ")
        };
        match &mut self.way {
            Way::Direct => self.inner.batch_execute(&each("set")).await,
            Way::Pooled { begin } => {
                *begin = format!("{begin}; {}", each("set local"));
                Ok(())
            }
        }
    }

    statements!();

    /// Whether the connection must not be used again: it has ended, or the caller of a statement stopped waiting for
    /// the result.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed() || self.canceller.is_abandoned()
    }

    /// The connection of tokio-postgres, for operations that [`Client`] does not offer.
    pub fn raw(&self) -> &tokio_postgres::Client {
        &self.inner
    }

    /// Begins a transaction that may write, at the isolation level `read committed`.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>> {
        self.begin(IsolationLevel::ReadCommitted, false).await
    }

    pub(super) async fn snapshot(&mut self) -> Result<Transaction<'_>> {
        self.begin(IsolationLevel::RepeatableRead, true).await
    }

    async fn begin(&mut self, isolation: IsolationLevel, read_only: bool) -> Result<Transaction<'_>> {
        let settings = match &self.way {
            Way::Direct => None,
            Way::Pooled { begin } => begin.split_once("; ").map(|(_, settings)| settings.to_owned()),
        };
        let builder = self.inner.build_transaction().isolation_level(isolation);
        let inner = Box::pin(builder.read_only(read_only).start()).await?;
        if let Some(settings) = &settings {
            inner.batch_execute(settings).await?;
        }
        Ok(Transaction {
            inner,
            is_savepoint: false,
            is_pooled: settings.is_some(),
            canceller: Arc::clone(&self.canceller),
        })
    }

    /// Executes one statement. Through a pooler, the statement runs in a separate transaction. All messages of this
    /// transaction are sent before the first response arrives, so the transaction ends even if the caller stops
    /// waiting.
    async fn alone<T>(&self, statement: impl Future<Output = Result<T>>) -> Result<T> {
        let Way::Pooled { begin } = &self.way else {
            return self.under_way(statement).await;
        };
        let ended = async {
            // The first poll of this future sends `commit`. Do not wait for the response: it follows all rows, which
            // the caller may not have read yet.
            self.inner.batch_execute("commit").now_or_never()
        };
        let all = Box::pin(join3(self.inner.batch_execute(begin), statement, ended));
        let (begun, answer, ended) = self.under_way(all).await;
        begun?;
        ended.unwrap_or(Ok(()))?;
        answer
    }
}

/// A transaction on a [`Client`]. Postgres rolls it back if it is dropped without a commit.
pub struct Transaction<'a> {
    inner: deadpool_postgres::Transaction<'a>,
    is_savepoint: bool,
    is_pooled: bool,
    canceller: Arc<Canceller>,
}

impl Transaction<'_> {
    statements!();

    /// Begins a savepoint. If a statement after it fails, the caller can roll back to the savepoint and continue the
    /// transaction.
    pub async fn savepoint(&mut self) -> Result<Transaction<'_>> {
        Ok(Transaction {
            inner: self.inner.savepoint(SAVEPOINT).await?,
            is_savepoint: true,
            is_pooled: self.is_pooled,
            canceller: Arc::clone(&self.canceller),
        })
    }

    /// Opens a portal: a cursor in Postgres from which the caller fetches the rows of a statement in portions. Drop the
    /// portal before the transaction ends.
    pub async fn portal(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Portal> {
        let statement = self.under_way(Box::pin(self.inner.prepare(sql))).await?;
        self.under_way(Box::pin(self.inner.bind(&statement, parameters))).await
    }

    /// Fetches at most `rows` further rows of a portal. Empty: no row is left.
    pub async fn fetch(&self, portal: &Portal, rows: i32) -> Result<Vec<Row>> {
        self.under_way(Box::pin(self.inner.query_portal(portal, rows))).await
    }

    /// Commits the transaction.
    pub async fn commit(self) -> Result<()> {
        self.inner.commit().await
    }

    /// Rolls back the transaction, or to the savepoint, and ends it. See [`roll_back`](super::roll_back).
    pub async fn rollback(self) -> Result<()> {
        if !self.is_savepoint {
            return self.inner.rollback().await;
        }
        self.inner.batch_execute(ROLL_BACK).await?;
        self.inner.commit().await
    }

    fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    async fn alone<T>(&self, statement: impl Future<Output = Result<T>>) -> Result<T> {
        self.under_way(statement).await
    }
}
