//! What a client reads that has been away: the events of its store that its cursor does not cover, a page at a time,
//! so that a slow client holds no connection and no more memory than a page. The replay of a session and the history
//! over HTTP read the same pages.

use futures::TryStreamExt as _;
use tokio::time::timeout;

use super::reader::READ_DEADLINE;
use super::sql_types::{SqlXid, xids};
use super::{EPOCH_COLUMNS, EVENT_COLUMNS, Error, epoch, event};
use crate::domain::cursor::{Cursor, Epoch, Onward, Position, Snapshot, Unusable};
use crate::domain::event::{EventId, JournalEvent, StoreId, Xid};
use crate::infra::db::{self, Pool};

/// Bytes of payload after which a page ends, whatever its limit.
pub const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Rows that a page has beyond its limit at most, so that it does not end between rows that become one event.
const TOGETHER_ROWS: usize = 50;
/// Events of the past that are read at once, at most.
const PAST_EVENTS: usize = 50_000;
/// Rows of them in one answer.
const PAST_FETCH_ROWS: i32 = 500;

/// Where a page begins.
pub enum Start<'a> {
    /// Behind what this cursor of a client covers.
    After(&'a str),
    /// So that it ends with the newest event.
    Newest,
}

/// An event and the cursor that covers it and all before it.
pub struct PageEvent {
    /// The event.
    pub event: JournalEvent,
    /// For a client that stops here.
    pub cursor: String,
}

/// What a read of a page brought.
pub enum Page {
    /// Events, oldest change first.
    Events {
        /// At most as many as were asked for.
        events: Vec<PageEvent>,
        /// Covers all of them.
        cursor: String,
        /// All that the store has had, where this was the last page.
        position: Option<Position>,
    },
    /// The cursor cannot be honoured: lists must be loaded anew, and `fresh` goes on from now.
    Resync {
        /// Why.
        reason: Unusable,
        /// A cursor that covers all that has happened.
        fresh: String,
        /// The same as a position.
        position: Position,
    },
}

/// What every page begins with: the snapshot, what is behind it, and whose it is.
pub(super) struct Head {
    pub(super) snapshot: Snapshot,
    pub(super) newest: Xid,
    trimmed: Xid,
    pub(super) epoch: Epoch,
}

/// Reads at most `limit` events of a store.
pub async fn read_page(pool: &Pool, store: &StoreId, start: Start<'_>, limit: usize) -> Result<Page, Error> {
    timeout(READ_DEADLINE, read(pool, store, start, limit))
        .await
        .map_err(|_| Error::TimedOut)?
}

async fn read(pool: &Pool, store: &StoreId, start: Start<'_>, limit: usize) -> Result<Page, Error> {
    let mut client = pool.get().await?;
    let transaction = db::snapshot(&mut client).await?;
    let head = read_head(&transaction).await?;
    let seen = Position::after(&head.snapshot, head.newest);
    let page = match start {
        Start::Newest => newest(&transaction, store, limit, &head, &seen).await?,
        Start::After(text) => match usable(text, &head) {
            Ok(cursor) => after(&transaction, store, cursor, limit, &head, seen).await?,
            Err(reason) => Page::Resync {
                reason,
                fresh: Cursor::At(seen.clone()).encode(head.epoch),
                position: seen,
            },
        },
    };
    transaction.commit().await?;
    Ok(page)
}

/// The cursor that covers exactly what this transaction sees: for a list that is read in the same snapshot.
pub async fn cursor_here(client: &db::Transaction<'_>) -> Result<String, Error> {
    let head = read_head(client).await?;
    Ok(Cursor::At(Position::after(&head.snapshot, head.newest)).encode(head.epoch))
}

async fn read_head(client: &db::Transaction<'_>) -> Result<Head, Error> {
    let statement = client
        .prepare_cached(&format!(
            "select pg_current_snapshot(), trimmed_through, \
                    greatest((select xid from vestnik.vst_event order by xid desc limit 1), trimmed_through), {EPOCH_COLUMNS} \
             from vestnik.vst_retention"
        ))
        .await?;
    let row = client.query_one(&statement, &[]).await?;
    Ok(Head {
        snapshot: row.try_get(0)?,
        trimmed: row.try_get::<_, SqlXid>(1)?.0,
        newest: row.try_get::<_, SqlXid>(2)?.0,
        epoch: epoch(&row)?,
    })
}

/// The cursor, if what it does not cover can still be told exactly.
fn usable(text: &str, head: &Head) -> Result<Cursor, Unusable> {
    let cursor = Cursor::decode(text, head.epoch)?;
    if cursor.end() > head.snapshot.xmax {
        return Err(Unusable::Future);
    }
    if !cursor.base().covers_through(head.trimmed) {
        return Err(Unusable::Retention);
    }
    Ok(cursor)
}

/// The head, and the cursor of one who owes nothing to a client: where it is of no use, the beginning.
pub(super) async fn usable_for_planning(client: &db::Transaction<'_>, text: &str) -> Result<(Head, Cursor), Error> {
    let head = read_head(client).await?;
    let cursor = match Cursor::decode(text, head.epoch) {
        // What was trimmed was too old to be told.
        Ok(cursor) if cursor.end() <= head.snapshot.xmax => cursor,
        _ => Cursor::At(Position::beginning()),
    };
    Ok((head, cursor))
}

/// The newest events of all stores, as many as fit into so many bytes, in the order of their ids.
pub struct Past {
    /// Whose transaction numbers these are.
    pub epoch: Epoch,
    /// All that had happened and is not behind this is among the events.
    pub base: Position,
    /// By id.
    pub events: Vec<JournalEvent>,
}

/// Reads the past from its end.
pub async fn read_past(pool: &Pool, bytes: usize) -> Result<Past, Error> {
    timeout(READ_DEADLINE, past(pool, bytes))
        .await
        .map_err(|_| Error::TimedOut)?
}

async fn past(pool: &Pool, most_bytes: usize) -> Result<Past, Error> {
    let mut client = pool.get().await?;
    let transaction = db::snapshot(&mut client).await?;
    let head = read_head(&transaction).await?;
    let sql = format!("select {EVENT_COLUMNS} from vestnik.vst_event where xid > $1 order by xid desc limit $2");
    let limit = PAST_EVENTS as i64 + 1;
    let portal = transaction.portal(&sql, &[&SqlXid(head.trimmed), &limit]).await?;
    let (mut events, mut bytes, mut taken, mut cut) = (Vec::new(), 0, 0, head.trimmed);
    // Fetched by and by: what does not fit is not sent.
    'all: loop {
        let rows = transaction.fetch(&portal, PAST_FETCH_ROWS).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let xid = row.try_get::<_, SqlXid>(1)?.0;
            if bytes > most_bytes || taken == PAST_EVENTS {
                // Perhaps not all of this transaction.
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
    // A transaction that was running may still bring events of a number below: they come when it commits.
    let base = Position::after(&head.snapshot, cut);
    Ok(Past {
        epoch: head.epoch,
        base,
        events,
    })
}

/// The events of these keys among the newest `scanned` of a store, in the order of their numbers.
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

/// Rows of the journal that a condition holds for, in the order that it asks for.
pub async fn read_where(
    client: &impl crate::infra::db::GenericClient,
    condition: &str,
    parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type)],
) -> Result<Vec<JournalEvent>, tokio_postgres::Error> {
    let sql = format!("select {EVENT_COLUMNS} from vestnik.vst_event where {condition}");
    let rows = client.query_typed(&sql, parameters).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        events.extend(event(row, 0)?);
    }
    Ok(events)
}

async fn newest(
    client: &db::Transaction<'_>,
    store: &StoreId,
    limit: usize,
    head: &Head,
    seen: &Position,
) -> Result<Page, Error> {
    let sql = format!(
        "select * from (select {EVENT_COLUMNS} from vestnik.vst_event where store_id = $1 order by xid desc, id desc limit $2) e \
         order by id"
    );
    let statement = client.prepare_cached(&sql).await?;
    let cursor = Cursor::At(seen.clone()).encode(head.epoch);
    let rows = client.query(&statement, &[&store.as_str(), &(limit as i64)]).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        // These are the past of the cursor, each of them: there is no going on from the middle.
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

/// What the cursor's owner is owed, in the order of [`Onward`].
async fn after(
    client: &db::Transaction<'_>,
    store: &StoreId,
    cursor: Cursor,
    limit: usize,
    head: &Head,
    seen: Position,
) -> Result<Page, Error> {
    let onward = Onward::from(cursor);
    let Onward {
        before,
        middle,
        through,
    } = &onward;
    let sql = format!(
        "select {EVENT_COLUMNS} from ( \
           select * from vestnik.vst_event where store_id = $1 and xid >= $2 \
           union all \
           select * from vestnik.vst_event where store_id = $1 and xid = any ($3)) e \
         where not (xid < $4 and xid <> all ($5) and id <= $6) \
         order by not (xid < $4 and xid <> all ($5)), id limit $7"
    );
    let statement = client.prepare_cached(&sql).await?;
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] = [
        &store.as_str(),
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
        // A page does not end between rows that become one event, but it ends.
        let belongs = |last: &PageEvent| event.as_ref().is_some_and(|event| last.event.belongs_with(event));
        let together = taken < limit + TOGETHER_ROWS && events.last().is_some_and(belongs);
        if (taken >= limit || bytes > PAGE_BYTES) && !together {
            more = true;
            break;
        }
        taken += 1;
        let (id, xid) = (EventId(row.try_get(0)?), row.try_get::<_, SqlXid>(1)?.0);
        let cursor = onward.behind(xid, id, &seen).encode(head.epoch);
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
            // Nothing is owed any more, so the last event may carry the whole.
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
