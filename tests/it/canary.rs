//! The canary, a self-test of each node: the node writes a synthetic order, and waits until a session at its own server
//! receives the order. Only operators see this order.

use std::time::Duration;

use serde_json::Value;
use vestnik::infra::config::{Config, ServedDatabase, Tls};
use vestnik::token::Stores;

use crate::doctor::doctor;
use crate::server::certificate;
use crate::support::app::{App, PATIENCE};
use crate::support::db::{Database, Server};
use crate::support::look_again;
use crate::support::node::Node;
use crate::support::pooler::Pooler;

/// The interval between two canaries, in tests that wait for several canaries.
const SOON: Duration = Duration::from_millis(50);
/// An interval so long that no second canary is sent during a test.
const LONG: Duration = Duration::from_secs(3600);

fn every(interval: Duration) -> impl FnOnce(&mut Config) {
    move |config| config.ops.canary_interval = Some(interval)
}

/// Waits until `/readyz` reports `word` as the state of the canary, with this HTTP status.
async fn until_ready(app: &App, word: &str, status: u16) {
    let mut answer = (0, String::new());
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            answer = app.get_ops("/readyz").await;
            if answer.0 == status && serde_json::from_str::<Value>(&answer.1).unwrap()["canary"] == word {
                return;
            }
            look_again().await;
        }
    });
    if waited.await.is_err() {
        panic!("the canary did not become {word:?} with {status}: {answer:?}");
    }
}

async fn count(database: &Database, what: &str) -> i64 {
    let client = database.client().await;
    client
        .query_one(&format!("select count(*) from {what}"), &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_comes_back_and_only_the_operator_learns_of_it() {
    let database = Database::fresh().await;
    let token = database.token(Stores::All).await;
    let mut node = Node::serving(&database, "http://127.0.0.1:1", &[("OPS_CANARY_INTERVAL_SECONDS", "1")]).await;
    database
        .until("select count(*) >= 3 from vestnik.vst_event where source = 0")
        .await;
    let client = database.client().await;
    let newest = "select round, store from vestnik.vst_canary";
    let row = client.query_one(newest, &[]).await.unwrap();
    let (round, store): (String, String) = (row.get(0), row.get(1));
    let get = format!(
        "GET /api/partner/stores/{store}/events HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let refused = crate::support::app::exchange(node.address().await, get.as_bytes()).await;
    let refused = String::from_utf8(refused).unwrap();
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    let metrics = node.metrics().await;
    for silent in [
        "vestnik_journal_events_total{type=\"insert\"} 0",
        "vestnik_events_total{type=\"new_order\"} 0",
        "vestnik_deliveries_total{mode=\"live\"} 0",
        "vestnik_event_delivery_seconds_count 0",
    ] {
        assert!(metrics.contains(silent), "{silent}: {metrics}");
    }
    assert!(!metrics.contains("vestnik_sessions_closed_total"), "{metrics}");
    for table in [
        "delivery",
        "receipt",
        "acknowledgement",
        "escalation",
        "webhook",
        "presence",
        "promise",
        "token_use where sessions <> '{}'",
        "status_change",
    ] {
        assert_eq!(count(&database, &format!("vestnik.vst_{table}")).await, 0, "{table}");
    }
    assert_eq!(vestnik::store::known(&client, 100).await.unwrap(), [""; 0]);
    assert_eq!(
        count(&database, "vestnik.vst_token").await,
        1,
        "the canary's token is in no table"
    );
    let audit = std::process::Command::new(env!("CARGO_BIN_EXE_vestnik"))
        .args(["audit", "--order", &round])
        .env("DATABASE_URL", database.url())
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    let said = String::from_utf8(audit.stdout).unwrap();
    assert!(!said.contains(&store) && !said.contains("new_order"), "{said}");
    let (said, _) = doctor(&database, &[]).await;
    assert!(said.contains("it comes back at the one node"), "{said}");
    node.signal(rustix::process::Signal::TERM);
    assert!(node.ended().await.success());
    let (said, _) = doctor(&database, &[]).await;
    assert!(said.contains("no node has sent one lately"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_canary_is_lost_the_node_is_not_ready_until_it_comes_back() {
    let app = App::start_with(every(SOON)).await;
    until_ready(&app, "back", 200).await;
    app.write("alter table vestnik.vst_canary disable trigger vestnik_record_insert")
        .await;
    until_ready(&app, "lost", 503).await;
    app.until_metric("vestnik_canary_failures_total{why=\"lost\"}", |failures| {
        failures >= 1.0
    })
    .await;
    let (said, code) = doctor(&app.database, &[]).await;
    assert!(
        said.contains("FAIL  canary") && said.contains("vestnik migrate"),
        "{said}"
    );
    assert_eq!(code, Some(1));
    vestnik::migrate::run(&app.database.config(), &mut |_| ())
        .await
        .unwrap();
    until_ready(&app, "back", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_the_canary_is_named() {
    let app = App::start_with(every(SOON)).await;
    until_ready(&app, "back", 200).await;
    app.write("alter table vestnik.vst_canary rename to vst_elsewhere")
        .await;
    until_ready(&app, "not_migrated", 503).await;
    app.write("alter table vestnik.vst_elsewhere rename to vst_canary")
        .await;
    until_ready(&app, "back", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_canaries_are_few_and_those_of_nodes_that_are_gone_go() {
    let app = App::start_with(every(SOON)).await;
    let other = vestnik::engine::Engine::start(&{
        let mut config = app.database.config();
        config.http.listen = ([127, 0, 0, 1], 0).into();
        every(SOON)(&mut config);
        config
    })
    .await
    .unwrap();
    // Postgres never reuses an event id, so the newest id is the number of canaries of both nodes.
    app.database
        .until("select coalesce(max(id), 0) > 60 from vestnik.vst_event")
        .await;
    assert_eq!(
        count(
            &app.database,
            "vestnik.vst_canary where outcome = 'back' or outcome is null"
        )
        .await,
        2
    );
    assert!(count(&app.database, "vestnik.vst_event").await <= 20);
    other.shut_down().await;
    app.write("update vestnik.vst_canary set until = until - interval '2 days' where until < now()")
        .await;
    app.database
        .until("select count(*) = 1 and (select count(distinct store_id) = 1 from vestnik.vst_event) from vestnik.vst_canary")
        .await;
    until_ready(&app, "back", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cursor_breaks_because_the_rows_of_canaries_are_removed() {
    let mut server = Server::start(&[]);
    let app = App::start_on(Database::on(&server).await, every(SOON)).await;
    app.database
        .until("select coalesce(max(id), 0) > 40 from vestnik.vst_event")
        .await;
    // The panel's cursor covers only rows of canaries, and the engine has removed most of these rows.
    let cursor = app.panel("7", None).await.cursor;
    server.restart();
    until_ready(&app, "back", 200).await;
    app.database.until("select count(*) = 2 from vestnik.vst_lineage").await;
    // After 8 more canaries, the engine has removed every row from before the restart.
    app.database
        .until("select count(*) >= 8 and min(at) > pg_postmaster_start_time() from vestnik.vst_event")
        .await;
    app.write("insert into orders (store_id, customer_name) values (7, 'Ann')")
        .await;
    let back = app.panel("7", Some(&cursor)).await.live().await;
    let types: Vec<&str> = back
        .before_live
        .iter()
        .map(|message| message["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["new_order"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_canary_passes_tls_a_list_of_hosts_and_the_proxy_protocol() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, _): (Tls, _) = certificate(directory.path());
    let app = App::start_with(|config| {
        config.tls = Some(tls);
        config.http.hosts = vec!["orders.example:8000".into()];
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.http.proxy_protocol = true;
        config.http.listen = ([0, 0, 0, 0], 0).into();
        every(LONG)(config);
    })
    .await;
    until_ready(&app, "back", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_canary_comes_back_behind_a_transaction_pooler() {
    let database = Database::fresh().await;
    let pooler = Pooler::before(&database).await;
    let url = pooler.url(&database);
    let app = App::start_on(database, |config| {
        config.database.url = Some(url.into());
        every(SOON)(config);
    })
    .await;
    app.database
        .until("select count(*) >= 5 from vestnik.vst_event where source = 0")
        .await;
    until_ready(&app, "back", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_databases_has_its_canary() {
    let (first, second) = (Database::fresh().await, Database::fresh().await);
    let served = |name: &str, database: &Database| ServedDatabase {
        name: name.into(),
        database: database.config().database,
        stores: None,
        telegram: None,
    };
    let databases = vec![served("one", &first), served("two", &second)];
    let app = App::start_on(first, |config| {
        config.databases = databases;
        every(SOON)(config);
    })
    .await;
    let said = async |word: &str| {
        loop {
            let (status, body) = app.get_ops("/readyz").await;
            let body: Value = serde_json::from_str(&body).unwrap();
            if body["canaries"]["one"] == "back" && body["canaries"]["two"] == word {
                return status;
            }
            look_again().await;
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, said("back")).await.unwrap(), 200);
    let client = second.client().await;
    client
        .batch_execute("alter table vestnik.vst_canary rename to vst_elsewhere")
        .await
        .unwrap();
    // A node is ready while at least one of its databases is ready.
    assert_eq!(tokio::time::timeout(PATIENCE, said("not_migrated")).await.unwrap(), 200);
}
