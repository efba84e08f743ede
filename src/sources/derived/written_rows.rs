//! The rows of the shop's table of orders that one batch of the projector processes: which were written, deleted, or
//! replaced by another row with the same key.

use std::collections::{BTreeMap, BTreeSet};

use super::watch::GONE;
use crate::domain::event::SourceId;
use crate::infra::db::Transaction;

/// The rows of the shop's table of orders that a batch processes. These are rows that were written or deleted, and rows
/// of orders whose computation failed before.
#[derive(Debug, Default)]
pub(super) struct WrittenRows {
    /// The writes of each row, by the row's key.
    rows: BTreeMap<String, Writes>,
    /// The keys of the orders that the batch computes again, because their computation failed before.
    pub retried: BTreeSet<String>,
}

/// The writes of one row.
#[derive(Debug, Default)]
struct Writes {
    /// Whether the last write deleted the row or gave it another key.
    is_gone: bool,
    /// The last transaction that deleted the row.
    deleted_by: Option<u64>,
    /// Whether one transaction deleted the row, and another one inserted it again.
    is_replaced: bool,
}

impl WrittenRows {
    /// Reads from the projector's queue the writes of the rows with these keys. The projector has not processed these
    /// writes yet.
    pub async fn queued(
        transaction: &Transaction<'_>,
        source: SourceId,
        keys: &[String],
    ) -> Result<Self, tokio_postgres::Error> {
        // A row without a key says that the table was emptied.
        const QUEUED: &str = "select k.key, c.key is null or c.watch = $3, c.xid::text \
             from vestnik.vst_change c join unnest($2::text[]) k (key) on c.key is null or vestnik.vst_readable(c.key) = k.key \
             where c.source = $1 and c.watch in (0, $3) order by c.id";
        let mut rows = Self::default();
        for row in transaction.query(QUEUED, &[&source.0, &keys, &GONE]).await? {
            let xid: &str = row.try_get(2)?;
            rows.change(row.try_get(0)?, row.try_get(1)?, xid.parse().unwrap_or_default());
        }
        Ok(rows)
    }

    /// Records a write of a row by the transaction `xid`. The caller must pass the writes of one row in the order in
    /// which they were made.
    pub fn change(&mut self, key: &str, is_gone: bool, xid: u64) {
        let row = self.rows.entry(key.to_owned()).or_default();
        row.is_gone = is_gone;
        if is_gone {
            row.deleted_by = Some(xid);
        } else if row.deleted_by.is_some_and(|deleted_by| deleted_by != xid) {
            row.is_replaced = true;
        }
    }

    /// Records that the table was emptied. The caller must pass this between the writes before and after it.
    pub fn truncate(&mut self) {
        for row in self.rows.values_mut() {
            row.is_gone = true;
        }
    }

    /// Whether the last write of the row deleted it or gave it another key. `None`: the row was not written.
    pub fn is_gone(&self, key: &str) -> Option<bool> {
        self.rows.get(key).map(|row| row.is_gone)
    }

    /// Whether the row that the table has with this key now replaces an older row with the same key. If the batch ends
    /// with a delete of the row, a transaction whose changes come in the next batch has inserted the row again.
    pub fn is_replaced(&self, key: &str) -> bool {
        self.rows.get(key).is_some_and(|row| row.is_replaced || row.is_gone)
    }
}
