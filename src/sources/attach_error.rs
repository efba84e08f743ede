//! The error type of attaching and detaching a table.

use super::catalog;
use super::mapping::MappingError;
use crate::infra::db::{self, QueryError};
use crate::infra::table_lock::LockError;

/// Why a table was not attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mapping cannot be parsed.
    #[error("the mapping cannot be used:\n{0}")]
    Mapping(#[from] MappingError),
    /// The mapping does not match its table, for example because a column is missing.
    #[error("the mapping does not fit {table}:\n{}", .problems.join("\n"))]
    Unfit {
        /// The name of the table, quoted and with its schema, as in `public."order"`.
        table: String,
        /// The errors of the mapping, one line each.
        problems: Vec<String>,
    },
    /// Another role owns the table. Functions of the table's column types could run with the rights of the role that
    /// attaches the table.
    #[error(
        "{table} belongs to role {owner}, whose types could run functions of their own with your rights: attach it as {owner}, as a role \
         that may create the role vestnik_recorder, or with --trust-owner"
    )]
    ForeignOwner {
        /// The name of the table, quoted and with its schema, as in `public."order"`.
        table: String,
        /// The role that owns the table.
        owner: String,
    },
    /// No source has this name, and no source has a table with this name.
    #[error("no source is called {0}, and none is of this table: `vestnik source list` lists them")]
    Unknown(String),
    /// Another source already has this name.
    #[error("a source is called {0} already: give this one another `name` in its mapping")]
    NameTaken(String),
    /// The database lacks Vestnik's tables, because `vestnik migrate` has not run.
    #[error("this database is not prepared: run `vestnik migrate` first")]
    NotMigrated,
    /// The table cannot be a source, or the catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// Postgres reported an error, or the connection failed.
    #[error("{}", db::reason(.0))]
    Postgres(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error().map(|db| db.code().code().to_owned()).as_deref() {
            Some("3F000" | "42P01") if error.to_string().contains("vestnik") || is_about_ours(&error) => {
                Self::NotMigrated
            }
            _ => Self::Postgres(error),
        }
    }
}

fn is_about_ours(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| db.message().contains("vestnik"))
}

impl LockError for Error {
    fn postgres(&self) -> Option<&tokio_postgres::Error> {
        match self {
            Self::Postgres(error) | Self::Catalog(catalog::Error::Failed(QueryError::Postgres(error))) => Some(error),
            _ => None,
        }
    }
}
