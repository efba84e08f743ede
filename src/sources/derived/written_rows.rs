//! The rows of the shop's table of orders that one batch of the projector processes: which were written, deleted, or
//! replaced by another row with the same key.

use std::collections::{BTreeMap, BTreeSet};

/// The rows of the shop's table of orders that a batch processes. These are rows that were written or deleted, and rows
/// of orders whose computation failed before.
#[derive(Debug, Default)]
pub(super) struct WrittenRows {
    /// The keys of the orders whose row was written. The value is true if the last write deleted the row or gave the
    /// row another key.
    is_gone: BTreeMap<String, bool>,
    /// The transaction that deleted the row, by the row's key. It is the last one if there are several.
    deleted_by: BTreeMap<String, u64>,
    /// The keys of the orders whose row was deleted by one transaction and inserted again by another one.
    replaced: BTreeSet<String>,
    /// The keys of the orders that the batch computes again, because their computation failed before.
    pub retried: BTreeSet<String>,
}

impl WrittenRows {
    /// Records a write of a row by the transaction `xid`. The caller must pass the writes of one row in the order in which
    /// they were made.
    pub fn change(&mut self, key: &str, is_gone: bool, xid: u64) {
        if is_gone {
            self.deleted_by.insert(key.to_owned(), xid);
        } else if self.deleted_by.get(key).is_some_and(|deleted_by| *deleted_by != xid) {
            self.replaced.insert(key.to_owned());
        }
        self.is_gone.insert(key.to_owned(), is_gone);
    }

    /// Whether the last write of the row deleted it or gave it another key. `None`: the row was not written.
    pub fn is_gone(&self, key: &str) -> Option<bool> {
        self.is_gone.get(key).copied()
    }

    /// Whether the row that the table has with this key now replaces an older row with the same key. If the batch ends
    /// with a delete of the row, a transaction whose changes come in the next batch has inserted the row again.
    pub fn is_replaced(&self, key: &str) -> bool {
        self.replaced.contains(key) || self.is_gone(key) == Some(true)
    }
}
