//! Reads all new events for the feed. The feed's position is the set of transactions that it has read. An event is new
//! if the position does not cover its transaction. The next position is computed from the snapshot of the SQL
//! statement. Two index look-ups on `xid` find all new events, even if a transaction has been open for long. The read
//! delays no writer, skips no event, and repeats no event.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt as _;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::lineage::{self, HistoryLine, Witnesses};
use super::sql_types::{SqlXid, xids};
use super::{EVENT_COLUMNS, Error, event};
use crate::domain::cursor::{Epoch, Position, Snapshot};
use crate::domain::event::{JournalEvent, Xid};
use crate::domain::event_group;
use crate::infra::config::Database;
use crate::infra::db::{self, Client, Rows, Statement};

/// Maximum number of events in one read. If there are more, Postgres sorts them, and the feed reads them as a stream.
pub const NEWS_EVENTS: usize = 1024;
/// Number of events in one chunk. The feed reads in chunks if there are too many new events for one read.
pub const CHUNK_EVENTS: usize = 256;
/// Number of events that are read beyond a chunk. They show whether the chunk may stop at its limit, or after which
/// event.
const EVENTS_AHEAD: usize = 256;
/// If a chunk has this many bytes of payload, it ends, even if it has fewer than `CHUNK_EVENTS` events.
pub const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Maximum time for Postgres to send the next part of a result.
pub const READ_DEADLINE: Duration = Duration::from_secs(10);

/// Maximum time for Postgres to sort many new events before it sends the first row. Half a million events take 0.6 s. A
/// dead connection is detected earlier by keepalives.
pub const SORT_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Settings that make Postgres use the index. Otherwise, the planner would scan the whole journal if statistics are
/// missing or the position is old. A fixed plan also avoids planning, which takes as long as the read itself.
pub(super) const SESSION: [(&str, &str); 4] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];

/// SQL that lists the transactions that a position does not cover, and whether each has more than `$4` events. The
/// first row has only the snapshot.
const OUTLINE: &str = "with recursive later (xid) as ( \
         (select xid from vestnik.vst_event where xid >= $1 order by xid limit 1) \
         union all \
         select (select e.xid from vestnik.vst_event e where e.xid > later.xid order by e.xid limit 1) \
         from later where later.xid is not null), \
     found (xid) as ( \
         (select xid from later where xid is not null limit $3) \
         union all \
         select xid from unnest($2::xid8[]) m (xid) \
         where (select true from vestnik.vst_event e where e.xid = m.xid limit 1)) \
     select pg_current_snapshot(), null::xid8, null::boolean \
     union all \
     select null, xid, coalesce((select true from vestnik.vst_event e where e.xid = found.xid offset $4 limit 1), false) from found";

/// SQL that selects the stores among `$1` for which one of the transactions `$2` wrote an event. The SQL uses a
/// sub-select instead of `exists`, because the planner might turn `exists` into a join that reads a whole transaction.
const TOUCHED: &str = "select store from unnest($1::text[]) asked (store) \
     where (select true from vestnik.vst_event e where e.store_id = asked.store and e.xid = any ($2) limit 1)";

/// The feed's connection to the journal.
pub struct Reader {
    client: Client,
    news: Statement,
    backlog: Statement,
    pub(super) sizes: Statement,
    pub(super) touched: Statement,
    line: HistoryLine,
}

/// The result of reading the new events.
pub enum News {
    /// All new events, because they are few enough for one read.
    Read {
        /// The Postgres snapshot of the read, which says which transactions it saw. The feed's next position is
        /// computed from it.
        snapshot: Snapshot,
        /// The time of the read, by the database's clock.
        clock: OffsetDateTime,
        /// The version of the mappings of all attached tables at the time of the read. Each change of a mapping
        /// increments it.
        sources: i64,
        /// The new events, sorted by id.
        events: Vec<JournalEvent>,
        /// The newest transaction that wrote one of these events. `None`: the read found no event.
        newest: Option<Xid>,
    },
    /// There are too many new events for one read. `Reader::transaction_sizes` lists their transactions, and
    /// [`Reader::backlog`] streams the events.
    TooMuch,
}

impl Reader {
    /// Connects to the database, and prepares the statements.
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
        if client
            .query_one("select pg_is_in_recovery()", &[])
            .await?
            .try_get::<_, bool>(0)?
        {
            return Err(Error::Standby);
        }
        let is_migrated = "select to_regclass('vestnik.vst_retention') is not null and to_regclass('vestnik.vst_lineage') is not null";
        if !client.query_one(is_migrated, &[]).await?.try_get::<_, bool>(0)? {
            return Err(Error::NotMigrated);
        }
        // The transaction ids of a journal from another cluster cannot be compared with the ids of this cluster. Some
        // events would look new at every read.
        let is_same_cluster =
            "select exists (select from vestnik.vst_cluster join pg_control_system() using (system_identifier))";
        if !client.query_one(is_same_cluster, &[]).await?.try_get::<_, bool>(0)? {
            return Err(Error::Restored);
        }
        let line = lineage::begin(&mut client).await?;
        let (columns, line_here) = (EVENT_COLUMNS, lineage::LINE_HERE);
        // The first row has no event. It has the snapshot and the time. Its column `id` has the version of the
        // mappings, and its column `store_id` has the line of history.
        let select = format!(
            "select pg_current_snapshot() as snapshot, (select version from vestnik.vst_source_version) as id, \
                    (select xid from vestnik.vst_event where $3 order by xid desc limit 1) as xid, null::int as source, \
                    {line_here} as store_id, null::text as key, null::text as type, clock_timestamp() as at, \
                    null::json as data, null::json as old, null::json as answer \
             union all select null, {columns} from vestnik.vst_event where xid >= $1 \
             union all select null, {columns} from vestnik.vst_event where xid = any ($2)"
        );
        let news = client.prepare_cached(&format!("{select} limit $4")).await?;
        let backlog = format!("select * from ({select}) e order by snapshot is null, id");
        let backlog = client.prepare_cached(&backlog).await?;
        let sizes = client.prepare_cached(OUTLINE).await?;
        let touched = client.prepare_cached(TOUCHED).await?;
        Ok(Self {
            client,
            news,
            backlog,
            sizes,
            touched,
            line,
        })
    }

    /// The epoch of the database of this connection. Transaction ids can be compared only within one epoch.
    pub fn epoch(&self) -> Epoch {
        self.line.epoch
    }

    /// Whether the feed may continue at the position `read`. `seen` are the events of the feed's last read. If the
    /// journal no longer has one of them, the database was restored, and all earlier cursors become invalid.
    pub async fn continues(&mut self, epoch: Epoch, read: &Position, seen: &Witnesses) -> Result<bool, Error> {
        let continues = lineage::continues(&mut self.client, &mut self.line, epoch, read, seen);
        timeout(READ_DEADLINE, continues).await.map_err(|_| Error::TimedOut)?
    }

    /// Reads the newest event of the journal, except events of canaries (self-tests). The result is empty if the
    /// journal has no such event.
    pub async fn witness(&self) -> Result<Witnesses, Error> {
        let newest = lineage::newest(&self.client);
        timeout(READ_DEADLINE, newest).await.map_err(|_| Error::TimedOut)?
    }

    /// Fails if Postgres was restarted or restored since this reader connected. `first` is the first row of a read,
    /// which has the name of the current line of history.
    fn check_line(&self, first: &Row) -> Result<(), Error> {
        match first.try_get::<_, Option<&str>>(4)? == Some(self.line.name.as_str()) {
            true => Ok(()),
            false => Err(Error::NewLine),
        }
    }

    /// The connection that reads the journal, for other statements of the feed.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the position of a new feed. It covers all events that have been committed until now.
    pub async fn now(&self) -> Result<Position, Error> {
        // Cover the transactions whose old events were deleted, too, because a cursor that does not cover them is
        // refused.
        const NOW: &str = "select pg_current_snapshot(), greatest( \
                (select xid from vestnik.vst_event order by xid desc limit 1), (select trimmed_through from vestnik.vst_retention), '0'::xid8)";
        let row = timeout(READ_DEADLINE, self.client.query_one(NOW, &[]))
            .await
            .map_err(|_| Error::TimedOut)??;
        let newest = row.try_get::<_, SqlXid>(1)?;
        Ok(Position::after(&row.try_get(0)?, newest.0))
    }

    /// Reads all new events, which are the events that `position` does not cover. Returns `TooMuch` if they are more
    /// than `NEWS_EVENTS`.
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
                Some(found) => {
                    self.check_line(row)?;
                    (snapshot, clock, sources) = (Some(found), row.try_get(7)?, row.try_get(1)?);
                }
                None => {
                    newest = newest.max(Some(row.try_get::<_, SqlXid>(2)?.0));
                    events.extend(event(row, 1)?);
                }
            }
        }
        // Sort here, because this is cheaper than sorting so few events in Postgres.
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

    /// Streams all new events, which are the events that `position` does not cover. They are sorted by id, in chunks of
    /// limited size.
    pub async fn backlog(&self, position: &Position) -> Result<Backlog, Error> {
        let (end, missing) = (SqlXid(position.end()), xids(position.missing()));
        let parameters: [&(dyn ToSql + Sync); 3] = [&end, &missing, &true];
        let rows = timeout(SORT_DEADLINE, self.client.query_raw(&self.backlog, &parameters)).await;
        let mut rows = Chunks::new(rows.map_err(|_| Error::TimedOut)??);
        let first = rows.row().await?.ok_or(Error::NoSnapshot)?;
        let snapshot = first.try_get::<_, Option<Snapshot>>(0)?.ok_or(Error::NoSnapshot)?;
        self.check_line(&first)?;
        let newest = first
            .try_get::<_, Option<SqlXid>>(2)?
            .map_or(position.newest(), |xid| xid.0);
        Ok(Backlog {
            seen: Position::after(&snapshot, newest.max(position.newest())),
            chunks: rows,
        })
    }
}

/// The reason why the feed could not connect to the journal.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection could not be opened.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// The connection was opened, but the journal cannot be read over it.
    #[error(transparent)]
    Journal(#[from] Error),
}

/// Many new events, which are read as a stream. Postgres sends rows only as fast as the feed reads them.
pub struct Backlog {
    /// The position after the last event of the backlog.
    pub seen: Position,
    /// The stream of the backlog's events.
    pub chunks: Chunks,
}

/// Divides a stream of rows into chunks of events. The first column of each row is the snapshot, and is null in rows of
/// events.
pub struct Chunks {
    rows: Rows,
    /// Events of the next chunks that are already read.
    ahead: VecDeque<JournalEvent>,
    /// Whether all rows are read.
    is_over: bool,
}

impl Chunks {
    pub(super) fn new(rows: Rows) -> Self {
        Self {
            rows,
            ahead: VecDeque::new(),
            is_over: false,
        }
    }

    /// Reads the next chunk of events, sorted by id. Empty: the stream has ended. A chunk divides the rows of one event
    /// only if they are far apart.
    pub async fn next(&mut self) -> Result<Vec<JournalEvent>, Error> {
        let mut bytes: usize = self.ahead.iter().map(JournalEvent::payload_bytes).sum();
        while !self.is_over && self.ahead.len() < CHUNK_EVENTS + EVENTS_AHEAD && bytes < 2 * CHUNK_BYTES {
            match self.row().await? {
                Some(row) => {
                    let event = event(&row, 1)?;
                    bytes += event.as_ref().map_or(0, JournalEvent::payload_bytes);
                    self.ahead.extend(event);
                }
                None => self.is_over = true,
            }
        }
        let mut bytes = 0;
        let fits = |event: &&JournalEvent| {
            let fits = bytes < CHUNK_BYTES;
            bytes += event.payload_bytes();
            fits
        };
        let wanted = self.ahead.iter().take(CHUNK_EVENTS).take_while(fits).count();
        let stops = event_group::stops(self.ahead.iter().map(Some), self.is_over);
        let taken = event_group::take(&stops, wanted);
        Ok(self.ahead.drain(..taken).collect())
    }

    async fn row(&mut self) -> Result<Option<Row>, Error> {
        let row = timeout(READ_DEADLINE, self.rows.next())
            .await
            .map_err(|_| Error::TimedOut)?;
        Ok(row.transpose()?)
    }
}
