//! The orders that the projector has not published yet when their source becomes direct. No trigger records them again,
//! so the journal gets their events at once.

use crate::infra::db::GenericClient;

use super::super::catalog::Table;
use super::super::mapping::Mapping;
use super::super::repair::store_sql;
use super::super::sql::ident;
use super::seen_orders::SEARCHED_EVENTS;
use super::watch::NO_KEY;
use crate::domain::event::SourceId;

/// The keys of the orders in the source's queue, and of those that wait for their items or their store.
pub(in crate::sources) async fn keys(
    client: &impl GenericClient,
    source: SourceId,
) -> Result<Vec<String>, tokio_postgres::Error> {
    const KEYS: &str = "select key from vestnik.vst_change where source = $1 and watch <= 0 and key is not null and key <> $2 \
         union select key from vestnik.vst_wait where source = $1 and key <> $2";
    let rows = client.query(KEYS, &[&source.0, &NO_KEY]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Appends an event for each of these orders, in the form of a direct source: its row now, or that it is gone.
pub(in crate::sources) async fn append(
    client: &impl GenericClient,
    source: SourceId,
    table: &Table,
    mapping: &Mapping,
    keys: &[String],
) -> Result<(), tokio_postgres::Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let kind = table.column(&mapping.key).map_or("text", |column| column.kind.as_str());
    let sql = format!(
        "with last as (select distinct on (key) key, store_id, type, data from ( \
                 select id, key, store_id, type, data from vestnik.vst_event where source = $1 order by id desc limit $3) newest \
             where key = any ($2) order by key, id desc), \
             known as (select * from last where type <> 'delete'), \
             there as (select {key}::text as key, {store} as store_id, {columns} as data from {table} t where t.{key} = any (($2::text[])::{kind}[])) \
         insert into vestnik.vst_event (source, store_id, key, type, data, old) \
         select $1, t.store_id, t.key, case when k.key is null then 'insert' else 'update' end, t.data, k.data \
             from there t left join known k on k.key = t.key and k.store_id = t.store_id \
         union all \
         select $1, k.store_id, k.key, 'delete', k.data, null from known k \
             where not exists (select from there t where t.key = k.key and t.store_id = k.store_id)",
        key = ident(&mapping.key),
        store = store_sql(mapping),
        columns = table.columns_json(mapping.recorded_columns()),
        table = table.quoted,
    );
    client.execute(&sql, &[&source.0, &keys, &SEARCHED_EVENTS]).await?;
    client.execute("select vestnik.vst_notify()", &[]).await?;
    Ok(())
}
