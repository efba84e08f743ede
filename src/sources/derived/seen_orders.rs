//! Reads in the journal which orders clients have seen. After a change of the mapping or of a policy, an order may be
//! computed that is not in the projection table, because the earlier mapping or policy hid it.

use std::collections::HashMap;

use super::super::Source;
use crate::infra::db::{QueryError, Transaction};

/// Number of newest journal rows of the source in which the orders are found.
pub(super) const SEARCHED_EVENTS: i64 = 100_000;
/// Number of newest journal rows of all sources that are looked at. The journal has no index by source.
const LOOKED_AT: i64 = 1_000_000;

/// What clients last heard of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing: no event of the order is in the journal.
    Nothing,
    /// Clients have received the order.
    Seen,
    /// Clients heard that the order was removed.
    Removed,
}

/// The newest event of each order in the journal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SeenOrders {
    /// Whether the newest event says that the order was removed, by the order's key and store.
    is_removed: HashMap<(String, String), bool>,
}

impl SeenOrders {
    /// Reads the newest [`SEARCHED_EVENTS`] events of the source that are among the newest [`LOOKED_AT`] of the journal.
    /// Clients have not seen what was there before the shop's table was last emptied.
    pub async fn read(transaction: &Transaction<'_>, source: &Source) -> Result<Self, QueryError> {
        const NEWEST: &str = "with newest as (select id, key, store_id, type from vestnik.vst_event \
                 where source = $1 and id > (select coalesce(max(id), 0) - $3 from vestnik.vst_event) order by id desc limit $2) \
             select distinct on (key, store_id) vestnik.vst_readable(key), vestnik.vst_readable(store_id), type = 'delete' \
             from newest where key is not null and store_id is not null \
                 and id > (select coalesce(max(id), 0) from newest where type = 'truncate') \
             order by key, store_id, id desc";
        let mut seen = Self::default();
        for row in transaction
            .query(NEWEST, &[&source.id.0, &SEARCHED_EVENTS, &LOOKED_AT])
            .await?
        {
            seen.is_removed
                .insert((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
        }
        Ok(seen)
    }

    /// What clients last heard of the order with this key in this store.
    pub fn heard(&self, key: &str, store: &str) -> Heard {
        match self.is_removed.get(&(key.to_owned(), store.to_owned())) {
            None => Heard::Nothing,
            Some(false) => Heard::Seen,
            Some(true) => Heard::Removed,
        }
    }
}
