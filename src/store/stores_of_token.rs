//! Reads the stores that a token may use, one page at a time.

use std::collections::HashSet;

use super::pause::Pause;
use crate::domain::event::StoreId;
use crate::infra::db::{self, Pool, QueryError};

/// SQL for the columns of a store, in the order in which [`read`] expects them. `k.id` is the store's id.
const COLUMNS: &str = "k.id, s.name, \
     case when exists (select from vestnik.vst_closed_now c where c.store_id = k.id) then false \
         when exists (select from vestnik.vst_opening_hours h where h.store_id = k.id) then true end, \
     p.since, p.until, p.paused_by, p.reason";
/// The index in `COLUMNS` of the first column about the store's pause.
const FIRST_OF_PAUSE: usize = 3;
/// SQL that joins the tables of the columns in `COLUMNS` to the table alias `k`.
const JOINS: &str =
    "left join vestnik.vst_store s on s.id = k.id left join vestnik.vst_paused_now p on p.store_id = k.id";

/// A store that the holder of a token may use.
#[derive(Debug)]
pub struct OpenedStore {
    /// The store's id.
    pub id: String,
    /// The store's display name. `None`: the store has no name.
    pub name: Option<String>,
    /// Whether the opening hours say that the store is open now. `None`: the store has no opening hours.
    pub is_open: Option<bool>,
    /// The current pause of the store. `None`: the store is not paused, and takes orders.
    pub pause: Option<Pause>,
}

/// Reads the stores with these ids, and returns them in the same order.
pub async fn of(pool: &Pool, stores: &[String]) -> Result<Vec<OpenedStore>, QueryError> {
    let sql =
        format!("select {COLUMNS} from unnest($1::text[]) with ordinality k (id, place) {JOINS} order by k.place");
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(&sql).await?;
        let rows = client.query(&statement, &[&stores]).await?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    })
    .await
}

/// Reads one page of the stores that the database knows, ordered by id: at most `limit` stores with an id greater than
/// `after`. The database knows a store that has an event or settings, or that is named by a token. Stores in `but` are
/// left out. The second result is the value of `after` for the next page. `None`: there is no next page.
pub async fn known_after(
    pool: &Pool,
    after: &str,
    limit: usize,
    but: &HashSet<StoreId>,
) -> Result<(Vec<OpenedStore>, Option<String>), QueryError> {
    // Find the next store id in the journal's index again and again, until the page is full. This is faster than
    // reading all events.
    let sql = format!(
        "with recursive of_events (id) as ( \
             (select store_id from vestnik.vst_event where store_id > $1 order by store_id limit 1) \
             union all \
             select (select e.store_id from vestnik.vst_event e where e.store_id > o.id order by e.store_id limit 1) \
             from of_events o where o.id is not null), \
         k (id) as ( \
             (select id from of_events where id is not null limit $2) \
             union (select id from vestnik.vst_store where id > $1 order by id limit $2) \
             union (select named from vestnik.vst_token, unnest(stores) named where revoked_at is null and named > $1)) \
         select {COLUMNS} from k {JOINS} order by k.id limit $2"
    );
    let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(&sql).await?;
        let rows = client.query(&statement, &[&after, &one_more]).await?;
        let mut stores: Vec<OpenedStore> = rows.iter().map(read).collect::<Result<_, _>>()?;
        let has_more = stores.len() > limit;
        stores.truncate(limit);
        let next = stores.last().filter(|_| has_more).map(|last| last.id.clone());
        let is_here = |id: &StoreId| !but.contains(id) && !id.is_canary();
        stores.retain(|store| is_here(&StoreId::new(&store.id)));
        Ok((stores, next))
    })
    .await
}

fn read(row: &tokio_postgres::Row) -> Result<OpenedStore, tokio_postgres::Error> {
    let until: Option<time::OffsetDateTime> = row.try_get(FIRST_OF_PAUSE + 1)?;
    let pause = until.map(|_| Pause::read_at(row, FIRST_OF_PAUSE)).transpose()?;
    Ok(OpenedStore {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        is_open: row.try_get(2)?,
        pause,
    })
}
