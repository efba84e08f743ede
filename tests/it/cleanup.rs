//! The clean-up deletes old rows that refer to no event. The task that trims the journal does not delete these rows.

use std::time::Duration;

use vestnik::delivery::cleanup::delete_old;
use vestnik::infra::db;
use vestnik::journal::{self, Trimmed};

use crate::support::db::Database;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn what_is_over_is_forgotten_after_its_time_and_the_rest_is_kept() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let pool = db::pool(&database.config().database).unwrap();
    // Each table gets old rows, which must be deleted, and recent rows. An old alarm that is not cleared, a chat that is
    // linked or waits, and an open delivery are kept, too.
    client
        .batch_execute(
            "insert into vestnik.vst_store (id) values ('7'); \
             insert into vestnik.vst_status_change (source, store_id, key, previous, status, channel, by_whom, at) \
               select 1, '7', i::text, 'pending', 'preparing', 'panel', 'Anna', now() - i * interval '1 day' \
               from unnest(array[40, 31, 29, 0]) i; \
             insert into vestnik.vst_alarm (store_id, raised_at, cleared_at) values \
               ('7', now() - interval '50 day', now() - interval '40 day'), ('7', now() - interval '50 day', null), \
               ('7', now() - interval '2 day', now() - interval '1 day'); \
             insert into vestnik.vst_link_code (hash, store_id, mode, language, expires_at) \
               select sha256(i::text::bytea), '7', 'mirror', 'en', now() - i * interval '1 hour' from unnest(array[48, 1, 0]) i; \
             insert into vestnik.vst_chat (telegram_id, first_seen_at, waiting) values \
               (1, now() - interval '2 day', false), (2, now() - interval '2 day', true), (3, now(), false), \
               (4, now() - interval '2 day', false), (5, now() - interval '2 day', false); \
             insert into vestnik.vst_chat_link (chat_id, store_id, mode, language, linked_by) values (4, '7', 'mirror', 'en', 1); \
             insert into vestnik.vst_delivery (chat_id, words, urgent, state, waits_since) values \
               (4, 'old', true, 'sent', now() - interval '2 day'), (4, 'open', true, 'retrying', now() - interval '2 day'), \
               (4, 'new', true, 'sent', now()), (5, 'yesterday', true, 'dead', now() - interval '2 day')",
        )
        .await
        .unwrap();
    assert!(delete_old(&pool, 30 * DAY).await.unwrap() >= 6);
    delete_old(&pool, 30 * DAY).await.unwrap();
    for (table, column, kept) in [
        ("status_change", "key", "0,29"),
        ("alarm", "id", "2,3"),
        (
            "link_code",
            "extract(epoch from date_trunc('hour', now() - expires_at))::int / 3600",
            "0,1",
        ),
        ("delivery", "words", "new,open"),
        ("chat", "telegram_id", "2,3,4"),
    ] {
        let sql = format!(
            "select string_agg(distinct ({column})::text, ',' order by ({column})::text) from vestnik.vst_{table}"
        );
        let there: String = client.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(there, kept, "{table}");
    }
    assert_eq!(delete_old(&pool, 30 * DAY).await.unwrap(), 0);
}

#[tokio::test]
async fn an_event_that_is_trimmed_takes_all_that_is_about_it() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let pool = db::pool(&database.config().database).unwrap();
    client
        .batch_execute(
            "insert into vestnik.vst_store (id) values ('7'); insert into vestnik.vst_chat (telegram_id) values (1); \
             insert into orders (store_id) values (7); \
             insert into vestnik.vst_delivery (chat_id, store_id, event_id, subject, urgent) values (1, '7', 1, 'order 1', true); \
             insert into vestnik.vst_message (chat_id, store_id, subject, event_id, message_id) values (1, '7', 'order 1', 1, 1); \
             insert into vestnik.vst_escalation (event_id, store_id, subject, due_at) values (1, '7', 'order 1', now()); \
             insert into vestnik.vst_webhook (event_id, store_id) values (1, '7'); \
             insert into vestnik.vst_receipt (event_id, channel, recipient) values (1, 'telegram', '1'); \
             update vestnik.vst_event set at = now() - interval '31 day'",
        )
        .await
        .unwrap();
    assert_eq!(journal::trim_batch(&pool, 30 * DAY).await.unwrap(), Trimmed::Done(1));
    for table in ["delivery", "message", "escalation", "webhook", "receipt"] {
        let sql = format!("select count(*) from vestnik.vst_{table}");
        assert_eq!(
            client.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0),
            0,
            "{table}"
        );
    }
}
