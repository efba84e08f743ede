//! The progress of a derived source in the queue of changes, `vst_change`.

/// Maximum number of changes in one batch.
pub(super) const BATCH_CHANGES: i64 = 200;

/// The progress of one source in the queue `vst_change`. It says up to which row id all changes of the source have been
/// processed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct QueueProgress {
    /// All changes up to this id are processed. The next batch reads only greater ids, so it skips the dead rows of
    /// processed changes, which vacuum may not have removed yet.
    through: i64,
    /// The value that `through` gets next, and a transaction id. `through` changes when all transactions with a smaller
    /// transaction id have ended. From then on, no transaction can add a change whose row id is at most the new value.
    /// `None`: no next value is chosen yet.
    next: Option<(i64, u64)>,
}

impl QueueProgress {
    /// The row id in the queue up to which all changes have been processed. The next batch reads only greater row ids.
    pub fn through(self) -> i64 {
        self.through
    }

    /// Updates the progress after a batch. `newest` is the id of the batch's last change; `None`: the batch had no
    /// change. `xmin` and `xmax` are the lowest running and the next transaction id in the batch's snapshot.
    pub fn pass(&mut self, newest: Option<i64>, (xmin, xmax): (u64, u64)) {
        if let Some((through, end)) = self.next
            && xmin >= end
        {
            (self.through, self.next) = (self.through.max(through), None);
        }
        // A change gets its row id shortly before its transaction gets a transaction id. So a change with a slightly
        // smaller row id may have a later transaction id. To be safe, the next value stays two batches behind `newest`.
        if let (None, Some(newest)) = (self.next, newest) {
            self.next = Some((newest - 2 * BATCH_CHANGES, xmax));
        }
    }
}
