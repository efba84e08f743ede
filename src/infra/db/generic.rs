//! The common interface of connections and transactions: ours, and those of tokio-postgres for uses that need one
//! backend.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::client::{Client, Transaction};
use super::statement::{Parameters, Spoken, Sql, Statement};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// A connection or a transaction.
pub trait GenericClient: Sync {
    /// Prepares a statement; our own connections prepare it once.
    fn prepare_cached(&self, sql: &str) -> impl Future<Output = Result<Statement>> + Send;

    /// All rows of the result, in order.
    fn query(
        &self,
        sql: &(impl Sql + ?Sized),
        parameters: &Parameters<'_>,
    ) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// The only row of the result; another number of rows is an error.
    fn query_one(
        &self,
        sql: &(impl Sql + ?Sized),
        parameters: &Parameters<'_>,
    ) -> impl Future<Output = Result<Row>> + Send;

    /// The row, or `None`; several rows are an error.
    fn query_opt(
        &self,
        sql: &(impl Sql + ?Sized),
        parameters: &Parameters<'_>,
    ) -> impl Future<Output = Result<Option<Row>>> + Send;

    /// Executes a statement; returns the number of affected rows.
    fn execute(
        &self,
        sql: &(impl Sql + ?Sized),
        parameters: &Parameters<'_>,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// All rows of a statement that is not prepared.
    fn query_typed(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// The row of a statement that is not prepared, or `None`.
    fn query_typed_opt(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> impl Future<Output = Result<Option<Row>>> + Send;

    /// Executes statements without parameters.
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
