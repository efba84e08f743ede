//! The common interface of connections and transactions. Vestnik's own types implement it, and so do the types of
//! tokio-postgres, for code that needs its own Postgres backend.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::client::{Client, Transaction};
use super::statement::{Parameters, Spoken, Sql, Statement};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// A connection or a transaction that can execute statements.
pub trait GenericClient: Sync {
    /// Prepares a statement. A direct connection of Vestnik prepares each SQL text only once.
    fn prepare_cached(&self, sql: &str) -> impl Future<Output = Result<Statement>> + Send;

    /// Executes a statement and returns all rows of its result, in order.
    fn query(
        &self,
        sql: &(impl Sql + ?Sized),
        parameters: &Parameters<'_>,
    ) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// Executes a statement and returns its only row. Another number of rows is an error.
    fn query_one(
        &self,
        sql: &(impl Sql + ?Sized),
        parameters: &Parameters<'_>,
    ) -> impl Future<Output = Result<Row>> + Send;

    /// Executes a statement and returns its row, or `None` if the result is empty. Several rows are an error.
    fn query_opt(
        &self,
        sql: &(impl Sql + ?Sized),
        parameters: &Parameters<'_>,
    ) -> impl Future<Output = Result<Option<Row>>> + Send;

    /// Executes a statement and returns the number of affected rows.
    fn execute(
        &self,
        sql: &(impl Sql + ?Sized),
        parameters: &Parameters<'_>,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// Executes a statement without preparing it, and returns all rows.
    fn query_typed(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// Executes a statement without preparing it, and returns its row, or `None`. Several rows are an error.
    fn query_typed_opt(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> impl Future<Output = Result<Option<Row>>> + Send;

    /// Executes SQL statements without parameters, separated by semicolons.
    fn batch_execute(&self, sql: &str) -> impl Future<Output = Result<()>> + Send;
}

macro_rules! ours {
    ($client:ty) => {
        impl GenericClient for $client {
            async fn prepare_cached(&self, sql: &str) -> Result<Statement> {
                self.prepare_cached(sql).await
            }

            async fn query(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<Vec<Row>> {
                self.query(sql, parameters).await
            }

            async fn query_one(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<Row> {
                self.query_one(sql, parameters).await
            }

            async fn query_opt(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<Option<Row>> {
                self.query_opt(sql, parameters).await
            }

            async fn execute(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<u64> {
                self.execute(sql, parameters).await
            }

            async fn query_typed(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
                self.query_typed(sql, parameters).await
            }

            async fn query_typed_opt(
                &self,
                sql: &str,
                parameters: &[(&(dyn ToSql + Sync), Type)],
            ) -> Result<Option<Row>> {
                self.query_typed_opt(sql, parameters).await
            }

            async fn batch_execute(&self, sql: &str) -> Result<()> {
                self.batch_execute(sql).await
            }
        }
    };
}

macro_rules! of_a_session {
    ($client:ty) => {
        impl GenericClient for $client {
            async fn prepare_cached(&self, sql: &str) -> Result<Statement> {
                Ok(Statement::Prepared(self.prepare(sql).await?))
            }

            async fn query(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<Vec<Row>> {
                match sql.spoken() {
                    Spoken::Text(sql) => self.query(sql, parameters).await,
                    Spoken::Prepared(statement) => self.query(statement, parameters).await,
                }
            }

            async fn query_one(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<Row> {
                match sql.spoken() {
                    Spoken::Text(sql) => self.query_one(sql, parameters).await,
                    Spoken::Prepared(statement) => self.query_one(statement, parameters).await,
                }
            }

            async fn query_opt(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<Option<Row>> {
                match sql.spoken() {
                    Spoken::Text(sql) => self.query_opt(sql, parameters).await,
                    Spoken::Prepared(statement) => self.query_opt(statement, parameters).await,
                }
            }

            async fn execute(&self, sql: &(impl Sql + ?Sized), parameters: &Parameters<'_>) -> Result<u64> {
                match sql.spoken() {
                    Spoken::Text(sql) => self.execute(sql, parameters).await,
                    Spoken::Prepared(statement) => self.execute(statement, parameters).await,
                }
            }

            async fn query_typed(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
                self.query_typed(sql, parameters).await
            }

            async fn query_typed_opt(
                &self,
                sql: &str,
                parameters: &[(&(dyn ToSql + Sync), Type)],
            ) -> Result<Option<Row>> {
                self.query_typed_opt(sql, parameters).await
            }

            async fn batch_execute(&self, sql: &str) -> Result<()> {
                self.batch_execute(sql).await
            }
        }
    };
}

ours!(Client);
ours!(Transaction<'_>);
of_a_session!(tokio_postgres::Client);
of_a_session!(tokio_postgres::Transaction<'_>);
