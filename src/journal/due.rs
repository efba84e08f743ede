//! What the planning of durable sends reads: the events that its cursor does not cover, of the stores that are set up,
//! a batch at a time. And how the engine itself appends an event.

use super::page::usable_for_planning;
use super::sql_types::{SqlXid, xids};
use super::{Error, EventType, SUBJECT, SUBJECT_CHARACTERS};
use crate::cursor::{Cursor, Position};
use crate::db::Transaction;
use crate::event::{EventId, StoreId};

/// An event that somebody may have to be told of.
#[derive(Debug)]
pub struct Due {
    /// Its number.
    pub id: EventId,
    /// Its store, as text.
    pub store: String,
    /// What happened.
    pub kind: EventType,
    /// The id of its order or booking, as text.
    pub key: String,
    /// Seconds since it happened.
    pub age_s: f64,
}

/// A batch of them.
#[derive(Debug)]
pub struct DueBatch {
    /// In the order in which they are told.
    pub events: Vec<Due>,
    /// Covers them.
    pub cursor: String,
    /// Whether there may be more.
    pub more: bool,
    /// Whether the cursor that was given is so old that it is worth storing the new one, though nothing was found.
    pub fell_behind: bool,
}

/// Transactions that a stored cursor may lie behind: each is looked at again at every read.
const BEHIND_TRANSACTIONS: u64 = 256;

/// Reads at most `limit` events behind `cursor`. A cursor of another life of the database, or none, begins at the
/// beginning: what has been planned already is not planned again. What commits between its two statements is for the
/// next read: the cursor would not cover it, and what has been told to a chat would be planned again for one that was
/// off then.
pub async fn read_due(client: &Transaction<'_>, cursor: &str, limit: usize) -> Result<DueBatch, Error> {
    let due = format!(
        "select e.id, e.xid, e.store_id, e.type, coalesce({SUBJECT}, ''), \
             extract(epoch from clock_timestamp() - e.at)::float8 from ( \
           select * from vestnik.event where xid >= $1 union all select * from vestnik.event where xid = any ($2)) e \
         where not (e.xid < $3 and e.xid <> all ($4) and e.id <= $5) \
           and e.xid < $7 and e.xid <> all ($8) \
           and exists (select from vestnik.store where store.id = e.store_id) \
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
        if let Some(kind) = EventType::from_name(row.try_get(3)?) {
            events.push(Due {
                id,
                store: row.try_get(2)?,
                kind,
                key: row.try_get(4)?,
                age_s: row.try_get(5)?,
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

/// Appends an event of the engine's own, and rings for it.
pub async fn append(
    transaction: &Transaction<'_>,
    store: &StoreId,
    kind: EventType,
    data: &serde_json::Value,
) -> Result<EventId, tokio_postgres::Error> {
    let append = format!(
        "with appended as (insert into vestnik.event (store_id, subject, type, data) \
             select $1, left({SUBJECT}, {SUBJECT_CHARACTERS}), $2, e.data from (select $3::jsonb as data) e \
             returning id, xid, store_id, type) \
         select id, vestnik.ring(id, xid, store_id, type) from appended"
    );
    let row = transaction
        .query_one(&append, &[&store.as_str(), &kind.as_str(), data])
        .await?;
    Ok(EventId(row.try_get(0)?))
}
