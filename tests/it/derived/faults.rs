//! Faults of a derived source: nodes and a Postgres that fail while orders are computed, items that come late, and rows
//! that go.

use std::time::Duration;

use serde_json::json;
use vestnik::sources::derived::trim;

use super::shop::{Shop, mapping, parts};
use crate::support::app::App;
use crate::support::breakable::Breakable;
use crate::support::db::Database;
use crate::support::node::Node;
use crate::support::telegram::Telegram;

/// SQL that inserts an order with one item into the tables of Spree, a shop system, in one transaction.
pub fn order(number: usize) -> String {
    format!(
        "begin; with made as (insert into spree_orders (number, state, status, currency, store_id, completed_at, payment_state, shipment_state, total, created_at, updated_at) \
             values ('R{number}', 'complete', 'placed', 'USD', 1, now(), 'paid', 'ready', 19.00, now(), now()) returning id) \
         insert into spree_line_items (variant_id, order_id, quantity, price, currency, created_at, updated_at) \
             select 1, id, 2, 9.50, 'USD', now(), now() from made; commit"
    )
}

#[tokio::test]
async fn an_order_is_sent_with_the_items_that_are_written_after_it() {
    let mut shop = Shop::open("spree", "read committed").await;
    let patient = mapping("spree").replace("wait_for_items_ms = 100", "wait_for_items_ms = 60000");
    shop.app.database.attach(&patient).await;
    shop.write(
        "insert into spree_orders (number, state, status, currency, store_id, completed_at, total, created_at, updated_at) \
         values ('R1', 'complete', 'placed', 'USD', 1, now(), 19.00, now(), now())",
    )
    .await;
    shop.app
        .database
        .until("select exists (select from vestnik.vst_wait) and not exists (select from vestnik.vst_change)")
        .await;
    assert_eq!(shop.list("1").await.len(), 0);
    let client = shop.app.database.client().await;
    let since: time::OffsetDateTime = client
        .query_one("select since from vestnik.vst_wait", &[])
        .await
        .unwrap()
        .get(0);
    shop.write("insert into spree_line_items (variant_id, order_id, quantity, price, currency, created_at, updated_at) values (1, 1, 2, 9.50, 'USD', now(), now())")
        .await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["items"][0]["quantity"]),
        (&json!("new_order"), &json!(2))
    );
    // The event has the time at which the shop wrote the order, not the time at which the shop wrote the item.
    let newest = "select at from vestnik.vst_event order by id desc limit 1";
    let at: time::OffsetDateTime = client.query_one(newest, &[]).await.unwrap().get(0);
    assert_eq!(at, since);
    shop.settle().await;
}

#[tokio::test]
async fn a_row_that_is_deleted_is_gone_for_its_panel_and_so_are_all_of_an_emptied_table() {
    let mut shop = Shop::open("spree", "read committed").await;
    for number in 1..=3 {
        shop.write(&order(number)).await;
        assert_eq!(shop.event("1").await["type"], "new_order");
    }
    shop.write("delete from spree_orders where id = 1").await;
    assert_eq!(shop.event("1").await["type"], "order_removed");
    assert_eq!(shop.list("1").await.len(), 2);
    shop.write("truncate spree_orders").await;
    shop.settle().await;
    assert_eq!(shop.list("1").await.len(), 0);
}

#[tokio::test]
async fn what_was_said_of_orders_that_are_over_is_trimmed_and_no_open_order_is_lost() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const STATUS: &str = "/api/partner/stores/1/orders/4/status";
    let mut shop = Shop::open("spree", "read committed").await;
    for number in 1..=4 {
        shop.write(&order(number)).await;
        assert_eq!(shop.event("1").await["type"], "new_order");
    }
    // Order 1 is completed and old. Order 2 is completed and new. Order 3 is open and old. Order 4 is old, and a
    // person has rejected it, but it is open in the shop's tables.
    shop.write("update spree_orders set shipment_state = 'shipped' where id in (1, 2)")
        .await;
    shop.event("1").await;
    shop.event("1").await;
    assert_eq!(shop.app.post(STATUS, &json!({"status": "rejected"})).await.status, 200);
    shop.event("1").await;
    shop.write("update vestnik.vst_projection_3 set told_at = now() - interval '31 day' where key <> '2'")
        .await;
    let pool = vestnik::infra::db::pool(&shop.app.database.config().database).unwrap();
    assert_eq!(trim::trim(&pool, 30 * DAY).await.unwrap(), 1);
    assert_eq!(trim::trim(&pool, 30 * DAY).await.unwrap(), 0);
    let list = shop.list("1").await;
    let mut kept: Vec<&str> = list.iter().map(|row| row["id"].as_str().unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["2", "3", "4"]);

    // The shop writes all four orders again. Order 1 was trimmed, so it creates no event. Order 4 stays rejected.
    shop.write("update spree_orders set total = 20").await;
    for _ in 2..=4 {
        let event = shop.event("1").await;
        assert_eq!(event["type"], "order_changed", "{event}");
    }
    shop.write("update spree_orders set shipment_state = 'ready' where id = 1")
        .await;
    let again = shop.event("1").await;
    assert_eq!(
        (&again["data"]["order_id"], &again["data"]["status"]),
        (&json!("1"), &json!("pending"))
    );
}

#[tokio::test]
async fn orders_that_are_over_are_trimmed_in_batches() {
    let shop = Shop::open("spree", "read committed").await;
    // These rows have no order in the shop, so the first computation of all orders would delete them.
    shop.settle().await;
    let many = trim::BATCH_ORDERS + 1;
    shop.write(&format!(
        "insert into vestnik.vst_projection_3 (key, store_id, status, created_at, data, shop_status, told_at) \
             select 'x' || n, '1', 'completed', now(), '{{}}', 'completed', now() - interval '2 day' from generate_series(1, {many}) n"
    ))
    .await;
    let pool = vestnik::infra::db::pool(&shop.app.database.config().database).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    assert_eq!(trim::trim(&pool, day).await.unwrap(), trim::BATCH_ORDERS.unsigned_abs());
    assert_eq!(trim::trim(&pool, day).await.unwrap(), 1);
}

#[tokio::test]
async fn nodes_that_are_killed_while_they_project_lose_nothing_and_publish_nothing_twice() {
    let (telegram, database) = Telegram::with_chat(701).await;
    let writer = database.client().await;
    writer.batch_execute(&parts("spree").0).await.unwrap();
    database.attach(&mapping("spree")).await;
    let mut written = 0;
    // No node runs yet, so these orders are not computed yet.
    for _ in 0..30 {
        written += 1;
        writer.batch_execute(&order(written)).await.unwrap();
    }
    let mut nodes = vec![Node::serving(&database, &telegram.url(), &[]).await];
    for _ in 0..3 {
        nodes.push(Node::serving(&database, &telegram.url(), &[]).await);
        for _ in 0..30 {
            written += 1;
            writer.batch_execute(&order(written)).await.unwrap();
        }
        nodes.remove(0).kill();
        for _ in 0..10 {
            written += 1;
            writer.batch_execute(&order(written)).await.unwrap();
        }
    }
    database
        .until("select not exists (select from vestnik.vst_change) and not exists (select from vestnik.vst_wait)")
        .await;
    const TOLD: &str =
        "select count(*), count(distinct key), count(*) filter (where type = 'insert') from vestnik.vst_event";
    let row = writer.query_one(TOLD, &[]).await.unwrap();
    let written = i64::try_from(written).unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)),
        (written, written, written)
    );
}

#[tokio::test]
async fn after_an_hour_without_a_node_each_order_is_told_once_as_it_is_by_then() {
    let database = Database::fresh().await;
    let writer = database.client().await;
    writer.batch_execute(&parts("spree").0).await.unwrap();
    database.attach(&mapping("spree")).await;
    for number in 1..=20 {
        writer.batch_execute(&order(number)).await.unwrap();
    }
    let meanwhile = "update spree_orders set state = 'canceled', status = 'canceled' where number = 'R5'; \
         delete from spree_line_items where order_id = (select id from spree_orders where number = 'R6'); \
         delete from spree_orders where number = 'R6'; \
         update spree_orders set total = 20.00 where number = 'R7'; \
         update vestnik.vst_change set at = at - interval '1 hour'";
    writer.batch_execute(meanwhile).await.unwrap();
    let app = App::start_on(database, |_| ()).await;
    app.database
        .until("select not exists (select from vestnik.vst_change) and not exists (select from vestnik.vst_wait)")
        .await;
    let open = app.get_json("/api/partner/stores/1/orders").await;
    let numbers: Vec<String> = (1..=20)
        .filter(|number| ![5, 6].contains(number))
        .map(|number| format!("R{number}"))
        .collect();
    let mut listed: Vec<&str> = open["orders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|order| order["number"].as_str().unwrap())
        .collect();
    listed.sort_by_key(|number| number[1..].parse::<u32>().unwrap());
    assert_eq!(listed, numbers);
    // Before the node started, the shop cancelled order R5 and removed order R6. Clients never saw order R6, so it must
    // have no event. The comparison below leaves out order R5.
    let history = app.get_json("/api/partner/stores/1/events?limit=100").await;
    let mut told: Vec<(&str, &str, i64)> = history["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let data = &event["data"];
            let number = data["number"].as_str().unwrap();
            (
                event["type"].as_str().unwrap(),
                number,
                data["total"].as_i64().unwrap_or_default(),
            )
        })
        .filter(|(_, number, _)| *number != "R5")
        .collect();
    told.sort_by_key(|(_, number, _)| number[1..].parse::<u32>().unwrap());
    let wanted: Vec<(&str, &str, i64)> = numbers
        .iter()
        .map(|number| ("new_order", number.as_str(), if number == "R7" { 2000 } else { 1900 }))
        .collect();
    assert_eq!(told, wanted, "{history}");
    let times = "select bool_and(at < now() - interval '59 minutes') from vestnik.vst_event where type = 'insert' and source <> 0";
    let are_the_shops: bool = app.database.client().await.query_one(times, &[]).await.unwrap().get(0);
    assert!(are_the_shops, "the events have the times of the shop's writes");
}

#[tokio::test]
async fn a_restart_of_postgres_while_orders_are_projected_loses_nothing_and_publishes_nothing_twice() {
    let (mut postgres, database) = Breakable::start().await;
    database.client().await.batch_execute(&parts("spree").0).await.unwrap();
    database.attach(&mapping("spree")).await;
    let app = App::start_on(database, |_| ()).await;
    let mut written = 0;
    for restart in 0..2 {
        let writer = app.database.client().await;
        for _ in 0..20 {
            written += 1;
            writer.batch_execute(&order(written)).await.unwrap();
        }
        match restart {
            0 => postgres.restart_immediate().await,
            _ => postgres.restart_fast().await,
        }
    }
    app.database
        .until("select not exists (select from vestnik.vst_change) and not exists (select from vestnik.vst_wait)")
        .await;
    let writer = app.database.client().await;
    let row = writer
        .query_one("select count(*), count(distinct key) from vestnik.vst_event", &[])
        .await
        .unwrap();
    let written = i64::try_from(written).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (written, written));
    drop(writer);
    app.engine.shut_down().await;
    postgres.stop().await;
}
