//! Any role that may connect to the database can fill the notification queue, or take the nodes' advisory locks.
//! Meanwhile the shop must be able to write, and the nodes must be able to read.

use std::time::Duration;

use tokio::time::timeout;
use vestnik::infra::db::Client;

use crate::doctor::{doctor, line};
use crate::support::app::{App, LISTEN_PATIENCE, PATIENCE};
use crate::support::db::{Database, Server, until_within};

/// A fallback poll interval longer than any test. If a node needed the fallback poll to read an event, the event would
/// never arrive.
const NEVER: Duration = Duration::from_secs(3600);
/// Fills the notification queue with more than 80 MB. Postgres allows 8 GB.
const FILL: &str = "select pg_notify('whatever', lpad(n::text, 7990, 'x')) from generate_series(1, 14000) n";
/// Whether the only node is idle: an idle node holds the idle lock in share mode.
const IDLE: &str = "select count(*) = 1 from pg_locks l join pg_stat_activity a using (pid) where l.locktype = 'advisory' \
     and l.objid = 2 and l.mode = 'ShareLock' and a.application_name = 'vestnik listener' and a.datname = current_database()";

async fn until_idle(app: &App) {
    until_within(&app.database.client().await, LISTEN_PATIENCE, IDLE).await;
}

async fn pid(client: &Client) -> i32 {
    client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// Whether the trigger would notify if the shop wrote an order now. The transaction is rolled back.
async fn notifies(client: &Client) -> bool {
    client.batch_execute("begin").await.unwrap();
    let asked = client.query_one("select vestnik.vst_should_notify()", &[]).await;
    client.batch_execute("rollback").await.unwrap();
    asked.unwrap().get(0)
}

async fn until_notifies(client: &Client, so: bool) {
    timeout(PATIENCE, async { while notifies(client).await != so {} })
        .await
        .unwrap_or_else(|_| panic!("orders notify: not {so}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_fills_up_is_fed_by_no_order_and_no_order_is_late() {
    // The notification queue belongs to the whole cluster, so this test needs a separate Postgres server.
    let server = Server::start(&[]);
    let database = Database::on(&server).await;
    let app = App::start_on(database, |config| {
        config.database.fallback_poll_interval = NEVER;
        config.database.notify_queue_limit = 0.01;
    })
    .await;
    app.until_listening().await;
    let mut panel = app.panel("7", None).await.live().await;
    let (reader, writer, shop) = tokio::join!(app.database.client(), app.database.client(), app.database.client());
    until_notifies(&shop, true).await;
    reader.batch_execute("listen whatever").await.unwrap();
    reader.batch_execute("begin; select 1").await.unwrap();
    writer.batch_execute(FILL).await.unwrap();
    until_notifies(&shop, false).await;
    for _ in 0..3 {
        app.write("insert into orders (store_id) values (7)").await;
        panel.event().await;
    }
    app.until_metric("vestnik_notification_queue_suppressing", |now| now >= 1.0)
        .await;
    let (said, _) = doctor(&app.database, &["--set", "database.notify_queue_percent=1"]).await;
    let queue = line(&said, "queue");
    assert!(queue.starts_with("FAIL"), "{said}");
    assert!(queue.contains(&format!("pid {} ", pid(&reader).await)), "{said}");
    reader.batch_execute("commit; unlisten *").await.unwrap();
    until_notifies(&shop, true).await;
    app.write("insert into orders (store_id) values (7)").await;
    panel.event().await;
    app.engine.shut_down().await;
}

/// Takes one of the nodes' locks in the connection `stranger`: 1 is the writer lock, 2 is the idle lock. Asserts that
/// orders still arrive, and that `doctor` names the connection.
async fn hold_and_write(app: &App, stranger: Client, lock: i32) {
    let hold = format!("select pg_advisory_lock(vestnik.vst_notify_lock_key(), {lock})");
    timeout(PATIENCE, stranger.batch_execute(&hold)).await.unwrap().unwrap();
    let mut panel = app.panel("7", None).await.live().await;
    for _ in 0..3 {
        app.write("insert into orders (store_id) values (7)").await;
        timeout(PATIENCE, panel.event()).await.unwrap();
    }
    app.until_metric("vestnik_notify_locks_held_by_others", |now| now >= 1.0)
        .await;
    let (said, _) = doctor(&app.database, &[]).await;
    let locks = line(&said, "locks");
    assert!(locks.starts_with("FAIL"), "{said}");
    let end = format!("select pg_terminate_backend({})", pid(&stranger).await);
    assert!(locks.contains(&end), "{said}");
    drop(stranger);
    until_idle(app).await;
    app.write("insert into orders (store_id) values (7)").await;
    timeout(PATIENCE, panel.event()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_somebody_else_keeps_orders_from_notifying_each_comes_all_the_same_and_he_is_named() {
    let app = App::start_with(|config| config.database.fallback_poll_interval = NEVER).await;
    until_idle(&app).await;
    hold_and_write(&app, app.database.client().await, 1).await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_somebody_else_keeps_nodes_from_waiting_for_notifications_each_order_comes_and_he_is_named() {
    let database = Database::fresh().await;
    let stranger = database.client().await;
    // Take the idle lock before the node takes it. Otherwise the stranger would have to wait for the node.
    stranger
        .batch_execute("select pg_advisory_lock(vestnik.vst_notify_lock_key(), 2)")
        .await
        .unwrap();
    let app = App::start_on(database, |config| config.database.fallback_poll_interval = NEVER).await;
    app.until_listening().await;
    hold_and_write(&app, stranger, 2).await;
    app.engine.shut_down().await;
}

/// Older versions used these advisory locks for trimming, alarms and migrations, so any role that took such a lock
/// stopped this work.
#[tokio::test(flavor = "multi_thread")]
async fn an_advisory_lock_that_anybody_may_take_stops_neither_trimming_nor_alarms_and_a_migration_names_who_has_it() {
    let database = Database::fresh().await;
    let stranger = database.client().await;
    stranger
        .batch_execute(
            "select pg_advisory_lock(x'766573747472696d'::bigint), pg_advisory_lock(x'7665737477746368'::bigint), \
                    pg_advisory_lock(x'766573746d696772'::bigint)",
        )
        .await
        .unwrap();
    let client = database.client().await;
    client
        .batch_execute(
            "insert into orders (store_id) values (7); update vestnik.vst_event set at = at - interval '40 days'; \
             insert into vestnik.vst_store (id) values ('7'); \
             insert into vestnik.vst_opening_hours select '7', weekday, '00:00', '00:00' from generate_series(1, 7) weekday",
        )
        .await
        .unwrap();
    let pool = vestnik::infra::db::pool(&database.config().database).unwrap();
    let month = Duration::from_secs(30 * 24 * 3600);
    assert_eq!(
        vestnik::journal::trim_batch(&pool, month).await.unwrap(),
        vestnik::journal::Trimmed::Done(1)
    );
    let raised = vestnik::delivery::unattended_alarm::watch_with(&pool, 0.0)
        .await
        .unwrap();
    assert_eq!(raised, 1, "an alarm");

    let config = database.config();
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let mut tell = |line: &str| drop(told.send(line.to_owned()));
    let migration = vestnik::migrate::run(&config, &mut tell);
    let operator = async {
        let said = timeout(PATIENCE, tells.recv()).await.unwrap().unwrap();
        let end = format!("select pg_terminate_backend({})", pid(&stranger).await);
        assert!(said.contains(&end), "{said}");
        let (said, _) = doctor(&database, &[]).await;
        assert!(line(&said, "locks").contains(&end), "{said}");
        client.batch_execute(&end).await.unwrap();
    };
    let (migrated, ()) = timeout(PATIENCE, async { tokio::join!(migration, operator) })
        .await
        .unwrap();
    migrated.unwrap();
}
