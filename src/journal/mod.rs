//! All SQL on the journal, the table `vestnik.vst_event`. `reader`, `transaction_sizes` and `large_transaction` read
//! for the feed, which publishes new events. `page` reads for clients, and `due` for messages to chats. `lineage`
//! detects a restored database, and `retention` deletes old events.

pub mod canary;
mod due;
mod history;
mod large_transaction;
mod lineage;
mod page;
mod reader;
mod retention;
mod search;
mod sql_types;
mod transaction_sizes;

pub use due::{Due, DueBatch, append, read_due, read_event, read_with_siblings};
pub use history::{History, read_history};
pub use large_transaction::{LargeTransactionStream, stream_large_transactions};
pub use lineage::Witnesses;
pub use page::{Page, PageEvent, Start, cursor_here, read_page};
pub use reader::{Backlog, ConnectError, News, READ_DEADLINE, Reader};
pub use retention::{Trimmed, trim_batch};
pub use search::{as_recorded, newest_of, read_where};
pub use transaction_sizes::{Size, TransactionSizes};

use tokio_postgres::Row;

use crate::domain::event::{Body, EventId, EventType, JournalEvent, RowWrite, SourceId, StoreId, Write};
use crate::infra::db;
pub use lineage::read_epoch;
use sql_types::{JsonText, SqlXid};

/// The reason why the journal could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres or the connection reported an error.
    #[error("the journal cannot be read: {}", crate::infra::db::reason(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// The pool had no free connection, or could not open one.
    #[error("no connection for reading the journal: {0}")]
    Pool(#[from] db::PoolError),
    /// Postgres did not respond in time.
    #[error("Postgres did not answer a read of the journal in time")]
    TimedOut,
    /// The first row of the result did not have the transaction snapshot of the read.
    #[error("the answer of the journal has no snapshot")]
    NoSnapshot,
    /// The sources could not be read. Their mappings are needed to translate journal rows.
    #[error("the sources cannot be read: {0}")]
    Sources(#[source] crate::infra::db::QueryError),
    /// The tables are missing, or older than this version of Vestnik.
    #[error("this database has no journal: run `vestnik migrate` first")]
    NotMigrated,
    /// The database is a standby, which accepts no writes.
    #[error("this Postgres is a standby: give the address of the primary")]
    Standby,
    /// The journal was restored into another cluster, which has other transaction ids.
    #[error("this database was restored from another cluster: run `vestnik migrate` first")]
    Restored,
    /// Postgres was restarted or its data was restored after this connection was opened.
    #[error("Postgres was restarted or restored: the feed checks its position again")]
    NewLine,
    /// A second connection reached another database than the feed's connection, or Postgres was restarted or restored
    /// meanwhile.
    #[error("a second connection reached another database than the feed reads")]
    Elsewhere,
}

/// The columns of a journal event, in the order that [`event`] expects. In a database with an encoding other than
/// UTF-8, `vst_readable` replaces characters that cannot be converted to UTF-8.
const EVENT_COLUMNS: &str = "id, xid, source, vestnik.vst_readable(store_id) as store_id, vestnik.vst_readable(key) as key, type, at, \
     vestnik.vst_readable(data) as data, vestnik.vst_readable(old) as old, vestnik.vst_readable(answer) as answer";

/// Reads a journal event from a row. The columns of the event begin at index `first`. `None`: the type of the event is
/// unknown.
fn event(row: &Row, first: usize) -> Result<Option<JournalEvent>, tokio_postgres::Error> {
    let kind: &str = row.try_get(first + 5)?;
    let data = row.try_get::<_, JsonText>(first + 7)?.0;
    let body = match (
        row.try_get::<_, Option<i32>>(first + 2)?,
        Write::from_name(kind),
        EventType::from_name(kind),
    ) {
        (Some(source), Some(write), _) => Body::Write(RowWrite {
            source: SourceId(source),
            key: row.try_get::<_, Option<&str>>(first + 4)?.map(Into::into),
            write,
            data,
            old: row.try_get::<_, Option<JsonText>>(first + 8)?.map(|old| old.0),
            answer: row.try_get::<_, Option<JsonText>>(first + 9)?.map(|answer| answer.0),
        }),
        (None, _, Some(kind)) => Body::Engine(kind, data),
        _ => return Ok(None),
    };
    Ok(Some(JournalEvent {
        id: EventId(row.try_get(first)?),
        xid: row.try_get::<_, SqlXid>(first + 1)?.0,
        store: row.try_get::<_, Option<&str>>(first + 3)?.map(StoreId::new),
        at: row.try_get(first + 6)?,
        body,
    }))
}
