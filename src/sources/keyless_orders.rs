//! Removes the orders that clients received without their keys, because the column of the key had another name. Clients
//! know such an order by the id of its event.

use super::changes::KEYLESS;
use crate::domain::event::SourceId;
use crate::infra::db::Transaction;

/// Appends the removal of these orders, now that clients receive them with their keys. `told` is the number of rows
/// that have an event with their key now. If more orders are known without a key, all of them stay: some may not be told
/// otherwise. The orders are searched in the newest `searched` events.
pub(super) async fn remove(
    transaction: &Transaction<'_>,
    source: SourceId,
    told: u64,
    searched: i64,
) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "with newest as materialized (select id, source, store_id, key, type, data from vestnik.vst_event order by id desc limit $2), \
           known as (select e.* from newest e \
                     where e.source = $1 and e.key is null and e.type = 'insert' and e.store_id is not null \
                         and not exists (select from newest r where r.source = $1 and r.key = '{KEYLESS}' || e.id)) \
         insert into vestnik.vst_event (source, store_id, key, type, data) \
         select source, store_id, '{KEYLESS}' || id, 'delete', data from known where (select count(*) from known) <= $3 order by id"
    );
    let told = i64::try_from(told).unwrap_or(i64::MAX);
    transaction.execute(&sql, &[&source.0, &searched, &told]).await?;
    Ok(())
}

/// An SQL expression: the number of rows of the source that were recorded without a key by the transaction `xid` or a
/// later one, without those that [`remove`] has removed.
pub(super) fn count_sql(source: SourceId, xid: &str) -> String {
    format!(
        "(select coalesce(sum(case when key is null then 1 else -1 end), 0)::bigint from vestnik.vst_event \
             where xid >= {xid} and source = {} and (key is null and type = 'insert' or key like '{KEYLESS}%' and type = 'delete'))",
        source.0
    )
}
