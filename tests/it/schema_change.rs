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
