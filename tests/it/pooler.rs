//! Behind a pooler in transaction mode, all functions of the engine work. The engine leaves no session state on the
//! pooler's connections.

use secrecy::SecretString;
use serde_json::json;
use vestnik::token::Stores;

use crate::support::app::App;
use crate::support::db::Database;
use crate::support::pooler::{Pooler, SESSIONS};

const ORDER: &str = "insert into orders (store_id, customer_name, total) values (7, 'Anna', 900)";
const SUMMARY: &str = "summary?from=2026-11-01T00:00:00Z&to=2026-11-20T00:00:00Z";
/// Lists the session state that earlier clients have left on a connection to Postgres.
const LEFT_BEHIND: &str = "select concat_ws(', ', \
     (select string_agg(name, ' ') from pg_prepared_statements), \
     (select string_agg(channel, ' ') from pg_listening_channels() channel), \
     (select string_agg(name || '=' || setting, ' ') from pg_settings where source = 'session' \
         and name not in ('application_name', 'client_encoding', 'transaction_isolation', 'transaction_read_only', 'transaction_deferrable')), \
     (select string_agg(objid::text, ' ') from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()))";

/// The session state on each of the pooler's connections to Postgres.
pub async fn left_behind(url: &str) -> Vec<String> {
    let (mut clients, mut left) = (Vec::new(), Vec::new());
    for _ in 0..SESSIONS {
        let (client, connection) = vestnik::infra::db::connect_raw(&SecretString::from(url), "psql")
            .await
            .unwrap();
        tokio::spawn(connection);
        // While a transaction is open, the pooler gives its Postgres connection to no other client. So each client gets
        // a different connection.
        client.batch_execute("begin").await.unwrap();
        let answer = client.simple_query(LEFT_BEHIND).await.unwrap();
        let row = answer.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        left.extend(row.filter(|row| !row.is_empty()));
        clients.push(client);
    }
    left
}

/// Starts an engine behind a pooler. If `listen` is true, the engine also has a direct URL for LISTEN.
async fn pooled(listen: bool) -> (Pooler, String, App) {
    let database = Database::fresh().await;
    let pooler = Pooler::before(&database).await;
    let (url, direct) = (pooler.url(&database), SecretString::from(database.url().to_owned()));
    let through = SecretString::from(url.clone());
    let app = App::start_on(database, |config| {
        config.database.url = Some(through);
        config.database.listen_url = listen.then_some(direct);
    })
    .await;
    (pooler, url, app)
}

/// Asserts that the main functions work. A panel gets an order, lists it, answers it and acknowledges it. The panel
/// reconnects with its cursor. A large transaction arrives.
async fn works(app: &App) {
    let mut panel = app.panel("7", None).await.live().await;
    app.write(ORDER).await;
    let event = panel.event().await;
    assert_eq!(event["type"], "new_order");
    panel.acknowledge(event["id"].as_str().unwrap()).await;
    app.database
        .until("select exists (select from vestnik.vst_acknowledgement)")
        .await;
    let order = event["data"]["order_ids"][0].to_string();
    let list = app.get_json("/api/partner/stores/7/orders").await;
    let order = order.trim_matches('"');
    assert_eq!(list["orders"][0]["id"], *order);
    let path = format!("/api/partner/stores/7/orders/{order}/status");
    let answer = app.post(&path, &json!({"status": "preparing", "by": "Anna"})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(panel.event().await["type"], "order_status_changed");
    let cursor = panel.cursor.clone();
    drop(panel);
    app.write(ORDER).await;
    let panel = app.panel("7", Some(&cursor)).await.live().await;
    assert_eq!(
        panel
            .before_live
            .iter()
            .filter(|message| message["type"] == "new_order")
            .count(),
        1
    );
    let mut panel = panel;
    app.write("insert into orders (store_id, total) select 7, n from generate_series(1, 3000) n")
        .await;
    for _ in 0..3000 {
        panel.event().await;
    }
    for path in ["events?limit=10", "bookings", "receipts", SUMMARY, "store"] {
        let (status, body) = app
            .get(&format!("/api/partner/stores/7/{path}"), Some(&app.token))
            .await;
        assert_eq!(status, 200, "{path}: {body}");
    }
}

#[tokio::test]
async fn behind_a_transaction_pooler_everything_works_by_polling_and_nothing_stays_behind() {
    let (_pooler, url, app) = pooled(false).await;
    works(&app).await;
    app.until_feed("polling").await;
    assert_eq!(left_behind(&url).await, [""; 0]);
}

#[tokio::test]
async fn with_a_direct_address_for_listening_a_node_behind_a_pooler_is_notified() {
    let (_pooler, url, app) = pooled(true).await;
    app.until_listening().await;
    works(&app).await;
    assert_eq!(app.engine.missed_notifications(), 0);
    assert_eq!(left_behind(&url).await, [""; 0]);
}

#[tokio::test]
async fn commands_work_through_a_pooler_and_a_migration_says_that_it_cannot() {
    let database = Database::fresh().await;
    let pooler = Pooler::before(&database).await;
    let url = pooler.url(&database);
    let token = database.token(Stores::All).await;
    let run = async |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vestnik"));
        command
            .args(arguments)
            .env("DATABASE_URL", &url)
            .current_dir(std::env::temp_dir());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!said.contains(&token));
        (output.status.success(), said)
    };
    for arguments in [
        ["token", "create", "--store", "7"].as_slice(),
        &["token", "list"],
        &["store", "list"],
        &["telegram", "status"],
    ] {
        let (done, said) = run(arguments).await;
        assert!(done, "{arguments:?}: {said}");
    }
    let (done, said) = run(&["migrate"]).await;
    assert!(
        !done && said.contains("set database.listen_url to Postgres' direct address"),
        "{said}"
    );
    let (_, said) = run(&["doctor"]).await;
    assert!(said.contains("a pooler stands before Postgres"), "{said}");
    assert_eq!(left_behind(&url).await, [""; 0]);
}

#[tokio::test]
async fn a_statement_that_is_given_up_is_cancelled_through_a_pooler() {
    let database = Database::fresh().await;
    let pooler = Pooler::before(&database).await;
    let url = SecretString::from(pooler.url(&database));
    let client = vestnik::infra::db::connect_as(&url, "pooled").await.unwrap();
    assert!(client.is_pooled());
    let sleeps = "select count(*) = 1 from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active' \
         and datname = current_database()";
    tokio::select! {
        _ = client.execute("select pg_sleep(600)", &[]) => panic!("the statement was not cancelled"),
        () = database.until(sleeps) => {}
    }
    drop(client);
    database.until(&sleeps.replace("= 1", "= 0")).await;
}
