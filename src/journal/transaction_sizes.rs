//! Lists new transactions without their events, and finds the large ones. The feed waits for this query, so its cost is
//! limited. The query visits the index once for each transaction. It tests whether the transaction has more than
//! `LARGE_EVENTS` events, but does not count them.

use std::collections::HashSet;

use super::Error;
use super::reader::Reader;
use super::sql_types::{SqlXid, xids};
use crate::domain::cursor::{Position, Snapshot};
use crate::domain::event::{StoreId, Xid};

/// A transaction with more events than this is large. The number is half of the events of one read, so that one read
/// can contain two small transactions.
pub const LARGE_EVENTS: i64 = 512;
/// Maximum number of transactions in one [`TransactionSizes`] list.
pub const OUTLINE_TRANSACTIONS: usize = 1024;

/// The size of a transaction, compared with `LARGE_EVENTS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// The transaction has at most `LARGE_EVENTS` events.
    Small,
    /// The transaction has more than `LARGE_EVENTS` events.
    Large,
}

/// The new transactions of the journal, with their sizes but without their events.
#[derive(Debug)]
pub struct TransactionSizes {
    /// The snapshot of the query.
    pub snapshot: Snapshot,
    /// The transactions that the position does not cover, each with its size.
    pub transactions: Vec<(Xid, Size)>,
}

impl Reader {
    /// Lists the new transactions, which are those that `position` does not cover. `None`: there are more than
    /// `OUTLINE_TRANSACTIONS`.
    pub async fn transaction_sizes(&self, position: &Position) -> Result<Option<TransactionSizes>, Error> {
        let (end, missing) = (SqlXid(position.end()), xids(position.missing()));
        let limit = OUTLINE_TRANSACTIONS as i64 + 1;
        let rows = self
            .query(&self.sizes, &[&end, &missing, &limit, &LARGE_EVENTS])
            .await?;
        if rows.len() > OUTLINE_TRANSACTIONS + 1 {
            return Ok(None);
        }
        let mut snapshot = None;
        let mut transactions = Vec::with_capacity(rows.len());
        for row in &rows {
            match row.try_get::<_, Option<SqlXid>>(1)? {
                None => snapshot = Some(row.try_get(0)?),
                Some(xid) if row.try_get(2)? => transactions.push((xid.0, Size::Large)),
                Some(xid) => transactions.push((xid.0, Size::Small)),
            }
        }
        Ok(Some(TransactionSizes {
            snapshot: snapshot.ok_or(Error::NoSnapshot)?,
            transactions,
        }))
    }

    /// Returns the stores among `stores` for which one of the transactions `by` has written an event.
    pub async fn touched(&self, stores: &[&str], by: &[Xid]) -> Result<HashSet<StoreId>, Error> {
        if stores.is_empty() || by.is_empty() {
            return Ok(HashSet::new());
        }
        let rows = self.query(&self.touched, &[&stores, &xids(by)]).await?;
        let store = |row: &tokio_postgres::Row| Ok(StoreId::new(row.try_get(0)?));
        rows.iter().map(store).collect()
    }
}
