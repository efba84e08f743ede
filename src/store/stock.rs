//! The stop list of a store: the items that are out of stock. Vestnik itself refuses no order. The shop's application
//! must read the view `vestnik.vst_out_of_stock_now`, or receive the events `item_out_of_stock` and `item_in_stock`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::Row;

use super::until::{self, Until};
use crate::domain::event::{EventType, StoreId};
use crate::domain::wire_time::WireTime;
use crate::infra::db::{self, Pool, QueryError};
use crate::journal;

/// Maximum length of an item's name on a stop list, characters.
pub const MAX_ITEM_CHARACTERS: usize = 200;
/// The most items on the stop list of one store.
pub const MAX_ITEMS: i64 = 500;
/// SQL that deletes at most `$1` items whose time on the stop list is over.
const DUE: &str = "delete from vestnik.vst_out_of_stock where (store_id, item) in \
         (select store_id, item from vestnik.vst_out_of_stock where until <= clock_timestamp() \
          order by until limit $1 for update skip locked) returning store_id, item";

/// An item that a store cannot sell now: it is on the store's stop list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfStock {
    /// The name of the item, as it stands in orders.
    pub item: String,
    /// When the item was put on the list.
    pub since: OffsetDateTime,
    /// When the item is removed from the list automatically. `None`: it stays until somebody removes it.
    pub until: Option<OffsetDateTime>,
    /// The name of the person who put the item on the list. `None`: the name is not known.
    pub by: Option<String>,
}

/// The outcome of a request to put an item on the stop list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockOutcome {
    /// The item is on the list now.
    Listed,
    /// Nothing was changed, because the requested end is in the past, or further away than [`until::LONGEST`].
    NoSuchTime,
    /// Nothing was changed, because the list already has [`MAX_ITEMS`] items.
    Full,
}

impl OutOfStock {
    /// Returns the item as JSON for clients: `item` and `since`, and `until` and `by` if they are known.
    pub fn to_json(&self) -> Value {
        let mut json = json!({"item": self.item, "since": WireTime(self.since)});
        if let Some(until) = self.until {
            json["until"] = json!(WireTime(until));
        }
        if let Some(by) = &self.by {
            json["by"] = json!(by);
        }
        json
    }

    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            item: row.try_get(0)?,
            since: row.try_get(1)?,
            until: row.try_get(2)?,
            by: row.try_get(3)?,
        })
    }
}

/// Reads the stop list of a store (its items that are out of stock), ordered by name.
pub async fn list(pool: &Pool, store: &StoreId) -> Result<Vec<OutOfStock>, QueryError> {
    const LIST: &str =
        "select item, since, until, stopped_by from vestnik.vst_out_of_stock_now where store_id = $1 order by item";
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(LIST).await?;
        let rows = client.query(&statement, &[&store.as_str()]).await?;
        Ok(rows.iter().map(OutOfStock::read).collect::<Result<_, _>>()?)
    })
    .await
}

/// Puts an item on the store's stop list, or changes when it is removed from the list. Appends an event that tells the
/// store's panels. If `until` is `None`, the item stays on the list until somebody removes it. `by` is the name of the
/// person who requests this.
pub async fn stop(
    pool: &Pool,
    store: &StoreId,
    item: &str,
    until: Option<Until>,
    by: &str,
) -> Result<StockOutcome, QueryError> {
    const STOP: &str = "insert into vestnik.vst_out_of_stock as o (store_id, item, since, until, stopped_by) select $1, $2, now(), $3, $4 \
         where (select count(*) from vestnik.vst_out_of_stock where store_id = $1 and item <> $2) < $5 \
         on conflict (store_id, item) do update set until = excluded.until, stopped_by = excluded.stopped_by, \
             since = case when o.until <= clock_timestamp() then excluded.since else o.since end \
         returning item, since, until, stopped_by";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        let ends = match until {
            Some(until) => match until.resolve(&transaction, store).await? {
                None => return Ok(StockOutcome::NoSuchTime),
                ends => ends,
            },
            None => None,
        };
        let row = transaction
            .query_opt(STOP, &[&store.as_str(), &item, &ends, &by, &MAX_ITEMS])
            .await?;
        let Some(row) = row else { return Ok(StockOutcome::Full) };
        let stopped = OutOfStock::read(&row)?;
        journal::append(&transaction, store, EventType::ItemOutOfStock, &stopped.to_json()).await?;
        transaction.commit().await?;
        Ok(StockOutcome::Listed)
    })
    .await
}

/// Removes an item from the store's stop list, and appends an event that tells the store's panels. Returns whether the
/// item was on the list.
pub async fn put_back(pool: &Pool, store: &StoreId, item: &str, by: &str) -> Result<bool, QueryError> {
    const PUT_BACK: &str = "delete from vestnik.vst_out_of_stock where store_id = $1 and item = $2";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        if transaction.execute(PUT_BACK, &[&store.as_str(), &item]).await? == 0 {
            return Ok(false);
        }
        let data = json!({"item": item, "by": by});
        journal::append(&transaction, store, EventType::ItemInStock, &data).await?;
        transaction.commit().await?;
        Ok(true)
    })
    .await
}

/// Removes the items whose time on the stop list is over, at most a batch of them. Returns the number of removed items.
pub async fn end_due(pool: &Pool) -> Result<u64, QueryError> {
    fn data(row: &Row) -> Result<Value, tokio_postgres::Error> {
        Ok(json!({"item": row.try_get::<_, String>(1)?}))
    }
    until::end_due(pool, DUE, EventType::ItemInStock, data).await
}
