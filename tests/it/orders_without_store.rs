//! An order of a direct source has no store: nobody sees it, so the health report, doctor and the log name it. It rings
//! when its row gets a store.

use vestnik::sources::health;

use crate::doctor::{doctor, line};
use crate::support::app::App;
use crate::support::db::Database;
use crate::support::look_again;
use crate::support::node::Node;
use crate::support::telegram::Telegram;

const MAPPING: &str = "table = 'public.tickets'\nkey = 'id'\nkind = 'order'\nstore = 'store'\n[status]\ncolumn = 'status'\n\
     pending = ['new']\npreparing = ['taken']\ncompleted = ['done']\nhidden = ['cart']\n[fields]\ndeleted_at = 'deleted_at'\n";

async fn tickets() -> Database {
    let database = Database::fresh().await;
    let client = database.client().await;
    client
        .batch_execute("create table tickets (id int primary key, store text, status text, deleted_at timestamptz)")
        .await
        .unwrap();
    database.attach(MAPPING).await;
    database
}

async fn troubles(database: &Database) -> String {
    let health = health::check(&database.client().await).await.unwrap();
    let tickets = health.iter().find(|health| health.table == "public.tickets").unwrap();
    tickets.troubles.join("\n")
}

#[tokio::test]
async fn open_orders_without_a_store_are_counted_until_they_have_one_and_ring_then() {
    let app = App::start_on(tickets().await, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    let said = async || troubles(&app.database).await;
    // A cart, an order that is over, and a deleted one need no store.
    app.write("insert into tickets values (1, null, 'cart', null), (2, null, 'done', null), (3, null, 'new', now())")
        .await;
    assert_eq!(said().await, "");
    app.write("insert into tickets values (4, null, 'new'), (5, '', 'new'), (6, repeat('x', 201), 'new')")
        .await;
    assert!(said().await.contains("open orders have no store"), "{}", said().await);
    assert!(
        said().await.ends_with("3 orders, the newest with key 6"),
        "{}",
        said().await
    );
    let (report, _) = doctor(&app.database, &[]).await;
    assert!(line(&report, "public.tickets").starts_with("FAIL"), "{report}");
    assert!(report.contains("open orders have no store"), "{report}");

    for key in [4, 5, 6] {
        app.write(&format!("update tickets set store = '7' where id = {key}"))
            .await;
        let event = panel.event().await;
        assert_eq!(
            (event["type"].as_str(), event["data"]["order_id"].as_str()),
            (Some("new_order"), Some(key.to_string().as_str()))
        );
    }
    assert_eq!(said().await, "");
    // A cart without a store becomes an order.
    app.write("update tickets set status = 'new' where id = 1").await;
    assert!(
        said().await.ends_with("1 order, the newest with key 1"),
        "{}",
        said().await
    );
}

#[tokio::test]
async fn the_log_names_an_order_without_a_store() {
    let telegram = Telegram::start().await;
    let database = tickets().await;
    let client = database.client().await;
    let node = Node::serving(&database, &telegram.url(), &[]).await;
    let shop = async |sql: String| client.batch_execute(&sql).await.unwrap();
    let named = || {
        let log = node.log();
        log.into_iter().find(|line| line.contains("nobody receives it"))
    };
    // What was written before the node began to read is not in its log.
    let mut key = 100;
    while named().is_none() {
        shop(format!(
            "insert into tickets values (1{key}, null, 'cart'), (2{key}, null, 'new'); \
             update tickets set store = '7' where id = 2{key}; \
             insert into tickets values (3{key}, null, 'new')"
        ))
        .await;
        key += 1;
        look_again().await;
    }
    let line = named().unwrap();
    assert!(
        line.contains("source=\"tickets\"") && line.contains("key=\"3"),
        "{line}"
    );
    node.until_said("open orders have no store").await;
}
