//! What the feed reads: everything that a position does not cover, in the statement's own snapshot, which is the next
//! position. Two look-ups in the index on `xid`, however long some transaction has been open: no lock on the writers,
//! no wait for them, no gap, no repeat.

use std::time::Duration;

use futures::StreamExt as _;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::sql_types::{SqlXid, xids};
use super::{EVENT_COLUMNS, Error, event, read_epoch};
use crate::config::Database;
use crate::cursor::{Epoch, Position, Snapshot};
use crate::db::{self, Client, Rows, Statement};
use crate::event::{Event, Xid};

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
        /// By id.
        events: Vec<Event>,
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
        let there =
            "select to_regclass('vestnik.retention') is not null and to_regclass('vestnik.cluster') is not null";
        if !client.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
            return Err(Error::NotMigrated);
        }
        // Its transaction numbers would mean nothing here: some of them would be new at every read.
        let ours = "select exists (select from vestnik.cluster join pg_control_system() using (system_identifier))";
        if !client.query_one(ours, &[]).await?.try_get::<_, bool>(0)? {
            return Err(Error::Restored);
        }
        let epoch = read_epoch(&client).await?;
        let columns = EVENT_COLUMNS;
        // The first row is the snapshot and the time, with no id.
        let select = format!(
            "select pg_current_snapshot() as snapshot, null::bigint as id, \
                    (select xid from vestnik.event where $3 order by xid desc limit 1) as xid, \
                    null::text as store_id, null::text as type, clock_timestamp() as at, null::jsonb as data \
             union all select null, {columns} from vestnik.event where xid >= $1 \
             union all select null, {columns} from vestnik.event where xid = any ($2)"
        );
        let news = client.prepare_cached(&format!("{select} limit $4")).await?;
        let backlog = client
            .prepare_cached(&format!("{select} order by id nulls first"))
            .await?;
        let outline = client.prepare_cached(super::outline::OUTLINE).await?;
        let touched = client.prepare_cached(super::outline::TOUCHED).await?;
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

    /// Where a feed begins that has read nothing: behind all that has happened.
    pub async fn now(&self) -> Result<Position, Error> {
        // The trimmed ones count as read: a cursor that does not cover them would be refused.
        const NOW: &str = "select pg_current_snapshot(), greatest( \
                (select xid from vestnik.event order by xid desc limit 1), (select trimmed_through from vestnik.retention), '0'::xid8)";
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
        let (mut snapshot, mut clock) = (None, OffsetDateTime::UNIX_EPOCH);
        let mut newest = None;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            match row.try_get::<_, Option<Snapshot>>(0)? {
                Some(found) => (snapshot, clock) = (Some(found), row.try_get(5)?),
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
pub struct Chunks(Rows);

impl Chunks {
    pub(super) fn new(rows: Rows) -> Self {
        Self(rows)
    }

    /// The next events, by id; none when that was all.
    pub async fn next(&mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::with_capacity(CHUNK_EVENTS);
        let mut bytes = 0;
        while events.len() < CHUNK_EVENTS && bytes < CHUNK_BYTES {
            let Some(row) = self.row().await? else { break };
            if let Some(event) = event(&row, 1)? {
                bytes += event.data.len();
                events.push(event);
            }
        }
        Ok(events)
    }

    async fn row(&mut self) -> Result<Option<Row>, Error> {
        let row = timeout(READ_DEADLINE, self.0.next())
            .await
            .map_err(|_| Error::TimedOut)?;
        Ok(row.transpose()?)
    }
}
