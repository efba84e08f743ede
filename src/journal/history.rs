//! Reads the newest events of all stores, which fill the event cache when a node starts.

use tokio::time::timeout;

use super::page::read_head;
use super::reader::READ_DEADLINE;
use super::sql_types::SqlXid;
use super::{EVENT_COLUMNS, Error, event};
use crate::domain::cursor::{Epoch, Position};
use crate::domain::event::JournalEvent;
use crate::infra::db::{self, Pool};

/// Maximum number of rows that [`read_history`] reads.
const HISTORY_EVENTS: usize = 50_000;
/// Number of rows that [`read_history`] fetches in one request.
const HISTORY_FETCH_ROWS: i32 = 500;

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
