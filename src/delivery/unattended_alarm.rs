//! Raises an alarm for an open store if no panel can ring for its next order. The alarm is a message to the store's
//! chats. When a panel can ring again, or the store closes, these chats get a message that the alarm is over. If a
//! store has the setting `attended_by = 'chats'`, a chat that gets its orders counts like a panel.

use crate::infra::db::{self, Pool, QueryError};

/// An open store gets an alarm after this many seconds without a panel that can ring. Reloading the panel's page takes
/// less time.
pub const GRACE_S: f64 = 60.0;

/// Checks all stores once. An open store gets an alarm after [`GRACE_S`] seconds without a panel. Returns the number of
/// alarms that began or ended.
pub async fn watch(pool: &Pool) -> Result<u64, QueryError> {
    watch_with(pool, GRACE_S).await
}

/// Checks all stores once. An open store gets an alarm after `grace_s` seconds without a panel. Returns the number of
/// alarms that began or ended.
pub async fn watch_with(pool: &Pool, grace_s: f64) -> Result<u64, QueryError> {
    const PRESENT: &str = "select p.store_id from vestnik.vst_presence p join vestnik.vst_node n on n.id = p.node_id \
         where n.until > clock_timestamp()";
    // If a store has the setting `attended_by = 'chats'`, a chat that gets the store's orders counts like a panel.
    const CHATS: &str = "select l.store_id from vestnik.vst_chat_link l join vestnik.vst_chat c on c.id = l.chat_id \
         join vestnik.vst_store s on s.id = l.store_id \
         where s.attended_by = 'chats' and l.mode in ('mirror', 'fallback') and l.blocked_at is null and c.disabled_at is null";
    let note = format!(
        "with present as ({PRESENT} union {CHATS}), \
         absent as (select store_id as id from vestnik.vst_open_now where store_id not in (select store_id from present)), \
         back as (delete from vestnik.vst_unattended where store_id not in (select id from absent)) \
         insert into vestnik.vst_unattended (store_id) select id from absent on conflict do nothing"
    );
    let change = format!(
        "with present as ({PRESENT} union {CHATS}), \
         raised as (insert into vestnik.vst_alarm (store_id) select store_id from vestnik.vst_unattended \
             where since <= clock_timestamp() - make_interval(secs => $1) \
             on conflict (store_id) where cleared_at is null do nothing returning id, store_id), \
         cleared as (update vestnik.vst_alarm set cleared_at = clock_timestamp(), \
               cleared_by = case when store_id in (select store_id from present) then 'panel' else 'closing' end \
             where cleared_at is null and store_id not in (select store_id from vestnik.vst_unattended) returning id, store_id), \
         enqueued as (insert into vestnik.vst_delivery (chat_id, store_id, alarm_id, alarm_ends, urgent) \
             select l.chat_id, a.store_id, a.id, a.ends, true \
             from (select id, store_id, false from raised union all select id, store_id, true from cleared) a(id, store_id, ends) \
             join vestnik.vst_chat_link l on l.store_id = a.store_id join vestnik.vst_chat c on c.id = l.chat_id and c.disabled_at is null \
             on conflict (alarm_id, chat_id, alarm_ends) do nothing returning chat_id), \
         woken as (update vestnik.vst_chat set waiting = true where id in (select chat_id from enqueued)) \
         select (select count(*) from raised), (select count(*) from cleared)"
    );
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        if !db::take_turn(&transaction, "watch").await? {
            return Ok(0);
        }
        let statement = transaction.prepare_cached(&note).await?;
        transaction.execute(&statement, &[]).await?;
        let statement = transaction.prepare_cached(&change).await?;
        let row = transaction.query_one(&statement, &[&grace_s]).await?;
        transaction.commit().await?;
        let (raised, cleared) = (
            row.try_get::<_, i64>(0)?.unsigned_abs(),
            row.try_get::<_, i64>(1)?.unsigned_abs(),
        );
        metrics::counter!("vestnik_unattended_alarms_total").increment(raised);
        Ok(raised + cleared)
    })
    .await
}
