//! A shop alters its tables without regard to Vestnik. The engine must still accept and publish the shop's orders, and
//! must report the problem with its solution. `tests/sql/an_altered_table_makes_no_write_fail_and_loses_no_event.sql`
//! shows the content of each event.

use serde_json::json;
use vestnik::migrate;
use vestnik::sources::{attach, health};

use crate::support::app::App;
use crate::support::db::Database;
use crate::support::node::Node;
use crate::support::telegram::Telegram;

const TROUBLES: &str = "vestnik_sources_unhealthy";

#[tokio::test]
async fn an_order_of_an_altered_table_reaches_its_panel() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    // The same connection writes before and after the change, so its cached plans still contain the old columns.
    let shop = app.database.client().await;
    let write = async |sql: &str| shop.batch_execute(sql).await.unwrap();
    write("insert into orders (store_id, customer_name, total) values (7, 'Анна', 100)").await;
    assert_eq!(panel.event().await["data"]["total"], 100);
    write("alter table orders rename customer_name to client").await;
    write("insert into orders (store_id, client, total) values (7, 'Анна', 200)").await;
    assert_eq!(panel.event().await["data"]["total"], 200);
    write("alter table orders rename to shop_orders").await;
    write("insert into shop_orders (store_id, total) values (7, 300)").await;
    assert_eq!(panel.event().await["data"]["total"], 300);
    write("update shop_orders set status = 'ready' where total = 300").await;
    assert_eq!(panel.event().await["type"], "order_status_changed");
}

#[tokio::test]
async fn what_is_wrong_with_a_table_is_said_and_counted_until_it_is_mended() {
    let telegram = Telegram::start().await;
    let database = Database::fresh().await;
    let client = database.client().await;
    let shop = async |sql: &str| client.batch_execute(sql).await.unwrap();
    shop("create table tickets (id int primary key, store_id int, status text)").await;
    database
        .attach("table = \"public.tickets\"\nkind = \"order\"\nkey = \"id\"\nstore = \"store_id\"\n[status]\ncolumn = \"status\"\npending = [\"new\"]\n")
        .await;
    shop(
        "alter table orders rename customer_name to client; \
         alter table bookings disable trigger vestnik_record_update; \
         alter table tickets rename to old_tickets",
    )
    .await;
    {
        let node = Node::serving(&database, &telegram.url(), &[]).await;
        for (table, trouble) in [
            ("public.orders", "it has no column customer_name any more"),
            ("public.bookings", "its triggers are gone or switched off"),
            ("public.tickets", "it is not there"),
        ] {
            let line = node.until_said(trouble).await;
            assert!(line.contains(table), "{line}");
        }
        node.until_metric(TROUBLES, |tables| tables == 3.0).await;
    }

    migrate::run(&database.config(), &mut |_| ()).await.unwrap();
    let mut attaching = database.session().await;
    attach::detach(&mut attaching, "tickets", &mut |_| ()).await.unwrap();
    let node = Node::serving(&database, &telegram.url(), &[]).await;
    node.until_metric(TROUBLES, |tables| tables == 0.0).await;
}

#[tokio::test]
async fn a_table_without_its_key_is_not_migrated_and_the_error_says_what_to_do() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client
        .batch_execute("alter table orders rename status to state")
        .await
        .unwrap();
    let error = migrate::run(&database.config(), &mut |_| ())
        .await
        .unwrap_err()
        .to_string();
    for part in [
        "public.orders has no column status",
        "total, order_type",
        "`vestnik attach --table public.orders`",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[tokio::test]
async fn an_answer_to_an_order_whose_table_or_key_has_another_name_is_not_saved_and_is_no_unknown_order() {
    let app = App::start().await;
    app.write("insert into orders (store_id) values (7)").await;
    for (change, back) in [
        (
            "alter table orders rename to purchases",
            "alter table purchases rename to orders",
        ),
        (
            "alter table orders rename id to number",
            "alter table orders rename number to id",
        ),
        (
            "alter table orders rename store_id to room",
            "alter table orders rename room to store_id",
        ),
        (
            "alter table orders rename status to state",
            "alter table orders rename state to status",
        ),
    ] {
        let accept = async || {
            app.post("/api/partner/stores/7/orders/1/status", &json!({"status": "preparing"}))
                .await
        };
        app.write(change).await;
        let answer = accept().await;
        assert_eq!(
            (answer.status, answer.code()),
            (422, "status_not_possible".into()),
            "{change}"
        );
        app.write(back).await;
    }
    let answer = app
        .post("/api/partner/stores/7/orders/1/status", &json!({"status": "preparing"}))
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_status_that_was_null_only_while_its_column_had_another_name_is_no_problem() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let shop = async |sql: &str| client.batch_execute(sql).await.unwrap();
    let troubles = async || {
        let health = health::check(&client).await.unwrap();
        let orders = health.into_iter().find(|health| health.name == "orders").unwrap();
        orders.troubles
    };
    shop("alter table orders rename status to state; insert into orders (store_id) values (7)").await;
    shop("alter table orders rename state to status").await;
    assert_eq!(troubles().await, [""; 0]);
    shop("alter table orders alter status drop not null; alter table orders drop constraint if exists orders_status_check").await;
    shop("update orders set status = null").await;
    let said = troubles().await.join("\n");
    assert!(said.contains("has the status NULL"), "{said}");
}

/// Puts a renamed copy in the place of the orders. The second copy has no defaults.
const SWAPS: [&str; 2] = [
    "begin; create table copy (like orders including all); insert into copy select * from orders; \
        alter table orders rename to orders_old; alter table copy rename to orders; commit",
    "begin; create table copy as select * from orders; alter table copy add primary key (id); \
        alter table orders rename to orders_old; alter table copy rename to orders; commit",
];

#[tokio::test]
async fn what_is_written_to_a_renamed_copy_of_the_orders_is_told_once_by_migrate() {
    for swap in SWAPS {
        let database = Database::fresh().await;
        // This order is older than the source, so it never rings.
        let past = "set session_replication_role = replica; \
            insert into orders (id, store_id, status, created_at) values (1, 7, 'pending', now() - interval '1 day'); \
            reset session_replication_role";
        database.client().await.batch_execute(past).await.unwrap();
        let app = App::start_on(database, |_| ()).await;
        let mut panel = app.panel("7", None).await.live().await;
        for id in [2, 3, 4] {
            app.write(&format!(
                "insert into orders (id, store_id, status) values ({id}, 7, 'pending')"
            ))
            .await;
            assert_eq!(panel.event().await["type"], "new_order");
        }
        app.write(swap).await;
        app.write(
            "update orders set status = 'cancelled' where id = 2; delete from orders where id = 3; \
             insert into orders (id, store_id, status) values (5, 7, 'pending'), (6, 7, 'completed'); \
             insert into orders (id, store_id, status, created_at) values (7, 7, 'pending', now() - interval '1 year')",
        )
        .await;
        for _ in 0..2 {
            migrate::run(&app.database.config(), &mut |_| ()).await.unwrap();
        }
        let mut told = Vec::new();
        for _ in 0..4 {
            let event = panel.event().await;
            told.push((event["data"]["order_id"].clone(), event["type"].clone()));
        }
        told.sort_by_key(|(key, _)| key.to_string());
        let expected = [
            ("2", "order_cancelled"),
            ("3", "order_removed"),
            ("5", "new_order"),
            ("7", "new_order"),
        ];
        assert_eq!(told, expected.map(|(key, kind)| (json!(key), json!(kind))), "{swap}");
        app.write("update orders set status = 'ready' where id = 4").await;
        assert_eq!(panel.event().await["data"]["order_id"], "4", "{swap}");
    }
}

#[tokio::test]
async fn the_orders_of_a_new_table_with_the_same_keys_are_other_orders() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write(
        "insert into orders (id, store_id, status) values (1, 7, 'pending'), (2, 7, 'pending'), (3, 7, 'completed')",
    )
    .await;
    for key in ["1", "2"] {
        assert_eq!(panel.event().await["data"]["order_id"], key);
    }
    app.write("create table fresh (like orders including all); drop table orders; alter table fresh rename to orders")
        .await;
    app.write("insert into orders (id, store_id, status) values (1, 7, 'pending'), (3, 7, 'pending')")
        .await;
    migrate::run(&app.database.config(), &mut |_| ()).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..4 {
        let event = panel.event().await;
        told.push((event["data"]["order_id"].clone(), event["type"].clone()));
    }
    let removed = ["1", "2"].map(|key| (json!(key), json!("order_removed")));
    let new = ["1", "3"].map(|key| (json!(key), json!("new_order")));
    told[..2].sort_by_key(|(key, _)| key.to_string());
    told[2..].sort_by_key(|(key, _)| key.to_string());
    assert_eq!(told, [removed, new].concat());
}

#[tokio::test]
async fn the_log_names_the_replaced_table_as_the_cause_of_rows_without_events() {
    let telegram = Telegram::start().await;
    let database = Database::fresh().await;
    let settings = [("JOURNAL_RECONCILE_INTERVAL_SECONDS", "1")];
    let node = Node::serving(&database, &telegram.url(), &settings).await;
    node.until_said("compared the tables with the journal").await;
    let client = database.client().await;
    client.batch_execute(SWAPS[0]).await.unwrap();
    let line = node.until_said("another table has the name public.orders now").await;
    assert!(line.contains("the triggers are on public.orders_old"), "{line}");
    client
        .batch_execute("insert into orders (id, store_id, status) values (100, 7, 'pending')")
        .await
        .unwrap();
    let line = node.until_said("rows were written to a table without triggers").await;
    assert!(
        line.contains("public.orders")
            && line.contains("`vestnik migrate`")
            && !line.contains("session_replication_role"),
        "{line}"
    );
}
