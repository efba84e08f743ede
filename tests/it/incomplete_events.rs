//! A column of a store or a key has another name for a while, as in a migration that is reverted. The orders that were
//! written meanwhile ring late, each once.

use std::time::Duration;

use vestnik::infra::db::Pool;
use vestnik::sources::health;
use vestnik::sources::incomplete_events::{RecordedLate, record};

use crate::support::app::App;
use crate::support::db::Database;
use crate::support::node::Node;
use crate::support::telegram::Telegram;

fn pool(database: &Database) -> Pool {
    vestnik::infra::db::pool(&database.config().database).unwrap()
}

fn late(rows: u64) -> Vec<RecordedLate> {
    vec![RecordedLate {
        table: "public.orders".into(),
        rows,
    }]
}

/// The problems of the reference shop's orders, as `source list` and doctor say them.
async fn troubles(database: &Database) -> String {
    let health = health::check(&database.client().await).await.unwrap();
    let orders = health.iter().find(|health| health.table == "public.orders").unwrap();
    orders.troubles.join("\n")
}

#[tokio::test]
async fn orders_written_while_the_store_column_had_another_name_ring_late_once() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    let pool = pool(&app.database);
    app.write("insert into orders (store_id, total) values (7, 100)").await;
    assert_eq!(panel.event().await["data"]["order_id"], "1");
    app.write("alter table orders rename store_id to room").await;
    app.write("insert into orders (room, total) values (7, 200); update orders set status = 'ready' where total = 100")
        .await;
    assert_eq!(record(&pool).await.unwrap(), [], "the name is not back");
    assert!(troubles(&app.database).await.contains("no column store_id any more"));
    app.write("alter table orders rename room to store_id").await;
    let said = troubles(&app.database).await;
    assert!(said.contains("nobody was told") && said.ends_with("2 rows"), "{said}");

    // Two nodes find the rows at once.
    let (one, other) = tokio::join!(record(&pool), record(&pool));
    let both = [one.unwrap(), other.unwrap()].concat();
    assert_eq!(both, late(2));
    // The order was written before the update.
    let event = panel.event().await;
    assert_eq!(
        (event["type"].as_str(), &event["data"]["total"]),
        (Some("new_order"), &200.into())
    );
    let event = panel.event().await;
    assert_eq!(
        (event["type"].as_str(), &event["data"]["order_id"]),
        (Some("order_status_changed"), &"1".into())
    );
    assert_eq!(troubles(&app.database).await, "");
    assert_eq!(record(&pool).await.unwrap(), []);

    // An order that changes after the name is back, and before it is recorded, rings too.
    app.write("alter table orders rename store_id to room").await;
    app.write("insert into orders (room, total) values (7, 300)").await;
    app.write("alter table orders rename room to store_id").await;
    app.write("update orders set total = 400 where total = 300").await;
    assert_eq!(panel.event().await["type"], "order_changed");
    assert_eq!(record(&pool).await.unwrap(), late(1));
    let event = panel.event().await;
    assert_eq!(
        (event["type"].as_str(), &event["data"]["total"]),
        (Some("new_order"), &400.into())
    );
}

#[tokio::test]
async fn orders_written_while_the_key_column_had_another_name_ring_with_their_key() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    let pool = pool(&app.database);
    app.write("insert into orders (store_id, total) values (7, 100)").await;
    assert_eq!(panel.event().await["data"]["order_id"], "1");
    app.write("alter table orders rename id to number").await;
    app.write("insert into orders (store_id, total) values (7, 200)").await;
    let event = panel.event().await;
    assert_eq!(event["data"]["total"], 200);
    let unknown = event["data"]["order_id"].clone();
    assert_eq!(record(&pool).await.unwrap(), []);
    app.write("alter table orders rename number to id").await;
    assert!(troubles(&app.database).await.contains("nobody was told"));
    assert_eq!(record(&pool).await.unwrap(), late(1));
    let event = panel.event().await;
    assert_eq!(
        (event["type"].as_str(), &event["data"]["order_id"]),
        (Some("new_order"), &"2".into())
    );
    // The panel also knows the order under the id of its event.
    let event = panel.event().await;
    assert_eq!(
        (event["type"].as_str(), &event["data"]["order_id"]),
        (Some("order_removed"), &unknown)
    );
    assert_eq!(record(&pool).await.unwrap(), []);
    assert_eq!(troubles(&app.database).await, "");
}

#[tokio::test]
async fn a_row_that_has_no_store_or_gets_one_later_is_not_recorded_anew() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let shop = async |sql: &str| client.batch_execute(sql).await.unwrap();
    shop("create table tickets (id uuid primary key default gen_random_uuid(), store_id int, status text)").await;
    database
        .attach("table = 'public.tickets'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n[status]\ncolumn = 'status'\npending = ['new']\n")
        .await;
    let pool = pool(&database);
    shop("insert into tickets (store_id, status) values (null, 'new'), (null, 'new')").await;
    assert_eq!(record(&pool).await.unwrap(), []);
    shop("update tickets set store_id = 8 where id = (select min(id::text) from tickets)::uuid").await;
    assert_eq!(record(&pool).await.unwrap(), []);
    // Rows from before the source, and rows that were written past the triggers, are not of this kind.
    shop("set session_replication_role = replica; insert into tickets (store_id, status) values (8, 'new'); reset session_replication_role").await;
    assert_eq!(record(&pool).await.unwrap(), []);
}

#[tokio::test]
async fn the_log_says_what_is_recorded_late_and_that_the_source_is_healthy_again() {
    let telegram = Telegram::start().await;
    let database = Database::fresh().await;
    let client = database.client().await;
    let shop = async |sql: &str| client.batch_execute(sql).await.unwrap();
    shop("alter table orders rename store_id to room").await;
    shop("insert into orders (room) values (7)").await;
    let node = Node::serving(
        &database,
        &telegram.url(),
        &[("JOURNAL_RECONCILE_INTERVAL_SECONDS", "1")],
    )
    .await;
    node.until_said("it has no column store_id any more").await;
    shop("alter table orders rename room to store_id").await;
    let line = node.until_said("they are recorded now, and ring late").await;
    assert!(line.contains("public.orders") && line.contains("rows=1"), "{line}");
    let line = node.until_said_within(Duration::from_secs(60), "healthy again").await;
    assert!(line.contains("source=\"orders\""), "{line}");
}
