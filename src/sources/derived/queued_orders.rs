//! The orders that the changes in the queue `vst_change` affect, and those that are held back. The projector knows them
//! while it computes all orders of a source again, because it must not publish these changes without an event.

use std::collections::{BTreeMap, HashSet};

use super::super::Source;
use super::project::PublishedResults;
use super::watch::{AGAIN, GONE, NO_KEY, OF_ALL_ORDERS};
use super::{Derived, affected_orders};
use crate::infra::db::Transaction;

/// The orders that later batches compute: those that the changes in the queue affect, and those that are held back.
#[derive(Debug, Default)]
pub(super) struct QueuedOrders {
    /// The keys of the orders whose own row was written, or that are to be computed again.
    written: HashSet<String>,
    /// The keys of the orders that are held back. Of these, the ones that clients can see are computed again later.
    held_back: HashSet<String>,
    /// The keys of the orders that written rows of watched tables affect.
    watched: HashSet<String>,
    /// The values from rows of watched tables that are already in `watched` as keys, each with its table's number.
    looked_up: HashSet<(usize, String)>,
    /// The numbers of the watched tables whose `keys` query has failed. It does not run again in this batch.
    failed: HashSet<usize>,
    /// Whether a change in the queue affects orders that cannot be found: a table was emptied, or a `keys` query fails.
    is_incomplete: bool,
}

impl QueuedOrders {
    /// Reads the changes that were added to the queue since the last call.
    pub async fn read(
        &mut self,
        transaction: &mut Transaction<'_>,
        source: &Source,
        derived: &Derived,
    ) -> Result<(), tokio_postgres::Error> {
        const QUEUED: &str = "select distinct watch, vestnik.vst_readable(key) from vestnik.vst_change \
             where source = $1 and watch <> all ($2)";
        const HELD_BACK: &str = "select vestnik.vst_readable(key) from vestnik.vst_wait where source = $1";
        for row in transaction.query(HELD_BACK, &[&source.id.0]).await? {
            let key: String = row.try_get(0)?;
            self.is_incomplete |= key == NO_KEY;
            self.held_back.insert(key);
        }
        let mut values = BTreeMap::<usize, Vec<String>>::new();
        for row in transaction
            .query(QUEUED, &[&source.id.0, &OF_ALL_ORDERS.as_slice()])
            .await?
        {
            let (watch, key): (i16, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
            let Some(key) = key.filter(|key| key != NO_KEY) else {
                // A table was emptied, or its rows were written while the column of the key was missing.
                self.is_incomplete = true;
                continue;
            };
            if matches!(watch, 0 | GONE | AGAIN) {
                self.written.insert(key);
                continue;
            }
            let number = usize::from(watch.unsigned_abs());
            if !self.looked_up.insert((number, key.clone())) {
                continue;
            }
            let table = number.checked_sub(1).and_then(|at| derived.watch.get(at));
            match table.is_some_and(|table| table.keys.is_some()) {
                true => values.entry(number).or_default().push(key),
                false => drop(self.watched.insert(key)),
            }
        }
        for (number, values) in values {
            if self.failed.contains(&number) {
                continue;
            }
            let affected = affected_orders::find(transaction, source, number, values).await?;
            if affected.error.is_some() {
                self.is_incomplete = true;
                self.failed.insert(number);
            }
            self.watched.extend(affected.keys);
        }
        Ok(())
    }

    /// Whether some of the orders in the queue cannot be found. Then [`Self::among`] returns every order that clients
    /// have received, and the caller must put these orders into the queue.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Of the orders with these keys, those that later batches publish with an event.
    pub fn among(&self, keys: &[String], published: &PublishedResults) -> HashSet<String> {
        let is_queued = |key: &&String| {
            let is_unsure = (self.is_incomplete || self.held_back.contains(*key)) && published.is_known(key);
            self.written.contains(*key) || self.watched.contains(*key) || is_unsure
        };
        keys.iter().filter(is_queued).cloned().collect()
    }
}
