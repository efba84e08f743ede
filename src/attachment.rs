//! Which of the shop's tables carry our triggers. What an attachment is stands in `triggers/attach.sql`.

use crate::db::{self, Client, Pool};

/// What the rows of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Orders.
    Order,
    /// Bookings.
    Booking,
}

impl Kind {
    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Booking => "booking",
        }
    }
}

/// A table and its columns.
#[derive(Debug, Clone)]
pub struct Attach {
    /// With its schema, as SQL writes it.
    pub table: String,
    /// What its rows are.
    pub kind: Kind,
    /// The column of the row's id.
    pub id_column: String,
    /// The column of the store's id.
    pub store_column: String,
    /// The column of the status.
    pub status_column: String,
    /// Whether events are written at the end of the transaction.
    pub deferred: bool,
}

/// Why a table was not attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database has no such functions.
    #[error("this database is not prepared: run `vestnik migrate` first")]
    NotMigrated,
    /// What the functions say, with their advice.
    #[error("{0}")]
    Refused(String),
    /// Postgres says so, or is gone.
    #[error("{}", crate::db::reason(.0))]
    Postgres(#[source] tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) if db.code().code() == "3F000" || db.code().code() == "42883" => Self::NotMigrated,
            Some(db) => Self::Refused(match db.hint() {
                Some(hint) => format!("{}: {hint}", db.message()),
                None => db.message().to_owned(),
            }),
            None => Self::Postgres(error),
        }
    }
}

/// The SQL that [`attach`] would run.
pub async fn attach_sql(client: &Client, attach: &Attach) -> Result<String, Error> {
    let row = call(client, "attach_sql", attach).await?;
    Ok(row.try_get::<_, String>(0)?.trim().to_owned())
}

/// Puts the triggers on a table. Whether that changed anything.
pub async fn attach(client: &Client, attach: &Attach) -> Result<bool, Error> {
    Ok(call(client, "attach", attach).await?.try_get(0)?)
}

async fn call(client: &Client, function: &str, attach: &Attach) -> Result<tokio_postgres::Row, Error> {
    let sql = format!("select vestnik.{function}($1, $2, $3, $4, $5, $6)");
    let kind = attach.kind.as_str();
    let Attach {
        table,
        id_column,
        store_column,
        status_column,
        deferred,
        ..
    } = attach;
    Ok(client
        .query_one(&sql, &[table, &kind, id_column, store_column, status_column, deferred])
        .await?)
}

/// A table that carries our triggers, or should.
#[derive(Debug)]
pub struct Attached {
    /// With its schema, as SQL writes it.
    pub table: String,
    /// What its rows are: `order` or `booking`.
    pub kind: String,
    /// What is wrong with it, and what to do.
    pub trouble: Option<String>,
}

/// All of them, by name.
pub async fn attached(client: &Client) -> Result<Vec<Attached>, db::Failed> {
    const ATTACHED: &str = "select a.table_name, a.kind, t.trouble from vestnik.attachment a \
         left join vestnik.attachment_troubles() t on t.name = a.table_name order by a.table_name";
    let attached = |row: &tokio_postgres::Row| {
        Ok(Attached {
            table: row.try_get(0)?,
            kind: row.try_get(1)?,
            trouble: row.try_get(2)?,
        })
    };
    db::answered(async { client.query(ATTACHED, &[]).await?.iter().map(attached).collect() }).await
}

/// What is wrong with the attached tables: each one's name, and what to do.
pub async fn troubles(pool: &Pool) -> Result<Vec<(String, String)>, db::Failed> {
    let attached = attached(&*pool.get().await?).await?;
    Ok(attached
        .into_iter()
        .filter_map(|it| Some((it.table, it.trouble?)))
        .collect())
}

/// The SQL that [`detach`] would run.
pub async fn detach_sql(client: &Client, table: &str) -> Result<String, Error> {
    let row = client.query_one("select vestnik.detach_sql($1)", &[&table]).await?;
    Ok(row.try_get::<_, String>(0)?.trim().to_owned())
}

/// Takes the triggers off a table.
pub async fn detach(client: &Client, table: &str) -> Result<(), Error> {
    client.execute("select vestnik.detach($1)", &[&table]).await?;
    Ok(())
}
