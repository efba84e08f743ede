//! Deletes old orders of derived sources (whose orders come from SQL expressions) from the projection tables. Only
//! closed orders (completed, rejected or cancelled) that are older than the journal's retention are deleted. If the
//! shop writes a deleted order again, the projector computes it again.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::projection;
use crate::domain::event::SourceId;
use crate::infra::db::{self, Pool, QueryError};

/// Maximum number of orders of one source that one statement deletes.
pub const BATCH_ORDERS: i64 = 1000;
/// An SQL condition: the order is closed, both for clients and in the shop's tables. An order stays if only a person's
/// answer closed it, and the shop's tables still have an open status. Otherwise the shop's next write would make panels
/// ring for this order again.
pub(super) const CLOSED: &str =
    "status in ('completed', 'rejected', 'cancelled') and shop_status in ('completed', 'rejected', 'cancelled')";

/// Deletes one batch of old closed orders of each derived source. Returns the number of deleted orders. Several nodes
/// may call this function at the same time.
pub async fn trim(pool: &Pool, retention: Duration) -> Result<u64, QueryError> {
    const DERIVED: &str = "select s.id from vestnik.vst_source s join pg_class c on c.relname = 'vst_projection_' || s.id \
             and c.relnamespace = 'vestnik'::regnamespace where s.detached_at is null";
    let sources = db::with_timeout(async {
        let rows = pool.get().await?.query(DERIVED, &[]).await?;
        let ids: Result<Vec<i32>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        Ok::<_, QueryError>(ids?)
    });
    let mut trimmed = 0;
    for source in sources.await? {
        let table = projection(SourceId(source));
        let sql = format!(
            "with gone as (delete from {table} where (key, store_id) in (select key, store_id from {table} \
                     where {CLOSED} and told_at < now() - make_interval(secs => $1) order by told_at limit $2 for update skip locked) \
                 returning key), \
                 failures as (delete from vestnik.vst_projection_failure where source = $3 and key in (select key from gone)) \
             select count(*) from gone"
        );
        let gone = db::with_timeout(async {
            let client = pool.get().await?;
            let parameters: [&(dyn ToSql + Sync); 3] = [&retention.as_secs_f64(), &BATCH_ORDERS, &source];
            Ok::<_, QueryError>(client.query_one(&sql, &parameters).await?.try_get::<_, i64>(0)?)
        });
        trimmed += gone.await?.unsigned_abs();
    }
    Ok(trimmed)
}
