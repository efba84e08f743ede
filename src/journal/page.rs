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
use crate::domain::cursor::{Cursor, Epoch, Position, ReplayPlan, Snapshot, Unusable};
use crate::domain::event::{EventId, JournalEvent, StoreId, Xid};
use crate::domain::store_set::StoreSet;
use crate::infra::db::{self, Pool};

/// If a page has this many bytes of payload, it ends, even if it has fewer events than its limit.
pub const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Maximum number of rows beyond the limit of a page. They are read if the page would otherwise end between the rows of
/// one event.
const TOGETHER_ROWS: usize = 50;
/// Maximum number of rows that [`read_history`] reads.
const HISTORY_EVENTS: usize = 50_000;
/// Number of rows that [`read_history`] fetches in one request.
const HISTORY_FETCH_ROWS: i32 = 500;

/// Where a page begins.
pub enum Start<'a> {
    /// The page begins after the events that this cursor covers. The text is the cursor as the client sent it, and may
    /// be invalid.
    After(&'a str),
    /// The page consists of the newest events of the stores.
    Newest,
}

/// A journal event, with a cursor that covers this event and all events before it.
pub struct PageEvent {
    /// The event, as the journal has it.
    pub event: JournalEvent,
    /// The cursor with which a client continues after this event.
    pub cursor: String,
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
        /// The position of a client that has received all pages. `None`: this is not the last page.
        position: Option<Position>,
    },
    /// The client's cursor cannot be used. The client must reload its lists, and continue with the cursor `fresh`.
    Resync {
        /// The reason why the cursor cannot be used.
        reason: Unusable,
        /// A new cursor that covers all events that are visible now.
        fresh: String,
        /// The position of the cursor `fresh`.
        position: Position,
    },
}

/// The state of the journal at a read: the snapshot, the newest transaction with an event, the newest transaction whose
/// events were deleted because of their age, and the epoch.
pub(super) struct JournalState {
    pub(super) snapshot: Snapshot,
    pub(super) newest: Xid,
    trimmed: Xid,
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
    let seen = Position::after(&head.snapshot, head.newest);
    let page = match start {
        Start::Newest => newest(&transaction, stores, limit, &head, &seen).await?,
        Start::After(text) => match usable(&transaction, text, &head).await? {
            Decoded::Usable(cursor) => after(&transaction, stores, cursor, limit, &head, seen).await?,
            Decoded::Unusable(reason) => Page::Resync {
                reason,
                fresh: Cursor::At(seen.clone()).encode(head.epoch),
                position: seen,
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

async fn read_head(client: &db::Transaction<'_>) -> Result<JournalState, Error> {
    let statement = client
        .prepare_cached(&format!(
            "select pg_current_snapshot(), trimmed_through, \
                    greatest((select xid from vestnik.vst_event order by xid desc limit 1), trimmed_through), {EPOCH_COLUMNS} \
             from vestnik.vst_retention"
        ))
        .await?;
    let row = client.query_one(&statement, &[]).await?;
    Ok(JournalState {
        snapshot: row.try_get(0)?,
        trimmed: row.try_get::<_, SqlXid>(1)?.0,
        newest: row.try_get::<_, SqlXid>(2)?.0,
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

/// The newest events of all stores, up to a limited total size. They fill the event cache when a node starts.
pub struct History {
    /// The [`Epoch`] of the database. Transaction ids can be compared only within one epoch.
    pub epoch: Epoch,
    /// The position before the events. `events` contains each event that this position does not cover, if it had
    /// committed when the events were read.
    pub base: Position,
    /// The events, sorted by id.
    pub events: Vec<JournalEvent>,
}

/// Reads the newest events of all stores until their size reaches `bytes`.
pub async fn read_history(pool: &Pool, bytes: usize) -> Result<History, Error> {
    timeout(READ_DEADLINE, history(pool, bytes))
        .await
        .map_err(|_| Error::TimedOut)?
}

async fn history(pool: &Pool, max_bytes: usize) -> Result<History, Error> {
    let mut client = pool.get().await?;
    let transaction = db::snapshot(&mut client).await?;
    let head = read_head(&transaction).await?;
    let sql = format!("select {EVENT_COLUMNS} from vestnik.vst_event where xid > $1 order by xid desc limit $2");
    let limit = HISTORY_EVENTS as i64 + 1;
    let portal = transaction.portal(&sql, &[&SqlXid(head.trimmed), &limit]).await?;
    let (mut events, mut bytes, mut taken, mut cut) = (Vec::new(), 0, 0, head.trimmed);
    // Fetch the rows in parts, so that Postgres does not send rows beyond the limit.
    'all: loop {
        let rows = transaction.fetch(&portal, HISTORY_FETCH_ROWS).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let xid = row.try_get::<_, SqlXid>(1)?.0;
            if bytes > max_bytes || taken == HISTORY_EVENTS {
                // Leave out all events of this transaction, because only a part of them may have been read.
                cut = xid;
                break 'all;
            }
            taken += 1;
            if let Some(event) = event(row, 0)? {
                bytes += event.weight();
                events.push(event);
            }
        }
    }
    events.retain(|event| event.xid > cut);
    events.sort_unstable_by_key(|event| event.id);
    // A transaction that is still running may have events with lower ids. The position does not cover it, so its events
    // count as new when it commits.
    let base = Position::after(&head.snapshot, cut);
    Ok(History {
        epoch: head.epoch,
        base,
        events,
    })
}

/// Searches the newest `scanned` journal rows of the store for orders with these keys. Returns the found rows, sorted
/// by id.
pub async fn newest_of(
    client: &crate::infra::db::Transaction<'_>,
    store: &StoreId,
    keys: &[&str],
    scanned: i64,
) -> Result<Vec<JournalEvent>, tokio_postgres::Error> {
    let sql = format!(
        "select {EVENT_COLUMNS} from (select * from vestnik.vst_event where store_id = $1 order by xid desc, id desc limit $3) e \
         where key = any ($2) order by id"
    );
    let statement = client.prepare_cached(&sql).await?;
    let rows = client.query(&statement, &[&store.as_str(), &keys, &scanned]).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        events.extend(event(row, 0)?);
    }
    Ok(events)
}

/// Returns the text in the form that it has inside a recorded row: encoded as JSON, without the quotes around it. SQL
/// can search for it with `strpos(data::text, ...)`.
pub fn as_recorded(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Reads the events that match an SQL condition. `condition` is the text after `where`, and may end with an `order by`.
pub async fn read_where(
    client: &impl crate::infra::db::GenericClient,
    condition: &str,
    parameters: &[(&(dyn ToSql + Sync), tokio_postgres::types::Type)],
) -> Result<Vec<JournalEvent>, tokio_postgres::Error> {
    let sql = format!("select {EVENT_COLUMNS} from vestnik.vst_event where {condition}");
    let rows = client.query_typed(&sql, parameters).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        events.extend(event(row, 0)?);
    }
    Ok(events)
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
    seen: &Position,
) -> Result<Page, Error> {
    let (condition, parameter) = rows_of(stores);
    let sql = format!(
        "select * from (select {EVENT_COLUMNS} from vestnik.vst_event where {condition} order by xid desc, id desc limit $2) e \
         order by id"
    );
    let statement = client.prepare_cached(&sql).await?;
    let cursor = Cursor::At(seen.clone()).encode(head.epoch);
    let rows = client.query(&statement, &[&*parameter, &(limit as i64)]).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        // All events have the cursor of the whole page, because a client cannot continue from the middle of the newest
        // events.
        events.extend(event(row, 0)?.map(|event| PageEvent {
            event,
            cursor: cursor.clone(),
        }));
    }
    Ok(Page::Events {
        events,
        cursor,
        position: Some(seen.clone()),
    })
}

/// Reads the events after the cursor, in the order that [`ReplayPlan`] defines.
async fn after(
    client: &db::Transaction<'_>,
    stores: &StoreSet,
    cursor: Cursor,
    limit: usize,
    head: &JournalState,
    seen: Position,
) -> Result<Page, Error> {
    let replay_plan = ReplayPlan::from(cursor);
    let ReplayPlan {
        before,
        middle,
        through,
    } = &replay_plan;
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
    let parameters: [&(dyn ToSql + Sync); 7] = [
        &*parameter,
        &SqlXid(before.end()),
        &xids(before.missing()),
        &SqlXid(middle.end()),
        &xids(middle.missing()),
        &through.0,
        &((limit + TOGETHER_ROWS) as i64 + 1),
    ];
    let mut rows = client.query_raw(&statement, &parameters).await?;
    let mut events: Vec<PageEvent> = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    let mut more = false;
    let mut taken = 0;
    while let Some(row) = rows.try_next().await? {
        let event = event(&row, 0)?;
        // Do not end a page between the rows of one event, unless the event has too many rows.
        let belongs = |last: &PageEvent| event.as_ref().is_some_and(|event| last.event.belongs_with(event));
        let together = taken < limit + TOGETHER_ROWS && events.last().is_some_and(belongs);
        if (taken >= limit || bytes > PAGE_BYTES) && !together {
            more = true;
            break;
        }
        taken += 1;
        let (id, xid) = (EventId(row.try_get(0)?), row.try_get::<_, SqlXid>(1)?.0);
        let cursor = replay_plan.cursor_after(xid, id, &seen).encode(head.epoch);
        if let Some(event) = event {
            bytes += event.payload_bytes();
            events.push(PageEvent {
                event,
                cursor: cursor.clone(),
            });
        }
        last = Some(cursor);
    }
    rows.leave();
    match last.filter(|_| more) {
        Some(cursor) => Ok(Page::Events {
            events,
            cursor,
            position: None,
        }),
        None => {
            let cursor = Cursor::At(seen.clone()).encode(head.epoch);
            // This is the last page, so its last event has the cursor of the whole page.
            if let Some(last) = events.last_mut() {
                last.cursor.clone_from(&cursor);
            }
            Ok(Page::Events {
                events,
                cursor,
                position: Some(seen),
            })
        }
    }
}
