//! Migrations that run while the shop continues to write.

use tokio::sync::mpsc;
use tokio::time::timeout;
use vestnik::infra::config::Config;
use vestnik::infra::db::Transaction;
use vestnik::migrate::{self, MigrateOutcome};

use super::{count, old_shop, run};
use crate::support::app::PATIENCE;
use crate::support::db::Database;

#[tokio::test]
async fn what_did_not_change_takes_no_lock_on_orders() {
    let database = Database::fresh().await;
    let mut client = database.client().await;
    let held = client.transaction().await.unwrap();
    held.batch_execute("lock table orders, bookings in access exclusive mode")
        .await
        .unwrap();
    let migrated = timeout(PATIENCE, run(&database.config())).await;
    let (outcome, said) = migrated.expect("the migration waits for no lock").unwrap();
    assert_eq!((outcome, said), (MigrateOutcome::Unchanged, vec![]));
}

#[tokio::test]
async fn the_shops_own_time_outs_do_not_stop_it() {
    let (database, _backups, config) = old_shop().await;
    let set = "do $$ begin execute format('alter database %I set idle_in_transaction_session_timeout = 1', \
         current_database()); end $$";
    database.client().await.batch_execute(set).await.unwrap();
    assert_eq!(run(&config).await.unwrap().0, MigrateOutcome::Migrated);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_go_on_while_attaching_waits_for_one_of_them() {
    let database = Database::fresh().await;
    let (mut shop, other) = (database.client().await, database.client().await);
    shop.batch_execute("drop trigger vestnik_record_truncate on orders")
        .await
        .unwrap();
    // If the migration makes this writer wait for a lock longer than 30 s, the write fails, and so does the test.
    other.batch_execute("set lock_timeout = '30s'").await.unwrap();
    let open = shop.transaction().await.unwrap();
    open.batch_execute("insert into orders (store_id) values (5)")
        .await
        .unwrap();
    let (waits, mut waiting) = tokio::sync::oneshot::channel();
    let mut waits = Some(waits);
    let config = database.config();
    let mut say = |line: &str| {
        if line.contains("vestnik shop, idle in transaction")
            && let Some(waits) = waits.take()
        {
            waits.send(()).unwrap();
        }
    };
    let writing = async {
        let mut written = 0;
        while waiting.try_recv().is_err() {
            other
                .execute("insert into orders (store_id) values (6)", &[])
                .await
                .unwrap();
            written += 1;
        }
        open.commit().await.unwrap();
        written
    };
    let both = async { tokio::join!(migrate::run(&config, &mut say), writing) };
    let (migrated, written) = timeout(PATIENCE, both).await.expect("both end");
    assert_eq!(migrated.unwrap(), MigrateOutcome::Migrated);
    let events = "select count(*) from vestnik.vst_event where store_id in ('5', '6')";
    assert_eq!(count(&other, events).await, written + 1);
}

/// Migrates while a transaction of the shop is open. Commits this transaction when the migration reports a line that
/// contains `waits`, and returns the line.
async fn migrate_beside(config: &Config, open: Transaction<'_>, waits: &str) -> Option<String> {
    let (say, mut said) = mpsc::unbounded_channel();
    let migration = async move { migrate::run(config, &mut |line| drop(say.send(line.to_owned()))).await };
    let watching = async move {
        let (mut open, mut heard) = (Some(open), None);
        while let Some(line) = said.recv().await {
            if line.contains(waits)
                && let Some(open) = open.take()
            {
                heard = Some(line);
                open.commit().await.unwrap();
            }
        }
        heard
    };
    let (migrated, heard) = tokio::join!(migration, watching);
    assert_eq!(migrated.unwrap(), MigrateOutcome::Migrated);
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_who_holds_the_tables_and_goes_on_when_they_let_go() {
    let (database, _backups, config) = old_shop().await;
    let mut shop = database.client().await;
    // The tables have no rows. The migration therefore builds no index, and its first step waits for the table's lock.
    shop.batch_execute("truncate orders, bookings").await.unwrap();
    let open = shop.transaction().await.unwrap();
    open.batch_execute("insert into orders (store_id) values (5)")
        .await
        .unwrap();
    let heard = migrate_beside(
        &config,
        open,
        "waiting for a lock on the shop's tables or the journal: process ",
    )
    .await;
    assert!(heard.is_some_and(|line| line.contains("vestnik shop, idle in transaction")));
    assert_eq!(
        count(&shop, "select count(*) from orders where status = 'pending'").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_builds_the_index_during_an_open_transaction_and_unifies_its_rows_too() {
    let (database, _backups, config) = old_shop().await;
    let mut shop = database.client().await;
    let open = shop.transaction().await.unwrap();
    open.batch_execute("insert into orders (store_id) values (5)")
        .await
        .unwrap();
    let heard = migrate_beside(&config, open, "it waits for transactions that are older").await;
    assert!(heard.is_some());
    let unified = "select count(*) from orders where status = 'pending' and store_id = 5";
    assert_eq!(count(&shop, unified).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_go_on_while_v23_rewrites_many_rows() {
    let (database, _backups, config) = old_shop().await;
    let many =
        "insert into orders (store_id, order_type, status) select 1, 'delivery', 'new' from generate_series(1, 100000)";
    database.client().await.batch_execute(many).await.unwrap();
    let writer = database.client().await;
    // If the migration makes this writer wait for a lock longer than 30 s, the write fails, and so does the test.
    writer.batch_execute("set lock_timeout = '30s'").await.unwrap();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        let mut written = 0;
        while stopped.try_recv().is_err() {
            writer
                .execute(
                    "insert into orders (store_id, order_type, status) values (2, 'pickup', 'ready')",
                    &[],
                )
                .await?;
            let random = "update orders set total = 1 where id = (select 1 + (random() * 100000)::int)";
            writer.execute(random, &[]).await?;
            written += 1;
        }
        Ok::<i64, tokio_postgres::Error>(written)
    });
    run(&config).await.unwrap();
    stop.send(()).unwrap();
    let written = writing.await.unwrap().unwrap();
    let client = database.client().await;
    assert_eq!(
        count(
            &client,
            "select count(*) from orders where store_id = 2 and status = 'ready'"
        )
        .await,
        written
    );
    assert_eq!(
        count(
            &client,
            "select count(*) from orders where status in ('new', 'confirmed')"
        )
        .await,
        0
    );
}
