//! What the shop writes while the column that leads to the orders has another name, as during a migration of the shop.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::app::{App, Panel};
use crate::support::db::Database;

const TABLES: &str = "create table bills (id text primary key, shop int, guests text); \
    create table bill_lines (id serial primary key, bill_id text, name text)";
const MAPPING: &str = "table = 'public.bills'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\n\
    comment = 'o.guests'\nitems = \"select l.name from bill_lines l where l.bill_id = o.id order by l.id\"\n\
    [[derived.watch]]\ntable = 'bill_lines'\ncolumn = 'bill_id'\n";

/// A shop whose tables are attached, with one order, and a panel of its store that has received the order.
async fn restaurant() -> (App, Panel) {
    let database = Database::fresh().await;
    database.client().await.batch_execute(TABLES).await.unwrap();
    database.attach(MAPPING).await;
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("begin; insert into bills values ('t1', 7, 'Anna'); insert into bill_lines (bill_id, name) values ('t1', 'Soup'); commit")
        .await;
    assert_eq!(panel.event().await["data"]["items"][0]["name"], "Soup");
    (app, panel)
}

#[tokio::test]
async fn a_row_that_was_written_while_the_watched_column_had_another_name_reaches_its_order() {
    let (app, mut panel) = restaurant().await;
    app.write("alter table bill_lines rename bill_id to the_bill").await;
    app.write("insert into bill_lines (the_bill, name) values ('t1', 'Tea')")
        .await;
    let unreadable = panel.event().await;
    assert_eq!(unreadable["data"]["items"][0]["name"], "?", "{unreadable}");
    app.write("alter table bill_lines rename the_bill to bill_id").await;
    let changed = panel.event().await;
    assert_eq!(
        (&changed["type"], &changed["data"]["items"][1]["name"]),
        (&json!("order_changed"), &json!("Tea")),
        "{changed}"
    );
}

#[tokio::test]
async fn a_new_order_rings_although_hundreds_of_open_orders_cannot_be_computed() {
    let (app, mut panel) = restaurant().await;
    app.write(
        "begin; insert into bills select 'b' || n, 8, 'Boris' from generate_series(1, 600) n; \
         insert into bill_lines (bill_id, name) select id, 'Soup' from bills where shop = 8; commit",
    )
    .await;
    let mut other = app.panel("8", None).await.live().await;
    while other.event().await["data"]["order_id"] != "b600" {}
    app.write("alter table bill_lines rename bill_id to the_bill").await;
    app.write("update bill_lines set name = 'Tea'").await;
    app.write("begin; insert into bills values ('t2', 7, 'Cleo'); insert into bill_lines (the_bill, name) values ('t2', 'Soup'); commit")
        .await;
    while panel.event().await["data"]["order_id"] != "t2" {}
    let locks = "select count(*) from pg_locks where locktype = 'transactionid'";
    let locks: i64 = app
        .database
        .client()
        .await
        .query_one(locks, &[])
        .await
        .unwrap()
        .try_get(0)
        .unwrap();
    assert!(locks < 100, "{locks}");
}

#[tokio::test]
async fn what_was_written_while_the_key_had_another_name_is_told_once_it_is_back() {
    let (app, mut panel) = restaurant().await;
    for id in ["t2", "t3"] {
        app.write(&format!("insert into bills values ('{id}', 7, 'Boris')"))
            .await;
        assert_eq!(panel.event().await["data"]["order_id"], id);
    }
    app.write("alter table bills rename id to bill").await;
    let meanwhile = "insert into bills values ('t4', 7, 'Cleo'); update bills set guests = 'Anna, Dora' where bill = 't1'; \
        delete from bills where bill = 't2'";
    for write in meanwhile.split("; ") {
        app.write(write).await;
    }
    app.write("alter table bills rename bill to id").await;
    let mut told = BTreeMap::new();
    while told.len() < 3 {
        let event = panel.event().await;
        told.insert(
            event["data"]["order_id"].as_str().unwrap().to_owned(),
            (event["type"].clone(), event["data"]["comment"].clone()),
        );
    }
    for (key, kind, comment) in [
        ("t1", "order_changed", json!("Anna, Dora")),
        ("t2", "order_removed", json!(null)),
        ("t4", "new_order", json!("Cleo")),
    ] {
        assert_eq!(told[key], (json!(kind), comment), "{key}");
    }
}
