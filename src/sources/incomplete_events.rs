//! Finds rows whose events were recorded without a store or without a key, because the column had another name
//! meanwhile. Such events reach nobody, or cannot be answered. Once the column has its name again, for example after a
//! reverted migration, this module records the rows again, so that they ring late. `vestnik serve` does so with each
//! run of the reconciler; the health report counts the rows until then.

use std::collections::HashMap;

use tokio_postgres::types::ToSql;

use super::attach::Kept;
use super::catalog::{self, Table};
use super::keyless_orders;
use super::mapping::{Mapping, StoreRef};
use super::repair::{is_younger, store_sql};
use super::sql::ident;
use crate::domain::event::SourceId;
use crate::infra::db::{self, GenericClient, Pool, QueryError};

/// Number of newest events that are searched for events without a store or a key. Older ones are not found.
const SEARCHED_EVENTS: i64 = 10_000;
/// Maximum number of rows of one source that one run records. The next run records the others.
const RECORDED_ROWS: i64 = 1000;

/// Maximum wait for the lock on a shop's table, milliseconds. After this time, the next run tries again.
const LOCK_MS: u32 = 500;

/// The incomplete events of one source, among the newest events.
#[derive(Debug, Default)]
struct OfSource {
    /// The keys of rows whose latest event without a store is no deletion, with the id of this event.
    keys: Vec<String>,
    ids: Vec<i64>,
    /// The number of inserted rows without a key, and the id of the first of these events. `None`: there are none.
    keyless: Option<(i64, i64)>,
}

/// The incomplete events of all sources, by the source's id.
#[derive(Debug, Default)]
pub(super) struct Incomplete(HashMap<i32, OfSource>);

/// Rows that were recorded late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedLate {
    /// The source's table, quoted and with its schema, as in `public."order"`.
    pub table: String,
    /// The number of rows that have an event now.
    pub rows: u64,
}

/// A statement that selects rows without a complete event, and its parameters.
struct Rows {
    sql: String,
    parameters: Vec<Box<dyn ToSql + Sync + Send>>,
    /// Whether clients received the rows without their keys.
    had_no_key: bool,
}

impl Rows {
    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let parameters = self.parameters.iter();
        parameters.map(|it| &**it as &(dyn ToSql + Sync)).collect()
    }
}

/// Searches the newest events for those without a store or a key. The search is cheap if there are none: an index finds
/// events without a store.
pub(super) async fn search(client: &impl GenericClient) -> Result<Incomplete, tokio_postgres::Error> {
    // The order of the inner query is the index's own, backwards. A row that gets a store later has a deletion without a
    // store, and is left out.
    const WITHOUT_STORE: &str = "select source, key, id from ( \
             select distinct on (source, key) source, key, id, type from ( \
                 select source, key, id, type from vestnik.vst_event where store_id is null \
                 order by store_id desc, xid desc limit $1) newest \
             where key is not null and source <> 0 order by source, key, id desc) latest \
         where type in ('insert', 'update') order by id desc";
    const WITHOUT_KEY: &str = "select source, count(*), min(id) from ( \
             select source, key, id, type from vestnik.vst_event order by id desc limit $1) newest \
         where key is null and type = 'insert' and source <> 0 group by source";
    let mut found = Incomplete::default();
    for row in client.query(WITHOUT_STORE, &[&SEARCHED_EVENTS]).await? {
        let of_source = found.0.entry(row.try_get(0)?).or_default();
        of_source.keys.push(row.try_get(1)?);
        of_source.ids.push(row.try_get(2)?);
    }
    for row in client.query(WITHOUT_KEY, &[&SEARCHED_EVENTS]).await? {
        let of_source = found.0.entry(row.try_get(0)?).or_default();
        of_source.keyless = Some((row.try_get(1)?, row.try_get(2)?));
    }
    Ok(found)
}

impl Incomplete {
    /// Counts the rows of a source that have a key and a store now, and of which nobody was told.
    pub(super) async fn count(
        &self,
        client: &impl GenericClient,
        id: SourceId,
        table: &Table,
        mapping: &Mapping,
    ) -> Result<i64, tokio_postgres::Error> {
        let mut count = 0;
        for rows in self.rows(client, id, table, mapping).await? {
            let sql = format!("select count(*) from ({}) r where not r.is_told", rows.sql);
            match client.query_one(&sql, &rows.parameters()).await {
                Ok(row) => count += row.try_get::<_, i64>(0)?,
                // A key that does not fit the column's present type belongs to no row.
                Err(error) if error.as_db_error().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// The keys of at most `limit` rows of a source whose latest event has no store, the newest first.
    pub(super) fn keys_without_store(&self, id: SourceId, limit: usize) -> &[String] {
        let keys = self.0.get(&id.0).map_or(&[][..], |of_source| &of_source.keys);
        &keys[..keys.len().min(limit)]
    }

    /// The statements that select the rows of a source. Empty, without a query, if the source has no incomplete events.
    async fn rows(
        &self,
        client: &impl GenericClient,
        id: SourceId,
        table: &Table,
        mapping: &Mapping,
    ) -> Result<Vec<Rows>, tokio_postgres::Error> {
        let Some(of_source) = self.0.get(&id.0) else {
            return Ok(Vec::new());
        };
        let is_there = |name: &str| table.column(name).is_some();
        let has_store = match &mapping.store {
            StoreRef::Column(name) => is_there(name),
            StoreRef::Constant(_) => true,
        };
        if !has_store || !is_there(&mapping.key) {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        if !of_source.keys.is_empty() {
            all.push(of_source.without_store(id, table, mapping));
        }
        if let Some((rows, first)) = of_source.keyless
            && catalog::has_numeric_index(client, table.oid, &mapping.key).await?
        {
            all.push(without_key(id, table, mapping, rows, first));
        }
        Ok(all)
    }
}

impl OfSource {
    /// Selects the rows that have a store now. `is_told`: an event of its insertion came later, for example because the
    /// source was attached again.
    fn without_store(&self, id: SourceId, table: &Table, mapping: &Mapping) -> Rows {
        let kind = table.column(&mapping.key).map_or("text", |column| &column.kind);
        let sql = format!(
            "select r.*, exists (select from vestnik.vst_event e where e.store_id = r.store_id and e.source = $1 and e.key = r.key \
                 and e.type = 'insert' and e.id > r.id) as is_told \
             from (select l.key, l.id, {store} as store_id, {columns} as data, true as is_marked \
                   from unnest($2::text[], $3::bigint[]) l (key, id) join {table} t on t.{key} = l.key::{kind} limit $4) r \
             where r.store_id is not null",
            store = store_sql(mapping),
            columns = table.columns_json(mapping.recorded_columns()),
            table = table.quoted,
            key = ident(&mapping.key),
        );
        let (keys, ids) = (self.keys.clone(), self.ids.clone());
        Rows {
            sql,
            parameters: vec![Box::new(id.0), Box::new(keys), Box::new(ids), Box::new(SEARCHED_EVENTS)],
            had_no_key: false,
        }
    }
}

/// Selects rows without an event whose keys are greater than those before the first event without a key. `rows` events
/// have no key, so at most as many rows are selected.
fn without_key(id: SourceId, table: &Table, mapping: &Mapping, rows: i64, first: i64) -> Rows {
    let sql = format!(
        "with newest as materialized (select id, source, key from vestnik.vst_event order by id desc limit $4), \
           before as (select case when count(key) > 0 then max(key::numeric) \
                                  when (select count(*) from newest) < $4 then -9e18 end as through \
                      from newest where source = $1 and id < $2 and key ~ '^-?[0-9]{{1,18}}$') \
         select t.{key}::text as key, 0::bigint as id, {store} as store_id, {columns} as data, false as is_marked, false as is_told \
         from {table} t, (select attached_at, attached_xid from vestnik.vst_source where id = $1) s \
         where t.{key} > (select through::bigint from before) and {is_younger} and {store} is not null \
           and not exists (select from newest e where e.source = $1 and e.id > $2 and e.key = t.{key}::text) \
         order by t.{key} desc limit $3",
        store = store_sql(mapping),
        columns = table.columns_json(mapping.recorded_columns()),
        table = table.quoted,
        key = ident(&mapping.key),
        is_younger = is_younger(table, mapping),
    );
    Rows {
        sql,
        parameters: vec![
            Box::new(id.0),
            Box::new(first),
            Box::new(rows.min(RECORDED_ROWS)),
            Box::new(SEARCHED_EVENTS),
        ],
        had_no_key: true,
    }
}

/// Records rows whose events have no store or no key, if their columns have their names again. Each row is recorded
/// once, also if several nodes run this function.
pub async fn record(pool: &Pool) -> Result<Vec<RecordedLate>, QueryError> {
    const SOURCES: &str = "select id, name, table_name, mapping, owner_trusted from vestnik.vst_source where detached_at is null order by id";
    let mut recorded = Vec::new();
    let mut client = pool.get().await?;
    let found = db::with_timeout(async { Ok::<_, QueryError>(search(&*client).await?) }).await?;
    if found.0.is_empty() {
        return Ok(recorded);
    }
    for row in client.query(SOURCES, &[]).await? {
        let kept = Kept {
            id: SourceId(row.try_get(0)?),
            name: row.try_get(1)?,
            table: row.try_get(2)?,
            mapping_toml: row.try_get(3)?,
            owner_trusted: row.try_get(4)?,
        };
        if !found.0.contains_key(&kept.id.0) {
            continue;
        }
        match db::with_timeout(record_source(&mut client, &kept)).await {
            Ok(0) => {}
            Ok(rows) => recorded.push(RecordedLate {
                table: kept.table,
                rows,
            }),
            // The health report names a table that cannot be read. The other sources do not wait for it.
            Err(QueryError::Postgres(error)) if error.as_db_error().is_some() => {
                tracing::debug!(
                    source = kept.name,
                    error = db::reason(&error),
                    "rows were not recorded late"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(recorded)
}

async fn record_source(client: &mut db::Client, kept: &Kept) -> Result<u64, QueryError> {
    // The health report names a mapping that cannot be parsed, and a missing table.
    let Ok(mapping) = Mapping::from_toml(&kept.mapping_toml) else {
        return Ok(0);
    };
    if mapping.derived.is_some() {
        return Ok(0);
    }
    let transaction = client.transaction().await?;
    db::read_by_index(&transaction).await?;
    transaction
        .batch_execute(&format!("set local lock_timeout = {LOCK_MS}"))
        .await?;
    let table = match Table::find(&transaction, &kept.table).await {
        Ok(table) => table,
        Err(catalog::Error::NoTable(_)) => return Ok(0),
        Err(catalog::Error::Failed(error)) => return Err(error),
    };
    // Another node may record the same rows. The lock makes this node wait, so that it finds the events of the other.
    transaction
        .execute("select from vestnik.vst_source where id = $1 for update", &[&kept.id.0])
        .await?;
    let mut recorded = 0;
    for rows in search(&transaction)
        .await?
        .rows(&transaction, kept.id, &table, &mapping)
        .await?
    {
        // As the trigger does for a row that moves, the deletion without a store comes first. It also marks the row as
        // recorded. A row with an earlier event gets an update, so that its panels learn what has changed.
        let sql = format!(
            "with back as materialized (select * from ({rows}) r order by id desc limit {RECORDED_ROWS}), \
               known as (select distinct on (e.key) e.key, e.type, e.data from vestnik.vst_event e \
                         join back b on e.store_id = b.store_id and e.key = b.key and e.id < b.id \
                         where e.source = $1 order by e.key, e.id desc) \
             insert into vestnik.vst_event (source, store_id, key, type, data, old) \
             select $1::int, store_id, key, type, data, old from ( \
                 select null::text as store_id, key, 'delete' as type, data, null::json as old, id from back where is_marked \
                 union all \
                 select b.store_id, b.key, case when k.data is null then 'insert' else 'update' end, b.data, k.data, b.id \
                 from back b left join known k on k.key = b.key and k.type <> 'delete' where not b.is_told) e \
             order by store_id is not null, id, key \
             returning store_id is not null",
            rows = rows.sql,
        );
        let before = recorded;
        for row in transaction.query(&sql, &rows.parameters()).await? {
            recorded += u64::from(row.try_get::<_, bool>(0)?);
        }
        if rows.had_no_key && recorded > before {
            keyless_orders::remove(&transaction, kept.id, recorded - before, SEARCHED_EVENTS).await?;
        }
    }
    if recorded > 0 {
        transaction.execute("select vestnik.vst_notify()", &[]).await?;
    }
    transaction.commit().await?;
    Ok(recorded)
}
