//! Remembers the orders that clients know from the time when the source was direct, so that none of them rings as new.

use super::super::Source;
use super::projection;
use super::seen_orders::SEARCHED_EVENTS;
use crate::infra::db::{QueryError, Transaction};

/// Adds the orders of the source's journal to its projection table, with the status that clients know and no values. A
/// later change of such an order then becomes an event of a known order. Does nothing if the source was never direct.
pub(super) async fn remember(transaction: &Transaction<'_>, source: &Source) -> Result<(), QueryError> {
    const NEWEST: &str = "select distinct on (key, store_id) vestnik.vst_readable(key), vestnik.vst_readable(store_id), type, \
             vestnik.vst_readable(data)::text, at \
         from (select id, key, store_id, type, data, at from vestnik.vst_event \
             where source = $1 and key is not null and store_id is not null order by id desc limit $2) newest \
         order by key, store_id, id desc";
    if source.former.is_none() {
        return Ok(());
    }
    let insert = format!(
        "insert into {} (key, store_id, status, created_at, data, shop_status) values ($1, $2, $3, $4, '{{}}', '') \
         on conflict (key, store_id) do nothing",
        projection(source.id)
    );
    let insert = transaction.prepare_cached(&insert).await?;
    for row in transaction.query(NEWEST, &[&source.id.0, &SEARCHED_EVENTS]).await? {
        let (key, store, kind, data): (&str, &str, &str, &str) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let status = source.at_the_time_of(data).status_of(data);
        let (Some(status), false) = (status, kind == "delete") else {
            continue;
        };
        let at: time::OffsetDateTime = row.try_get(4)?;
        transaction
            .execute(&insert, &[&key, &store, &status.as_str(), &at])
            .await?;
    }
    Ok(())
}
