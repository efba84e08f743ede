//! A connection for statements, with the same manners whether Postgres itself answers or a pooler stands before it.
//!
//! Directly, a statement is prepared once, and our settings are the session's. Behind a pooler nothing is prepared and
//! nothing is set for longer than a transaction: a statement of its own gets one around it, in the same flight.

use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use futures::FutureExt as _;
use futures::future::join3;
use tokio::task::JoinHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, Portal, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::flight::{self, Canceller, Rows, under_way};
use super::pooler;
use super::statement::{Parameters, Spoken, Sql, Statement, typed};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Ours, instead of what a role, a database or a server was given for its applications. Each of our waits has a bound of
/// its own.
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
/// How a transaction begins behind a pooler. `idle_session_timeout` is the pooler's own affair.
const BEGIN: &str = "begin isolation level read committed read write";
const SETTINGS_BEHIND_A_POOLER: &str = "set local statement_timeout = 0; set local lock_timeout = 0; \
     set local idle_in_transaction_session_timeout = 0";
/// Whether Postgres itself is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    Direct,
    /// With what each transaction begins with.
    Pooled {
        begin: String,
    },
}

/// One connection.
pub struct Client {
    inner: ClientWrapper,
    way: Way,
    canceller: Arc<Canceller>,
    driver: JoinHandle<()>,
}

impl Drop for Client {
    /// A pooler forgets a client that is gone, and with it what a cancellation is about: so one with an abandoned
    /// statement stays until that has ended.
    fn drop(&mut self) {
        match self.canceller.is_abandoned() {
            true => flight::linger(self.driver.abort_handle()),
            false => self.driver.abort(),
        }
    }
}

/// The statements of a connection or a transaction: the same words as tokio-postgres has for them. Each is boxed, for
/// whoever awaits many of them would keep room for the largest.
macro_rules! statements {
    () => {
        /// Prepares a statement, once for the connection.
        pub async fn prepare_cached(&self, sql: &str) -> Result<Statement> {
            match self.is_pooled() {
                true => Ok(Statement::Text(sql.to_owned())),
                false => Ok(Statement::Prepared(
                    self.under_way(Box::pin(self.inner.prepare_cached(sql))).await?,
                )),
            }
        }

        /// Every row of the answer, in its order.
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

        /// The only row of the answer; another number of rows is an error.
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

        /// The row, if there is one.
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

        /// How many rows it was about.
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

        /// The rows as they come.
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

        /// All rows of a statement that is not worth preparing.
        pub async fn query_typed(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
            self.alone(Box::pin(self.inner.query_typed(sql, parameters)))
                .await
        }

        /// The one row of it.
        pub async fn query_typed_one(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Row> {
            self.alone(Box::pin(self.inner.query_typed_one(sql, parameters)))
                .await
        }

        /// The row of it, if there is one.
        pub async fn query_typed_opt(
            &self,
            sql: &str,
            parameters: &[(&(dyn ToSql + Sync), Type)],
        ) -> Result<Option<Row>> {
            self.alone(Box::pin(self.inner.query_typed_opt(sql, parameters)))
                .await
        }

        /// Its rows as they come.
        pub async fn query_typed_raw(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Rows> {
            let parameters = parameters.iter().map(|(value, kind)| (*value, kind.clone()));
            let rows = self
                .alone(Box::pin(self.inner.query_typed_raw(sql, parameters)))
                .await?;
            Ok(Rows::new(rows, Arc::clone(&self.canceller)))
        }

        /// Statements without parameters.
        pub async fn batch_execute(&self, sql: &str) -> Result<()> {
            self.under_way(Box::pin(self.inner.batch_execute(sql))).await
        }

        /// Waits for what Postgres does; tells it to stop where the wait is given up.
        async fn under_way<T>(&self, statement: impl Future<Output = T>) -> T {
            under_way(&self.canceller, statement).await
        }
    };
}

impl Client {
    /// Over a connection that has just been made, and that a task drives: looks who answers, and sets what may be set.
    pub(super) async fn greet(
        client: tokio_postgres::Client,
        driver: JoinHandle<()>,
        connector: MakeRustlsConnect,
    ) -> Result<Self> {
        let cancel = client.cancel_token();
        let told = pooler::told_process(&client).await.unwrap_or_default();
        // Its own task would end with it: see `drop`.
        let inner = ClientWrapper::new(client, tokio::spawn(std::future::ready(())));
        // One that this server is too old for is left out.
        let settings = SETTINGS
            .map(|(name, value)| format!("('{name}', '{value}')"))
            .join(", ");
        let set = format!(
            "select set_config(name, value, false) from (values {settings}) s (name, value) \
             where pg_backend_pid() = {told} and current_setting(name, true) is not null"
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
        let canceller = Arc::new(Canceller::new(cancel, connector, way != Way::Direct));
        Ok(Self {
            inner,
            way,
            canceller,
            driver,
        })
    }

    /// Whether a pooler stands before Postgres.
    pub fn is_pooled(&self) -> bool {
        self.way != Way::Direct
    }

    /// Settings for all that this connection does from here on.
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

    /// Whether it has ended, or its last statement was abandoned.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed() || self.canceller.is_abandoned()
    }

    /// The connection as tokio-postgres has it, for what is no statement.
    pub fn raw(&self) -> &tokio_postgres::Client {
        &self.inner
    }

    /// A transaction that may write.
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
            is_pooled: settings.is_some(),
            canceller: Arc::clone(&self.canceller),
        })
    }

    /// Behind a pooler a transaction around one statement. All of it is sent before any answer is waited for, so that
    /// it is over whoever waits for it.
    async fn alone<T>(&self, statement: impl Future<Output = Result<T>>) -> Result<T> {
        let Way::Pooled { begin } = &self.way else {
            return self.under_way(statement).await;
        };
        let ended = async {
            // Sent when it is polled first. Its answer comes behind all rows, which the caller may not have read yet.
            self.inner.batch_execute("commit").now_or_never()
        };
        let all = Box::pin(join3(self.inner.batch_execute(begin), statement, ended));
        let (begun, answer, ended) = self.under_way(all).await;
        begun?;
        ended.unwrap_or(Ok(()))?;
        answer
    }
}

/// A transaction of a [`Client`].
pub struct Transaction<'a> {
    inner: deadpool_postgres::Transaction<'a>,
    is_pooled: bool,
    canceller: Arc<Canceller>,
}

impl Transaction<'_> {
    statements!();

    /// A part that can fail without the whole.
    pub async fn savepoint(&mut self) -> Result<Transaction<'_>> {
        Ok(Transaction {
            inner: self.inner.transaction().await?,
            is_pooled: self.is_pooled,
            canceller: Arc::clone(&self.canceller),
        })
    }

    /// Rows that are fetched by and by. It is to be dropped before the transaction ends.
    pub async fn portal(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Portal> {
        let statement = self.under_way(Box::pin(self.inner.prepare(sql))).await?;
        self.under_way(Box::pin(self.inner.bind(&statement, parameters))).await
    }

    /// The next rows of a portal.
    pub async fn fetch(&self, portal: &Portal, rows: i32) -> Result<Vec<Row>> {
        self.under_way(Box::pin(self.inner.query_portal(portal, rows))).await
    }

    /// Ends it, and keeps what it has done.
    pub async fn commit(self) -> Result<()> {
        self.inner.commit().await
    }

    /// Ends it, and keeps nothing.
    pub async fn rollback(self) -> Result<()> {
        self.inner.rollback().await
    }

    fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    async fn alone<T>(&self, statement: impl Future<Output = Result<T>>) -> Result<T> {
        self.under_way(statement).await
    }
}
