//! What the feed reads: everything that a position does not cover, in the statement's own snapshot, which is the next
//! position. Two look-ups in the index on `xid`, however long some transaction has been open: no lock on the writers,
//! no wait for them, no gap, no repeat.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::sql_types::{SqlXid, xids};
use super::{EVENT_COLUMNS, Error, event, read_epoch};
use crate::domain::cursor::{Epoch, Position, Snapshot};
use crate::domain::event::{JournalEvent, Xid};
use crate::infra::config::Database;
use crate::infra::db::{self, Client, Rows, Statement};
use crate::sources::Sources;
use crate::sources::registry::Registry;

/// Events of one answer at most; a longer backlog is streamed, sorted by Postgres.
pub const NEWS_EVENTS: usize = 1024;
/// Events of one chunk of a streamed backlog.
pub const CHUNK_EVENTS: usize = 256;
/// Bytes of payload in one chunk of a streamed backlog.
pub const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// How long Postgres may take for the next part of an answer.
pub const READ_DEADLINE: Duration = Duration::from_secs(10);

/// How long Postgres may sort what it streams, before it sends the first of it: half a million events take 0.6 s here. A
/// connection that died is noticed sooner, by its keepalives.
pub const SORT_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// The plan is fixed: look up the index. Without statistics, or with a position far behind, the planner would rather
/// read the whole journal; and planning anew costs as much as reading.
pub(super) const SESSION: [(&str, &str); 4] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];

/// The feed's own connection to the journal.
pub struct Reader {
    client: Client,
    news: Statement,
    backlog: Statement,
    pub(super) outline: Statement,
    pub(super) touched: Statement,
    epoch: Epoch,
}

/// What a read brought.
pub enum News {
    /// All that is new, by id. `newest` is the newest transaction among it.
    Read {
        /// What the read saw.
        snapshot: Snapshot,
        /// When, by the database's clock.
        clock: OffsetDateTime,
        /// The version of the sources that was in force.
        sources: i64,
        /// By id.
        events: Vec<JournalEvent>,
        /// The newest transaction of which an event was read.
        newest: Option<Xid>,
    },
    /// Too much for one answer: see with [`Reader::outline`] what it is made of, or stream it with [`Reader::backlog`].
    TooMuch,
}

impl Reader {
    /// Connects and prepares.
    pub async fn connect(database: &Database) -> Result<Self, ConnectError> {
        let url = database.url.as_ref().ok_or(db::Error::Missing)?;
        let client = db::connect_as(url, "feed").await?;
        let reader = timeout(READ_DEADLINE, Self::prepare(client))
            .await
            .map_err(|_| Error::TimedOut)??;
        Ok(reader)
    }

    async fn prepare(mut client: Client) -> Result<Self, Error> {
        client.set(&SESSION).await?;
        let there = "select to_regclass('vestnik.vst_retention') is not null and to_regclass('vestnik.vst_cluster') is not null";
        if !client.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
            return Err(Error::NotMigrated);
        }
        // Its transaction numbers would mean nothing here: some of them would be new at every read.
        let ours = "select exists (select from vestnik.vst_cluster join pg_control_system() using (system_identifier))";
        if !client.query_one(ours, &[]).await?.try_get::<_, bool>(0)? {
            return Err(Error::Restored);
        }
        let epoch = read_epoch(&client).await?;
        let columns = EVENT_COLUMNS;
        // The first row is the snapshot, with the time, and the sources' version in place of an id.
        let select = format!(
            "select pg_current_snapshot() as snapshot, (select version from vestnik.vst_source_version) as id, \
                    (select xid from vestnik.vst_event where $3 order by xid desc limit 1) as xid, null::int as source, \
                    null::text as store_id, null::text as key, null::text as type, clock_timestamp() as at, \
                    null::json as data, null::json as old, null::json as answer \
             union all select null, {columns} from vestnik.vst_event where xid >= $1 \
             union all select null, {columns} from vestnik.vst_event where xid = any ($2)"
        );
        let news = client.prepare_cached(&format!("{select} limit $4")).await?;
        let backlog = format!("select * from ({select}) e order by snapshot is null, id");
        let backlog = client.prepare_cached(&backlog).await?;
        let outline = client.prepare_cached(super::transaction_sizes::OUTLINE).await?;
        let touched = client.prepare_cached(super::transaction_sizes::TOUCHED).await?;
        Ok(Self {
            client,
            news,
            backlog,
            outline,
            touched,
            epoch,
        })
    }

    /// The life of the database that this connection reads.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Loads the sources that are in force. What they were before.
    pub async fn reload(&self, sources: &Registry) -> Result<Arc<Sources>, Error> {
        let reloaded = timeout(READ_DEADLINE, sources.reload(&self.client)).await;
        reloaded.map_err(|_| Error::TimedOut)?.map_err(Error::Sources)
    }

    /// Where a feed begins that has read nothing: behind all that has happened.
    pub async fn now(&self) -> Result<Position, Error> {
        // The trimmed ones count as read: a cursor that does not cover them would be refused.
        const NOW: &str = "select pg_current_snapshot(), greatest( \
                (select xid from vestnik.vst_event order by xid desc limit 1), (select trimmed_through from vestnik.vst_retention), '0'::xid8)";
        let row = timeout(READ_DEADLINE, self.client.query_one(NOW, &[]))
            .await
            .map_err(|_| Error::TimedOut)??;
        let newest = row.try_get::<_, SqlXid>(1)?;
        Ok(Position::after(&row.try_get(0)?, newest.0))
    }

    /// All that `position` does not cover, unless it is too much.
    pub async fn news(&self, position: &Position) -> Result<News, Error> {
        let limit = NEWS_EVENTS as i64 + 2;
        let (end, missing) = (SqlXid(position.end()), xids(position.missing()));
        let rows = self.query(&self.news, &[&end, &missing, &false, &limit]).await?;
        if rows.len() > NEWS_EVENTS + 1 {
            return Ok(News::TooMuch);
        }
        let (mut snapshot, mut clock, mut sources) = (None, OffsetDateTime::UNIX_EPOCH, 0);
        let mut newest = None;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            match row.try_get::<_, Option<Snapshot>>(0)? {
                Some(found) => (snapshot, clock, sources) = (Some(found), row.try_get(7)?, row.try_get(1)?),
                None => {
                    newest = newest.max(Some(row.try_get::<_, SqlXid>(2)?.0));
                    events.extend(event(row, 1)?);
                }
            }
        }
        // Cheaper here than in Postgres, for the few that there are.
        events.sort_unstable_by_key(|event| event.id);
        Ok(News::Read {
            snapshot: snapshot.ok_or(Error::NoSnapshot)?,
            clock,
            sources,
            events,
            newest,
        })
    }

    pub(super) async fn query(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let rows = timeout(READ_DEADLINE, self.client.query(statement, parameters)).await;
        Ok(rows.map_err(|_| Error::TimedOut)??)
    }

    /// All that `position` does not cover, by id, in chunks of bounded size.
    pub async fn backlog(&self, position: &Position) -> Result<Backlog, Error> {
        let (end, missing) = (SqlXid(position.end()), xids(position.missing()));
        let parameters: [&(dyn ToSql + Sync); 3] = [&end, &missing, &true];
        let rows = timeout(SORT_DEADLINE, self.client.query_raw(&self.backlog, &parameters)).await;
        let mut rows = Chunks::new(rows.map_err(|_| Error::TimedOut)??);
        let first = rows.row().await?.ok_or(Error::NoSnapshot)?;
        let snapshot = first.try_get::<_, Option<Snapshot>>(0)?.ok_or(Error::NoSnapshot)?;
        let newest = first
            .try_get::<_, Option<SqlXid>>(2)?
            .map_or(position.newest(), |xid| xid.0);
        Ok(Backlog {
            seen: Position::after(&snapshot, newest.max(position.newest())),
            chunks: rows,
        })
    }
}

/// Why the feed's connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no connection.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// There is one, and the journal cannot be read over it.
    #[error(transparent)]
    Journal(#[from] Error),
}

/// A long answer on its way. Postgres waits while we do.
pub struct Backlog {
    /// What it leads to, once it has been read to its end.
    pub seen: Position,
    /// The events.
    pub chunks: Chunks,
}

/// Events on their way, each behind a column for a snapshot.
pub struct Chunks {
    rows: Rows,
    /// The first event of the next chunk.
    next: Option<JournalEvent>,
}

impl Chunks {
    pub(super) fn new(rows: Rows) -> Self {
        Self { rows, next: None }
    }

    /// The next events, by id; none when that was all. A chunk does not end between rows that become one event.
    pub async fn next(&mut self) -> Result<Vec<JournalEvent>, Error> {
        let mut events: Vec<JournalEvent> = Vec::with_capacity(CHUNK_EVENTS);
        events.extend(self.next.take());
        let mut bytes = 0;
        while let Some(row) = self.row().await? {
            let Some(event) = event(&row, 1)? else { continue };
            let is_full = events.len() >= CHUNK_EVENTS || bytes >= CHUNK_BYTES;
            if is_full && events.last().is_some_and(|last| !last.belongs_with(&event)) {
                self.next = Some(event);
                break;
            }
            bytes += event.payload_bytes();
            events.push(event);
        }
        Ok(events)
    }

    async fn row(&mut self) -> Result<Option<Row>, Error> {
        let row = timeout(READ_DEADLINE, self.rows.next())
            .await
            .map_err(|_| Error::TimedOut)?;
        Ok(row.transpose()?)
    }
}
