//! The entries that one batch of the projector processes: changes from the queue `vst_change`, orders that were held
//! back until now, and failures to retry. The batch takes them out of their tables.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::super::Source;
use super::publish::WrittenAt;
use super::queue_progress::{BATCH_CHANGES, QueueProgress};
use super::watch::{AGAIN, ALL_ORDERS, GONE, NO_KEY, TELL_ALL};
use super::written_rows::WrittenRows;
use super::{failure, hidden_rows, projection};
use crate::infra::db::{QueryError, Transaction};

/// Maximum number of orders that clients can see and that one batch computes again although nobody wrote them. It is
/// small, so that new changes do not wait while all open orders are computed again.
const KNOWN_DUE_ORDERS: i64 = 20;

/// The entries that one batch processes: changes from the queue, orders that were held back until now, and failures to
/// retry.
#[derive(Debug, Default)]
pub(super) struct BatchEntries {
    /// The time when each order of the batch was last written, by the order's key. For an order that was held back, it
    /// is the time of the first write.
    pub orders: WrittenAt,
    /// The keys of the orders that were held back until now. An order is held back until the shop writes its items, or
    /// because its store could not be computed.
    pub due: BTreeSet<String>,
    /// The orders whose rows in the shop's table were written or deleted. The trigger recorded these changes.
    pub rows: WrittenRows,
    /// Values from written rows of watched tables, which are other tables whose rows affect orders. The mapping's
    /// `keys` queries turn these values into keys of orders.
    pub leads: Vec<Lead>,
    /// The `keys` queries to run again, because they failed before. A `keys` query finds the orders that a row of a
    /// watched table affects. Each query is named by its place in the mapping, such as `derived.watch of items: keys`.
    pub retried_watches: Vec<String>,
    /// Whether the shop's table of orders was emptied.
    pub is_truncated: bool,
    /// Whether rows of a watched table were written that lead to no single order, so that any order may have changed.
    /// The table was emptied, or the column that tells the orders was missing.
    pub is_any_changed: bool,
    /// Whether rows of the shop's table of orders were written while its key column was missing.
    pub is_without_keys: bool,
    /// Whether all existing orders are to be computed.
    pub is_of_all_rows: bool,
    /// Set if each change of the existing orders is to be told, because the triggers did not record the shop's writes. It
    /// has the names of the values that tell one order from another, see `order_identity.rs`.
    pub told: Option<String>,
}

impl BatchEntries {
    /// Takes the next entries of a source out of their tables, with at most `retries` failures. Returns also the number
    /// of entries.
    pub async fn take(
        transaction: &mut Transaction<'_>,
        source: &Source,
        progress: &mut QueueProgress,
        retries: i64,
    ) -> Result<(Self, usize), QueryError> {
        const CHANGES: &str = "delete from vestnik.vst_change where source = $1 and id = any (array( \
                 select id from vestnik.vst_change where source = $1 and id > $2 order by id limit $3)) \
             returning id, watch, vestnik.vst_readable(key), at, xid::text";
        const SNAPSHOT: &str =
            "select pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text from pg_current_snapshot() s";
        // `$4` is for orders that clients can see already.
        let due = format!(
            "with due as (select w.key, w.until, exists (select from {} p where p.key = w.key) as is_known \
                 from vestnik.vst_wait w where w.source = $1 and w.until <= clock_timestamp()) \
             delete from vestnik.vst_wait where source = $1 and (key = $2 \
                 or key = any (array(select key from due where not is_known order by until limit $3)) \
                 or key = any (array(select key from due where is_known order by until limit $4))) \
             returning vestnik.vst_readable(key), since",
            projection(source.id)
        );
        let snapshot = transaction.query_one(SNAPSHOT, &[]).await?;
        let number = |at: usize| -> Result<u64, QueryError> {
            let text: &str = snapshot.try_get(at)?;
            text.parse()
                .map_err(|_| QueryError::Inconsistent("a snapshot is no number"))
        };
        let bounds = (number(0)?, number(1)?);
        let statement = transaction.prepare_cached(CHANGES).await?;
        let rows = transaction
            .query(&statement, &[&source.id.0, &progress.through(), &BATCH_CHANGES])
            .await?;
        let mut taken = Self::default();
        let mut newest = None;
        let mut in_order: Vec<&tokio_postgres::Row> = rows.iter().collect();
        // Sort the changes by id. The last change of an order then shows whether the order's row still exists.
        in_order.sort_by_key(|row| row.try_get::<_, i64>(0).unwrap_or_default());
        for row in in_order {
            newest = newest.max(Some(row.try_get::<_, i64>(0)?));
            let (xid, watch): (&str, i16) = (row.try_get(4)?, row.try_get(1)?);
            taken.add_change(watch, row.try_get(2)?, row.try_get(3)?, xid.parse().unwrap_or_default());
        }
        progress.pass(newest, bounds);
        let mut count = rows.len();
        let statement = transaction.prepare_cached(&due).await?;
        for row in transaction
            .query(&statement, &[&source.id.0, &NO_KEY, &BATCH_CHANGES, &KNOWN_DUE_ORDERS])
            .await?
        {
            count += 1;
            let key: String = row.try_get(0)?;
            if key == NO_KEY {
                taken.is_without_keys = true;
                continue;
            }
            taken.add(key.clone(), row.try_get(1)?);
            taken.due.insert(key);
        }
        if retries > 0 {
            let mut retried = failure::retry(transaction, source.id, retries).await?;
            retried
                .keys
                .extend(hidden_rows::readable_again(transaction, source, retries).await?);
            count += retried.keys.len() + retried.watches.len();
            let now = OffsetDateTime::now_utc();
            for key in retried.keys {
                if !taken.is_truncated {
                    taken.rows.retried.insert(key.clone());
                }
                taken.add(key, now);
            }
            taken.retried_watches = retried.watches;
        }
        Ok((taken, count))
    }

    fn add_change(&mut self, watch: i16, key: Option<String>, at: OffsetDateTime, xid: u64) {
        match (watch, key) {
            (ALL_ORDERS, _) => self.is_of_all_rows = true,
            (TELL_ALL, identity) => (self.is_of_all_rows, self.told) = (true, identity),
            (0, None) => {
                self.is_truncated = true;
                self.rows.truncate();
            }
            (_, None) => self.is_any_changed = true,
            (0 | GONE, Some(key)) if key == NO_KEY => self.is_without_keys = true,
            (0 | GONE, Some(key)) => {
                self.rows.change(&key, watch == GONE, xid);
                self.add(key, at);
            }
            (AGAIN, Some(key)) => self.add(key, at),
            (_, Some(value)) if value == NO_KEY => self.is_any_changed = true,
            (number, Some(value)) => self.leads.push(Lead {
                watch: usize::from(number.unsigned_abs()),
                value,
                at,
            }),
        }
    }

    /// Adds the order with this key, which was written at the time `at`.
    pub fn add(&mut self, key: String, at: OffsetDateTime) {
        let newest = self.orders.entry(key).or_insert(at);
        *newest = at.max(*newest);
    }
}

/// The value of one column in a written row of a watched table. The value tells which orders the row affects: it is an
/// order's key, or the mapping's `keys` query finds the orders for it.
#[derive(Debug)]
pub(super) struct Lead {
    /// The number of the written table in the mapping's list of watched tables, counted from 1.
    pub watch: usize,
    pub value: String,
    pub at: OffsetDateTime,
}
