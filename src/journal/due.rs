//! Reads, in batches, the events for which messages may have to be sent. A saved cursor says which events were read
//! before. Events of stores without a row in `vestnik.vst_store` are left out. This module also appends the events that
//! Vestnik itself writes, such as a store's pause.

use super::page::usable_for_planning;
use super::sql_types::{SqlXid, xids};
use super::{EVENT_COLUMNS, Error, event};
use crate::domain::cursor::{Cursor, Position};
use crate::domain::event::{EventId, EventType, JournalEvent, StoreId};
use crate::infra::db::{GenericClient, Pool, QueryError, Transaction};

/// A journal event for which a message may have to be sent.
#[derive(Debug)]
pub struct Due {
    /// The event, from the journal.
    pub event: JournalEvent,
    /// The age of the event when it was read, seconds.
    pub age_s: f64,
}

/// A batch of events for which messages may have to be sent.
#[derive(Debug)]
pub struct DueBatch {
    /// The events, in the order in which their messages are sent.
    pub events: Vec<Due>,
    /// The cursor for the next read, as text. It covers the events of this batch and of all earlier batches.
    pub cursor: String,
    /// Whether the journal may have more events after the batch.
    pub more: bool,
    /// Whether this read had to scan many transactions. Then the new cursor should be saved even if the batch is empty,
    /// so that the next read does not scan them again.
    pub fell_behind: bool,
}

/// Siblings are journal rows that one transaction wrote about one order; clients get them as one event. Siblings are
/// searched only among rows whose ids are at most this much lower than the id of the event's last row.
const SIBLING_IDS: i64 = 100;
/// If the saved cursor is more than this many transactions behind, a newer cursor should be saved, because each read
/// scans all transactions after the cursor.
const BEHIND_TRANSACTIONS: u64 = 256;

/// Reads at most `limit` events after `cursor`. If the cursor is invalid, for example because the database was
/// restored, the read starts at the beginning of the journal. This is safe, because a delivery is never enqueued twice.
/// Events that commit during the read are left to the next read.
pub async fn read_due(client: &Transaction<'_>, cursor: &str, limit: usize) -> Result<DueBatch, Error> {
    let due = format!(
        "select {EVENT_COLUMNS}, extract(epoch from clock_timestamp() - at)::float8 from ( \
           select * from vestnik.vst_event where xid >= $1 union all select * from vestnik.vst_event where xid = any ($2)) e \
         where not (e.xid < $3 and e.xid <> all ($4) and e.id <= $5) \
           and e.xid < $7 and e.xid <> all ($8) \
           and exists (select from vestnik.vst_store s where s.id = e.store_id) \
         order by not (e.xid < $3 and e.xid <> all ($4)), e.id limit $6"
    );
    let (head, usable) = usable_for_planning(client, cursor).await?;
    let seen = Position::after(&head.snapshot, head.newest);
    let (before, middle, through) = match usable {
        Cursor::At(position) => (position.clone(), position, EventId(i64::MAX)),
        Cursor::Within { before, seen, through } => (before, seen, through),
    };
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 8] = [
        &SqlXid(before.end()),
        &xids(before.missing()),
        &SqlXid(middle.end()),
        &xids(middle.missing()),
        &through.0,
        &(limit as i64 + 1),
        &SqlXid(seen.end()),
        &xids(seen.missing()),
    ];
    let statement = client.prepare_cached(&due).await?;
    let rows = client.query(&statement, &parameters).await?;
    let more = rows.len() > limit;
    let mut events = Vec::with_capacity(rows.len());
    let mut reached = Cursor::At(seen.clone());
    for row in rows.iter().take(limit) {
        let (id, xid) = (EventId(row.try_get(0)?), row.try_get::<_, SqlXid>(1)?.0);
        if more {
            let (before, seen) = if middle.covers(xid) {
                (&before, &middle)
            } else {
                (&middle, &seen)
            };
            reached = Cursor::Within {
                before: before.clone(),
                seen: seen.clone(),
                through: id,
            };
        }
        if let Some(event) = event(row, 0)? {
            events.push(Due {
                event,
                age_s: row.try_get(10)?,
            });
        }
    }
    let fell_behind = seen.end().0.saturating_sub(before.end().0) > BEHIND_TRANSACTIONS;
    Ok(DueBatch {
        events,
        fell_behind,
        cursor: reached.encode(head.epoch),
        more,
    })
}

/// Appends an event of Vestnik itself to the journal, and notifies the nodes. Returns the event's id.
pub async fn append(
    transaction: &Transaction<'_>,
    store: &StoreId,
    kind: EventType,
    data: &serde_json::Value,
) -> Result<EventId, tokio_postgres::Error> {
    const APPEND: &str = "with appended as (insert into vestnik.vst_event (store_id, type, data) values ($1, $2, $3) returning id) \
         select id, vestnik.vst_notify() from appended";
    let row = transaction
        .query_one(APPEND, &[&store.as_str(), &kind.as_str(), data])
        .await?;
    Ok(EventId(row.try_get(0)?))
}

/// Reads the journal rows that form one event of this store, sorted by id. Empty: the store has no event with this id.
pub async fn read_event(pool: &Pool, store: &StoreId, id: EventId) -> Result<Vec<JournalEvent>, QueryError> {
    let client = pool.get().await?;
    let mut rows = read_with_siblings(&*client, &[id]).await?;
    rows.retain(|row| row.store.as_ref() == Some(store));
    Ok(rows)
}

/// Reads the journal rows with these ids and their siblings, sorted by id. Siblings are earlier rows that the same
/// transaction wrote about the same order.
pub async fn read_with_siblings(
    client: &impl GenericClient,
    ids: &[EventId],
) -> Result<Vec<JournalEvent>, tokio_postgres::Error> {
    let sql = format!(
        "select {EVENT_COLUMNS} from vestnik.vst_event where id = any (array( \
             select s.id from vestnik.vst_event e join vestnik.vst_event s on s.id between e.id - $2 and e.id and s.xid = e.xid \
                 and (s.id = e.id or s.source = e.source and s.key = e.key and s.store_id is not distinct from e.store_id) \
             where e.id = any ($1))) order by id"
    );
    let statement = client.prepare_cached(&sql).await?;
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    let rows = client.query(&statement, &[&ids, &SIBLING_IDS]).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        events.extend(event(row, 0)?);
    }
    Ok(events)
}
