//! Another table takes the place of a table of a derived source: a renamed copy, as in a migration of the shop, or a new
//! table with keys that start at 1 again.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vestnik::migrate;
use vestnik::sources::health;

use crate::support::app::{App, Panel};
use crate::support::db::Database;

const TABLES: &str = "create table bills (id int primary key, shop int, state text default 'new', made timestamptz default now()); \
    create table bill_lines (id serial primary key, bill_id int, name text)";
const MAPPING: &str = "table = 'public.bills'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\n\
    status = \"case o.state when 'new' then 'pending' when 'done' then 'completed' else o.state end\"\ncreated_at = 'o.made'\n\
    items = \"select l.name from bill_lines l where l.bill_id = o.id order by l.id\"\nwait_for_items_ms = 0\n\
    [[derived.watch]]\ntable = 'bill_lines'\ncolumn = 'bill_id'\n";

/// A shop with three orders, of which the kitchen has accepted the first and the shop has completed the third.
async fn restaurant() -> (App, Panel) {
    let database = Database::fresh().await;
    database.client().await.batch_execute(TABLES).await.unwrap();
    database.attach(MAPPING).await;
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    for id in 1..=3 {
        app.write(&format!("insert into bills (id, shop) values ({id}, 7)"))
            .await;
        assert_eq!(panel.event().await["type"], "new_order");
    }
    let answer = json!({"status": "preparing", "minutes": 25, "by": "Kitchen"});
    assert_eq!(
        app.post("/api/partner/stores/7/orders/1/status", &answer).await.status,
        200
    );
    assert_eq!(panel.event().await["type"], "order_status_changed");
    app.write("update bills set state = 'done' where id = 3").await;
    assert_eq!(panel.event().await["type"], "order_status_changed");
    (app, panel)
}

async fn troubles(app: &App) -> String {
    let sources = health::check(&app.database.client().await).await.unwrap();
    let bills = sources.into_iter().find(|source| source.name == "bills").unwrap();
    bills.troubles.join("\n")
}

async fn migrate(app: &App) {
    migrate::run(&app.database.config(), &mut |_| ()).await.unwrap();
}

/// Puts a renamed copy in the place of a table.
fn swap(table: &str) -> String {
    format!(
        "begin; create table copy (like {table} including all); insert into copy select * from {table}; \
         alter table {table} rename to {table}_old; alter table copy rename to {table}; commit"
    )
}

/// The next events, by their orders: the type and the status.
async fn next(panel: &mut Panel, count: usize) -> BTreeMap<String, (Value, Value)> {
    let mut told = BTreeMap::new();
    for _ in 0..count {
        let event = panel.event().await;
        let (key, data) = (event["data"]["order_id"].as_str().unwrap(), &event["data"]);
        let before = told.insert(key.to_owned(), (event["type"].clone(), data["status"].clone()));
        assert_eq!(before, None, "{event}");
    }
    told
}

#[tokio::test]
async fn what_is_written_to_a_renamed_copy_of_the_orders_is_told_by_migrate() {
    let (app, mut panel) = restaurant().await;
    app.write(&swap("bills")).await;
    let said = troubles(&app).await;
    assert!(
        said.contains("another table has the name public.bills now") && said.contains("public.bills_old"),
        "{said}"
    );
    app.write(
        "update bills set state = 'cancelled' where id = 2; update bills set state = 'new' where id = 3; \
         insert into bills (id, shop) values (4, 7)",
    )
    .await;
    migrate(&app).await;
    let told = next(&mut panel, 3).await;
    assert_eq!(told["2"], (json!("order_cancelled"), json!("cancelled")), "{told:?}");
    assert_eq!(told["3"].1, "pending", "{told:?}");
    assert_eq!(told["4"], (json!("new_order"), json!("pending")), "{told:?}");
    assert_eq!(troubles(&app).await, "");
    let list = app.get_json("/api/partner/stores/7/orders?status=all").await;
    let first = list["orders"]
        .as_array()
        .unwrap()
        .iter()
        .find(|order| order["id"] == "1");
    let first = first.unwrap();
    assert_eq!(
        (&first["status"], &first["promised_minutes"]),
        (&json!("preparing"), &json!(25)),
        "{first}"
    );
    app.write("update bills set state = 'cancelled' where id = 1").await;
    assert_eq!(panel.event().await["data"]["order_id"], "1");
}

#[tokio::test]
async fn what_is_written_to_a_renamed_copy_of_a_watched_table_is_told_by_migrate() {
    let (app, mut panel) = restaurant().await;
    app.write(&swap("bill_lines")).await;
    let said = troubles(&app).await;
    assert!(
        said.contains("another table has the name public.bill_lines now"),
        "{said}"
    );
    app.write("insert into bill_lines (bill_id, name) values (1, 'Soup')")
        .await;
    migrate(&app).await;
    let event = panel.event().await;
    assert_eq!(
        (
            &event["type"],
            &event["data"]["items"][0]["name"],
            &event["data"]["status"]
        ),
        (&json!("order_changed"), &json!("Soup"), &json!("preparing")),
        "{event}"
    );
    assert_eq!(troubles(&app).await, "");
}

#[tokio::test]
async fn the_orders_of_a_new_table_with_the_same_keys_are_other_orders() {
    for is_at_once in [true, false] {
        let (app, mut panel) = restaurant().await;
        app.write("drop table bills, bill_lines").await;
        app.write(TABLES).await;
        let insert = "insert into bills (id, shop) values (1, 7)";
        if !is_at_once {
            app.write(insert).await;
        }
        migrate(&app).await;
        let removed = next(&mut panel, 2).await;
        for key in ["1", "2"] {
            assert_eq!(removed[key].0, "order_removed", "{removed:?}");
        }
        if is_at_once {
            app.write(insert).await;
        }
        let new = panel.event().await;
        assert_eq!(
            (&new["type"], &new["data"]["order_id"], &new["data"]["status"]),
            (&json!("new_order"), &json!("1"), &json!("pending")),
            "{new}"
        );
        let list = app.get_json("/api/partner/stores/7/orders?status=all").await;
        let orders = list["orders"].as_array().unwrap();
        assert_eq!(
            (orders.len(), &orders[0]["status"], &orders[0]["promised_minutes"]),
            (1, &json!("pending"), &Value::Null),
            "{list}"
        );
    }
}
