//! The reconciler finds rows that somebody has written without the triggers, and reports no other rows.

use std::time::Duration;

use vestnik::sources::reconciler::{MissedRows, Reconciler};

use crate::derived::shop::Shop;
use crate::support::app::App;
use crate::support::db::Database;
use crate::support::node::Node;
use crate::support::telegram::Telegram;

const PAST_THE_TRIGGERS: &str = "set session_replication_role = replica; \
     insert into orders (store_id, customer_name) values (7, 'Кузьма Скороходов'), (8, 'Кузьма Скороходов'); \
     reset session_replication_role";

#[tokio::test]
async fn rows_written_past_the_triggers_are_found_once() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let pool = vestnik::infra::db::pool(&database.config().database).unwrap();
    let mut reconciler = Reconciler::default();
    // The reconciler does not report rows from before its first check, because they may be older than the triggers.
    client.batch_execute(PAST_THE_TRIGGERS).await.unwrap();
    assert_eq!(reconciler.look(&pool).await.unwrap(), []);
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    client.batch_execute(PAST_THE_TRIGGERS).await.unwrap();
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    let found = MissedRows {
        table: "public.orders".into(),
        rows: 2,
        newest: 5,
        told_late: false,
    };
    assert_eq!(reconciler.look(&pool).await.unwrap(), [found]);
    assert_eq!(reconciler.look(&pool).await.unwrap(), []);
    // `restart identity` makes the sequence start again from 1.
    for sql in [
        "insert into orders (id, store_id) values (1000, 7)",
        "truncate orders restart identity; insert into orders (store_id) select 7 from generate_series(1, 10)",
    ] {
        client.batch_execute(sql).await.unwrap();
        assert_eq!(reconciler.look(&pool).await.unwrap(), []);
    }
    client.batch_execute(PAST_THE_TRIGGERS).await.unwrap();
    assert_eq!(reconciler.look(&pool).await.unwrap()[0].newest, 12);
}

#[tokio::test]
async fn a_row_that_was_recorded_without_its_key_is_not_written_past_the_triggers() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let shop = async |sql: &str| client.batch_execute(sql).await.unwrap();
    let pool = vestnik::infra::db::pool(&database.config().database).unwrap();
    let mut reconciler = Reconciler::default();
    shop("insert into orders (store_id) values (7)").await;
    assert_eq!(reconciler.look(&pool).await.unwrap(), []);
    shop("alter table orders rename id to number; insert into orders (store_id) values (7), (7)").await;
    shop("alter table orders rename number to id").await;
    assert_eq!(reconciler.look(&pool).await.unwrap(), []);
    shop("alter table orders rename id to number; insert into orders (store_id) values (7)").await;
    shop("alter table orders rename number to id").await;
    shop(PAST_THE_TRIGGERS).await;
    assert_eq!(reconciler.look(&pool).await.unwrap()[0].rows, 2);
}

/// SQL that writes an order of Spree with one item.
fn order(number: &str) -> String {
    format!(
        "with made as (insert into spree_orders (number, state, status, currency, store_id, completed_at, payment_state, shipment_state, total, created_at, updated_at) \
             values ('{number}', 'complete', 'placed', 'USD', 1, now(), 'paid', 'ready', 19.00, now(), now()) returning id) \
         insert into spree_line_items (variant_id, order_id, quantity, price, currency, created_at, updated_at) \
             select 1, id, 2, 9.50, 'USD', now(), now() from made; "
    )
}

#[tokio::test]
async fn rows_of_a_derived_source_that_were_written_past_the_triggers_are_found_and_published_once() {
    let cart = |number: &str| {
        format!(
            "insert into spree_orders (number, state, status, currency, store_id, total, created_at, updated_at) \
                 values ('{number}', 'cart', 'draft', 'USD', 1, 0, now(), now()); "
        )
    };
    let mut shop = Shop::open("spree", "read committed").await;
    shop.settle().await;
    let pool = vestnik::infra::db::pool(&shop.app.database.config().database).unwrap();
    let mut reconciler = Reconciler::default();
    assert_eq!(reconciler.look(&pool).await.unwrap(), []);
    shop.write(&format!("begin; {}{} commit", order("R1"), cart("C1")))
        .await;
    assert_eq!(shop.event("1").await["data"]["number"], "R1");
    let past = format!(
        "begin; set local session_replication_role = replica; {}{}{} commit",
        order("R2"),
        cart("C2"),
        order("R3")
    );
    shop.write(&past).await;
    // The triggers have recorded this transaction, but the engine has not published its event yet.
    shop.write(&format!("begin; {} commit", order("R4"))).await;
    let found = MissedRows {
        table: "public.spree_orders".into(),
        rows: 2,
        newest: 5,
        told_late: true,
    };
    assert_eq!(reconciler.look(&pool).await.unwrap(), [found]);
    let mut told = Vec::new();
    for _ in 0..3 {
        let event = shop.event("1").await;
        assert_eq!(event["type"], "new_order");
        told.push(event["data"]["number"].as_str().unwrap().to_owned());
    }
    told.sort();
    assert_eq!(told, ["R2", "R3", "R4"]);
    assert_eq!(reconciler.look(&pool).await.unwrap(), []);

    // Disable the triggers, as a restore does.
    shop.write("alter table spree_orders disable trigger user; alter table spree_line_items disable trigger user")
        .await;
    shop.write(&format!("begin; {} commit", order("R5"))).await;
    shop.write("alter table spree_orders enable trigger user; alter table spree_line_items enable trigger user")
        .await;
    assert_eq!(reconciler.look(&pool).await.unwrap()[0].rows, 1);
    assert_eq!(shop.event("1").await["data"]["number"], "R5");
    assert_eq!(reconciler.look(&pool).await.unwrap(), []);
    shop.settle().await;
    let events = "select count(*) from vestnik.vst_event";
    assert_eq!(
        shop.writer.query_one(events, &[]).await.unwrap().get::<_, i64>(0),
        5,
        "each once"
    );
}

#[tokio::test]
async fn a_row_with_its_event_is_never_found() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let pool = vestnik::infra::db::pool(&database.config().database).unwrap();
    client
        .batch_execute(
            "create table small (id smallint primary key, store_id int, status text); \
             create table parts (id int, store_id int, status text, primary key (id, store_id)) partition by list (store_id); \
             create table parts_of_7 partition of parts for values in (7); create table parts_of_8 partition of parts default; \
             create table of_uuids (id uuid primary key, store_id int, status text); \
             create table of_texts (id text primary key, store_id int, status text)",
        )
        .await
        .unwrap();
    for table in ["small", "parts", "of_uuids", "of_texts"] {
        let mapping = format!(
            "table = 'public.{table}'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n\
             status = {{ column = 'status', pending = ['pending'] }}"
        );
        database.attach(&mapping).await;
    }
    let mut reconciler = Reconciler::default();
    assert_eq!(reconciler.look(&pool).await.unwrap(), []);
    // This transaction stays open while the reconciler checks the tables, and writes once more after that. The
    // reconciler must report none of its rows.
    let slow = database.client().await;
    slow.batch_execute("begin; insert into orders (store_id) values (7)")
        .await
        .unwrap();
    for sql in [
        "insert into orders (store_id) values (7)",
        "insert into small values (1, 7, 'pending'), (2, null, null); insert into parts values (1, 7, 'x')",
        "begin; savepoint one; insert into orders (store_id) values (8); release one; commit",
        "insert into of_uuids values (gen_random_uuid(), 7, 'pending'); insert into of_texts values ('1', 7, 'x')",
        // The update moves rows to another store, and to another partition.
        "update orders set store_id = 9; update parts set store_id = 8",
        // The reconciler cannot find the newest rows of a table with text keys, so it checks nothing there.
        "set session_replication_role = replica; insert into of_texts values ('2', 7, 'x'); reset session_replication_role",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    assert_eq!(reconciler.look(&pool).await.unwrap(), []);
    slow.batch_execute("insert into orders (store_id) values (7); commit")
        .await
        .unwrap();
    client
        .batch_execute("alter table small rename to smaller; insert into smaller values (3, 7, 'pending')")
        .await
        .unwrap();
    assert_eq!(reconciler.look(&pool).await.unwrap(), []);
}

#[tokio::test]
async fn the_program_says_and_counts_what_was_written_past_the_triggers() {
    let telegram = Telegram::start().await;
    let database = Database::fresh().await;
    let node = Node::serving(
        &database,
        &telegram.url(),
        &[("JOURNAL_RECONCILE_INTERVAL_SECONDS", "1")],
    )
    .await;
    node.until_said("compared the tables with the journal").await;
    database.client().await.batch_execute(PAST_THE_TRIGGERS).await.unwrap();
    let line = node.until_said("past the triggers").await;
    assert!(line.contains("public.orders") && line.contains("rows=2"), "{line}");
    node.until_metric("vestnik_rows_without_event_total", |rows| rows == 2.0)
        .await;
}

#[test]
fn the_reconciler_is_on_unless_it_is_switched_off() {
    let config = vestnik::infra::config::Config::default();
    assert_eq!(config.journal.reconcile_interval, Some(Duration::from_secs(60)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_may_not_be_read_and_one_that_is_locked_cost_no_other_source_anything() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client
        .batch_execute(
            "create schema kitchen; create table kitchen.orders (id int primary key, store_id int, status text default 'pending'); \
             create table counter (id int primary key, store_id int, status text default 'pending')",
        )
        .await
        .unwrap();
    for table in ["kitchen.orders", "public.counter"] {
        let mapping = format!(
            "table = \"{table}\"\nkey = \"id\"\nstore = \"store_id\"\nkind = \"order\"\n[status]\ncolumn = \"status\"\npending = [\"pending\"]\n"
        );
        database.attach(&mapping).await;
    }
    let role = format!("vestnik_test_reader_{}", std::process::id());
    let url = crate::field_cases::engine_role(
        &database,
        &role,
        "grant select, update on orders, bookings, counter to ROLE",
    )
    .await;
    let served = Database::at(url.into());
    let app = App::start_on(served, |_| ()).await;
    client
        .batch_execute("insert into orders (store_id) values (7); insert into kitchen.orders values (1, 7); insert into counter values (1, 7)")
        .await
        .unwrap();
    let mut reconciler = Reconciler::default();
    let pool = vestnik::infra::db::pool(&app.database.config().database).unwrap();
    assert_eq!(reconciler.look(&pool).await.unwrap(), []);

    let holder = database.client().await;
    holder
        .batch_execute("begin; lock table counter in access exclusive mode")
        .await
        .unwrap();
    let list = app.get_json("/api/partner/stores/7/orders").await;
    assert_eq!(list["orders"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["unavailable"].as_array().unwrap().len(), 2, "{list}");
    client.batch_execute(PAST_THE_TRIGGERS).await.unwrap();
    assert_eq!(reconciler.look(&pool).await.unwrap()[0].rows, 2);
    let health = vestnik::sources::health::check(&app.database.client().await)
        .await
        .unwrap();
    let troubles = |table: &str| {
        let found = health.iter().find(|health| health.table == table).unwrap();
        found.troubles.join("\n")
    };
    assert!(
        troubles("kitchen.orders").contains("grant usage on schema kitchen"),
        "{health:?}"
    );
    assert_eq!(troubles("public.orders"), "", "{health:?}");

    // As soon as the table can be read again, the reconciler finds the rows that were written in the meantime.
    let past = "set session_replication_role = replica; insert into counter values (2, 7); reset session_replication_role; commit";
    holder.batch_execute(past).await.unwrap();
    let found = reconciler.look(&pool).await.unwrap();
    assert_eq!((found[0].table.as_str(), found[0].newest), ("public.counter", 2));
    app.engine.shut_down().await;
}
