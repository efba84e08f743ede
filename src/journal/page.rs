//! Reads the events that a client's cursor does not cover, one page at a time. The events belong to one or several
//! stores. Between two pages a slow client needs no connection, and no more memory than one page. Both the replay of a
//! session and the history over HTTP read such pages.

use std::collections::HashSet;

use futures::TryStreamExt as _;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;

use super::lineage::{self, Decoded, EPOCH_COLUMNS, epoch};
use super::reader::READ_DEADLINE;
use super::sql_types::{SqlXid, xids};
use super::{EVENT_COLUMNS, Error, event};
use crate::domain::cursor::{Cursor, Epoch, Position, ReplayEnd, ReplayPlan, Snapshot, Unusable};
use crate::domain::event::{EventId, JournalEvent, StoreId, Xid};
use crate::domain::event_group;
use crate::domain::store_set::StoreSet;
use crate::infra::db::{self, Pool};

/// If a page has this many bytes of payload, it ends, even if it has fewer events than its limit.
pub const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Number of rows that are read beyond the limit of a page. They show whether the page may stop at its limit, or after
/// which row. If it may stop nowhere, the page divides the rows of one event.
const ROWS_AHEAD: usize = 100;

/// Where a page begins.
pub enum Start<'a> {
    /// The page begins after the events that this cursor covers. The text is the cursor as the client sent it, and may
    /// be invalid.
    After(&'a str),
    /// The page consists of the newest events of the stores.
    Newest,
}

/// A journal event, with a cursor for a client that has received it.
pub struct PageEvent {
    /// The event, as the journal has it.
    pub event: JournalEvent,
    /// The cursor with which a client continues after this event. It covers no row of an event that comes later. If
    /// such an event also has rows before this one, the client gets the events since then again.
    pub cursor: String,
    /// Whether the cursor covers this event.
    pub is_covered: bool,
}

/// The result of reading a page.
pub enum Page {
    /// Events in the order in which a client must receive them.
    Events {
        /// The events of the page. There may be a few more than requested, so that the page does not end between the
        /// rows of one event.
        events: Vec<PageEvent>,
        /// The cursor that covers all events of the page.
        cursor: String,
        /// What a client has received after all pages. `None`: this is not the last page.
        end: Option<ReplayEnd>,
    },
    /// The client's cursor cannot be used. The client must reload its lists, and continue with the cursor `fresh`.
    Resync {
        /// The reason why the cursor cannot be used.
        reason: Unusable,
        /// A new cursor that covers all events that are visible now.
        fresh: String,
        /// What the cursor `fresh` covers.
        end: ReplayEnd,
    },
}

/// The state of the journal at a read: the snapshot, the newest transaction with an event, the newest transaction whose
/// events were deleted because of their age, the newest event, and the epoch.
pub(super) struct JournalState {
    pub(super) snapshot: Snapshot,
    pub(super) newest: Xid,
    /// The newest event.
    newest_event: EventId,
    pub(super) trimmed: Xid,
    pub(super) epoch: Epoch,
}

/// Reads at most `limit` events of these stores.
pub async fn read_page(pool: &Pool, stores: &StoreSet, start: Start<'_>, limit: usize) -> Result<Page, Error> {
    timeout(READ_DEADLINE, read(pool, stores, start, limit))
        .await
        .map_err(|_| Error::TimedOut)?
}

async fn read(pool: &Pool, stores: &StoreSet, start: Start<'_>, limit: usize) -> Result<Page, Error> {
    let mut client = pool.get().await?;
    let transaction = db::snapshot(&mut client).await?;
    let head = read_head(&transaction).await?;
    let end = ReplayEnd {
        position: Position::after(&head.snapshot, head.newest),
        newest: head.newest_event,
    };
    let page = match start {
        Start::Newest => newest(&transaction, stores, limit, &head, &end).await?,
        Start::After(text) => match usable(&transaction, text, &head).await? {
            Decoded::Usable(cursor) => after(&transaction, stores, cursor, limit, &head, end).await?,
            Decoded::Unusable(reason) => Page::Resync {
                reason,
                fresh: Cursor::At(end.position.clone()).encode(head.epoch),
                end,
            },
        },
    };
    transaction.commit().await?;
    Ok(page)
}

/// Returns the cursor that covers exactly the events that this transaction sees. The client gets this cursor together
/// with a list that the same transaction reads. So a stream from this cursor continues exactly where the list ends.
pub async fn cursor_here(client: &db::Transaction<'_>) -> Result<String, Error> {
    let head = read_head(client).await?;
    Ok(Cursor::At(Position::after(&head.snapshot, head.newest)).encode(head.epoch))
}

pub(super) async fn read_head(client: &db::Transaction<'_>) -> Result<JournalState, Error> {
    let statement = client
        .prepare_cached(&format!(
            "select pg_current_snapshot(), trimmed_through, \
                    greatest((select xid from vestnik.vst_event order by xid desc limit 1), trimmed_through), \
                    (select coalesce(max(id), 0) from vestnik.vst_event), {EPOCH_COLUMNS} \
             from vestnik.vst_retention"
        ))
        .await?;
    let row = client.query_one(&statement, &[]).await?;
    Ok(JournalState {
        snapshot: row.try_get(0)?,
        trimmed: row.try_get::<_, SqlXid>(1)?.0,
        newest: row.try_get::<_, SqlXid>(2)?.0,
        newest_event: EventId(row.try_get(3)?),
        epoch: epoch(&row)?,
    })
}

/// Decodes a client's cursor. The cursor can be used if the journal still has every event after the cursor.
async fn usable(client: &db::Transaction<'_>, text: &str, head: &JournalState) -> Result<Decoded, Error> {
    let decoded = lineage::decode(client, text, head.epoch).await?;
    Ok(match decoded {
        Decoded::Usable(cursor) if cursor.end() > head.snapshot.xmax => Decoded::Unusable(Unusable::Future),
        Decoded::Usable(cursor) if !cursor.base().covers_through(head.trimmed) => {
            Decoded::Unusable(Unusable::Retention)
        }
        decoded => decoded,
    })
}

/// Reads the state of the journal, and decodes the saved cursor of the task that enqueues deliveries. If the cursor
/// cannot be used, returns a cursor at the beginning of the journal. This is safe, because a delivery is never enqueued
/// twice.
pub(super) async fn usable_for_planning(
    client: &db::Transaction<'_>,
    text: &str,
) -> Result<(JournalState, Cursor), Error> {
    let head = read_head(client).await?;
    let cursor = match lineage::decode(client, text, head.epoch).await? {
        // Some events after this cursor may have been deleted, but they would be too old to be sent.
        Decoded::Usable(cursor) if cursor.end() <= head.snapshot.xmax => cursor,
        _ => Cursor::At(Position::beginning()),
    };
    Ok((head, cursor))
}

/// Returns an SQL condition that selects the rows of these stores, and the value of its parameter `$1`.
fn rows_of(stores: &StoreSet) -> (&'static str, Box<dyn ToSql + Send + Sync>) {
    let texts = |stores: &HashSet<StoreId>| -> Vec<String> {
        let texts = stores.iter().map(|store| store.as_str().to_owned());
        texts.collect()
    };
    match stores {
        StoreSet::One(store) => ("store_id = $1", Box::new(store.as_str().to_owned())),
        StoreSet::These(stores) => ("store_id = any ($1)", Box::new(texts(stores))),
        StoreSet::AllBut(stores) => ("store_id is not null and store_id <> all ($1)", Box::new(texts(stores))),
    }
}

async fn newest(
    client: &db::Transaction<'_>,
    stores: &StoreSet,
    limit: usize,
    head: &JournalState,
    end: &ReplayEnd,
) -> Result<Page, Error> {
    let (condition, parameter) = rows_of(stores);
    let sql = format!(
        "select * from (select {EVENT_COLUMNS} from vestnik.vst_event where {condition} order by xid desc, id desc limit $2) e \
         order by id"
    );
    let statement = client.prepare_cached(&sql).await?;
    let cursor = Cursor::At(end.position.clone()).encode(head.epoch);
    let rows = client.query(&statement, &[&*parameter, &(limit as i64)]).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        // All events have the cursor of the whole page, because a client cannot continue from the middle of the newest
        // events.
        events.extend(event(row, 0)?.map(|event| PageEvent {
            event,
            cursor: cursor.clone(),
            is_covered: true,
        }));
    }
    Ok(Page::Events {
        events,
        cursor,
        end: Some(end.clone()),
    })
}

/// Reads the events after the cursor, in the order that [`ReplayPlan`] defines.
async fn after(
    client: &db::Transaction<'_>,
    stores: &StoreSet,
    cursor: Cursor,
    limit: usize,
    head: &JournalState,
    end: ReplayEnd,
) -> Result<Page, Error> {
    let mut reached = cursor.encode(head.epoch);
    let replay_plan = ReplayPlan::from(cursor);
    let read = rows_after(client, stores, &replay_plan, limit).await?;
    let stops = event_group::stops(read.rows.iter().map(|row| row.event.as_ref()), read.is_all);
    let taken = event_group::take(&stops, read.wanted.min(limit));
    let is_last = read.is_all && taken == stops.len();
    let mut events = Vec::with_capacity(taken);
    for (place, row) in read.rows.into_iter().take(taken).enumerate() {
        let is_covered = stops[place] || place + 1 == taken;
        if is_covered {
            reached = replay_plan
                .cursor_after(row.xid, row.id, &end.position)
                .encode(head.epoch);
        }
        events.extend(row.event.map(|event| PageEvent {
            event,
            cursor: reached.clone(),
            is_covered,
        }));
    }
    if is_last {
        reached = Cursor::At(end.position.clone()).encode(head.epoch);
        // The last event of the last page has the cursor of the whole page.
        if let Some(last) = events.last_mut() {
            last.cursor.clone_from(&reached);
        }
    }
    Ok(Page::Events {
        events,
        cursor: reached,
        end: is_last.then_some(end),
    })
}

/// A row of the journal. `event` is `None` if the row becomes no event.
struct JournalRow {
    id: EventId,
    xid: Xid,
    event: Option<JournalEvent>,
}

/// The rows of a page, and some rows after it.
struct RowsAfter {
    rows: Vec<JournalRow>,
    /// The number of rows that have [`PAGE_BYTES`], or of all rows.
    wanted: usize,
    /// Whether the journal has no further row.
    is_all: bool,
}

/// Reads `limit` rows, and at most [`ROWS_AHEAD`] rows after them, in the order that [`ReplayPlan`] defines.
async fn rows_after(
    client: &db::Transaction<'_>,
    stores: &StoreSet,
    replay_plan: &ReplayPlan,
    limit: usize,
) -> Result<RowsAfter, Error> {
    let ReplayPlan {
        before,
        middle,
        through,
    } = replay_plan;
    let (condition, parameter) = rows_of(stores);
    let sql = format!(
        "select {EVENT_COLUMNS} from ( \
           select * from vestnik.vst_event where {condition} and xid >= $2 \
           union all \
           select * from vestnik.vst_event where {condition} and xid = any ($3)) e \
         where not (xid < $4 and xid <> all ($5) and id <= $6) \
         order by not (xid < $4 and xid <> all ($5)), id limit $7"
    );
    let statement = client.prepare_cached(&sql).await?;
    let most = limit + ROWS_AHEAD;
    let parameters: [&(dyn ToSql + Sync); 7] = [
        &*parameter,
        &SqlXid(before.end()),
        &xids(before.missing()),
        &SqlXid(middle.end()),
        &xids(middle.missing()),
        &through.0,
        &(most as i64 + 1),
    ];
    let mut rows = client.query_raw(&statement, &parameters).await?;
    let mut read = RowsAfter {
        rows: Vec::new(),
        wanted: 0,
        is_all: true,
    };
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        if read.rows.len() == most || bytes > 2 * PAGE_BYTES {
            read.is_all = false;
            break;
        }
        let event = event(&row, 0)?;
        read.wanted += usize::from(bytes <= PAGE_BYTES);
        bytes += event.as_ref().map_or(0, JournalEvent::payload_bytes);
        read.rows.push(JournalRow {
            id: EventId(row.try_get(0)?),
            xid: row.try_get::<_, SqlXid>(1)?.0,
            event,
        });
    }
    rows.leave();
    Ok(read)
}
