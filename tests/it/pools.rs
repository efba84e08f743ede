//! The requests of one store must not delay other stores. Postgres must not continue a statement after the client has
//! disconnected.

use std::ops::RangeInclusive;

use futures::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;
use vestnik::infra::db::{ANSWER_DEADLINE, Client};

use crate::support::app::{App, PATIENCE, Panel};
use crate::support::db::{Database, until};
use crate::support::http::{Answer, begin};
use crate::support::{LOCK_LIMIT, in_rounds, within};

/// The highest number of requests of one store that may run or wait at the same time.
const STANDING: usize = 10;

/// Locks a table against all reads and writes until the returned connection is dropped.
async fn hold(database: &Database, table: &str) -> Client {
    let client = database.client().await;
    client
        .batch_execute(&format!("begin; lock table {table} in access exclusive mode"))
        .await
        .unwrap();
    client
}

/// SQL that compares the number of the engine's statements that wait for a lock. `is` is the comparison, for example `=
/// 2`.
fn waiting(is: &str) -> String {
    format!(
        "select count(*) {is} from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' \
             and application_name = 'vestnik reads'"
    )
}

/// A request for the summary. Only this request reads the table `READ_BY_SUMMARY`, so a test can block it with a lock
/// of this table.
fn summary(store: usize) -> String {
    format!("/api/partner/stores/{store}/summary?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z")
}

const READ_BY_SUMMARY: &str = "vestnik.vst_escalation";

/// Requests the summary of a store, and does not read the response.
async fn ask_for_summary(app: &App, store: usize) -> TcpStream {
    let bearer = format!("Bearer {}", app.token);
    let path = summary(store);
    begin(app.engine.address(), "GET", &path, &[("Authorization", &bearer)], None).await
}

/// What happens while one store sends more requests than may run and wait.
struct Rush {
    /// The response to a request that finds no place in the queue of the store.
    refused: Answer,
    /// The responses to the requests of another store.
    others: Vec<(&'static str, Answer)>,
    /// Whether the first requests of the store still waited when all this was over.
    waited: bool,
    /// The responses to the requests of the store, after the lock has ended.
    answers: Vec<Answer>,
}

/// Sends many requests of a store, and meanwhile uses the engine for another store. `held` is the lock for which the
/// requests wait.
async fn rush(app: &App, held: Client, store: usize, panel: &mut Panel, event: &str) -> Rush {
    let asked = join_all((0..2 * STANDING).map(|_| ask_for_summary(app, store))).await;
    app.database.until(&waiting("= 2")).await;
    // If the queue is full, the server refuses a request at once. The earlier requests wait.
    let refused = app.ask(&summary(store)).await;
    let mut others = Vec::new();
    for path in ["stores/8/events", "stores/8/bookings", "stores/8/store", "session/8"] {
        others.push((path, app.ask(&format!("/api/partner/{path}")).await));
    }
    app.panel("8", None).await.live().await;
    panel.acknowledge(event).await;
    let client = app.database.client().await;
    let acknowledged = format!("select exists (select from vestnik.vst_acknowledgement where event_id = {event})");
    until(&client, &acknowledged).await;
    let waited = client.query_one(&waiting("= 2"), &[]).await.unwrap().get(0);
    drop(held);
    let answers = join_all(asked.into_iter().map(Answer::read)).await;
    Rush {
        refused,
        others,
        waited,
        answers,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_asks_for_much_keeps_neither_tokens_nor_other_stores_waiting() {
    let app = App::start().await;
    // A round that was too slow leaves requests in the queue of its store, so each round has its own store.
    let mut stores = 10..;
    let Rush {
        refused,
        others,
        waited,
        answers,
    } = in_rounds(async || {
        let store = stores.next().unwrap();
        let mut panel = app.panel(&store.to_string(), None).await.live().await;
        app.write(&format!("insert into orders (store_id) values ({store})"))
            .await;
        let event = panel.event().await["id"].as_str().unwrap().to_owned();
        let held = hold(&app.database, READ_BY_SUMMARY).await;
        within(LOCK_LIMIT, rush(&app, held, store, &mut panel, &event)).await
    })
    .await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_much_at_once"));
    assert!(refused.header("retry-after").is_some());
    for (path, answer) in others {
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    assert!(waited, "the requests waited for the whole test");
    let answered = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(answered, STANDING, "{answers:?}");
}

/// Accepts one order of each of these stores, and connects a panel of the store `reader` while the presses wait for the
/// lock `held`. The id of each order is the number of its store.
async fn press_in_all(
    app: &App,
    held: Client,
    stores: RangeInclusive<usize>,
    reader: &str,
    cursor: &str,
) -> (Vec<Answer>, Panel) {
    let path = |store: usize| format!("/api/partner/stores/{store}/orders/{store}/status");
    let body = serde_json::json!({"status": "preparing"});
    let paths: Vec<String> = stores.map(path).collect();
    let presses = paths.iter().map(|path| app.post(path, &body));
    let presses = async { join_all(presses).await };
    let others = async {
        let blocked = "select count(*) = 2 from pg_stat_activity where datname = current_database() \
             and wait_event_type = 'Lock' and application_name = 'vestnik pool'";
        app.database.until(blocked).await;
        let panel = app.panel(reader, Some(cursor)).await.live().await;
        drop(held);
        panel
    };
    tokio::join!(presses, others)
}

#[tokio::test(flavor = "multi_thread")]
async fn buttons_of_a_table_that_somebody_holds_leave_connections_for_everything_else() {
    const STORES: usize = 8;
    let app = App::start_with(|config| config.database.pool_size = 4).await;
    let mut starts = (1..).step_by(STORES);
    let (answers, panel) = in_rounds(async || {
        let first = starts.next().unwrap();
        let last = first + STORES - 1;
        let reader = last.to_string();
        let cursor = app.panel(&reader, None).await.live().await.cursor;
        app.write(&format!(
            "insert into orders (store_id) select n from generate_series({first}, {last}) n"
        ))
        .await;
        let held = hold(&app.database, "orders").await;
        within(LOCK_LIMIT, press_in_all(&app, held, first..=last, &reader, &cursor)).await
    })
    .await;
    assert_eq!(
        panel.before_live.len(),
        1,
        "the panel reconnects while button presses wait"
    );
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_client_has_gone_ends_in_postgres() {
    let app = App::start().await;
    // A statement that Postgres does not cancel ends only at its own deadline, so each round then takes too long.
    in_rounds(async || {
        let held = hold(&app.database, READ_BY_SUMMARY).await;
        let ended = within(ANSWER_DEADLINE, async {
            let asked = ask_for_summary(&app, 7).await;
            app.database.until(&waiting("= 1")).await;
            drop(asked);
            app.database.until(&waiting("= 0")).await;
        });
        let ended = ended.await;
        drop(held);
        app.database.until(&waiting("= 0")).await;
        ended
    })
    .await;
    assert_eq!(app.ask(&summary(7)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_takes_too_long_is_given_up_by_postgres_too() {
    let app = App::start().await;
    let held = hold(&app.database, "vestnik.vst_event").await;
    let answer = app.ask("/api/partner/stores/7/events").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "not_ready"));
    app.database.until(&waiting("= 0")).await;
    drop(held);
    assert_eq!(app.ask("/api/partner/stores/7/events").await.status, 200);
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_is_cancelled_and_its_connection_not_lent_again() {
    let database = Database::fresh().await;
    let mut config = database.config();
    config.database.pool_size = 1;
    let pool = vestnik::infra::db::pool(&config.database).unwrap();
    let process = "select pg_backend_pid()";
    let first: i32 = pool.get().await.unwrap().query_one(process, &[]).await.unwrap().get(0);
    let sleeps = "select count(*) = 1 from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active' \
         and datname = current_database()";
    {
        let client = pool.get().await.unwrap();
        let sleeping = client.execute("select pg_sleep(600)", &[]);
        tokio::select! {
            _ = sleeping => panic!("the statement was not cancelled"),
            () = database.until(sleeps) => {}
        }
    }
    database.until(&sleeps.replace("= 1", "= 0")).await;
    let second: i32 = pool.get().await.unwrap().query_one(process, &[]).await.unwrap().get(0);
    assert_ne!(first, second);
}

#[tokio::test]
async fn rows_that_nobody_reads_any_more_are_cancelled_and_rows_that_were_enough_are_not() {
    use futures::TryStreamExt as _;
    let database = Database::fresh().await;
    let mut config = database.config();
    config.database.pool_size = 1;
    let pool = vestnik::infra::db::pool(&config.database).unwrap();
    let endless = "select generate_series(1, 1000000000), repeat('x', 1000)";
    {
        let client = pool.get().await.unwrap();
        let mut rows = client.query_raw(endless, &[]).await.unwrap();
        timeout(PATIENCE, rows.try_next()).await.unwrap().unwrap();
    }
    let ended = format!(
        "select count(*) = 0 from pg_stat_activity where query = '{}' and state = 'active' and datname = current_database()",
        endless.replace('\'', "''")
    );
    database.until(&ended).await;
    let process = "select pg_backend_pid()";
    let first: i32 = pool.get().await.unwrap().query_one(process, &[]).await.unwrap().get(0);
    {
        let client = pool.get().await.unwrap();
        let mut rows = client
            .query_raw("select n from generate_series(1, 10000) n", &[])
            .await
            .unwrap();
        timeout(PATIENCE, rows.try_next()).await.unwrap().unwrap();
        rows.leave();
    }
    let second: i32 = pool.get().await.unwrap().query_one(process, &[]).await.unwrap().get(0);
    assert_eq!(first, second, "the connection is used again");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_a_role_was_given_reach_no_statement_of_ours() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let name: String = client.query_one("select current_database()", &[]).await.unwrap().get(0);
    for setting in [
        "statement_timeout = '100ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '20ms'",
        "idle_session_timeout = '300ms'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "default_transaction_deferrable = on",
    ] {
        let alter = format!("alter database {name} set {setting}");
        client.batch_execute(&alter).await.unwrap();
    }
    let slow = database.client().await.execute("select pg_sleep(0.3)", &[]).await;
    assert!(slow.is_ok(), "{slow:?}");
    let app = App::start_on(database, |_| ()).await;
    app.until_listening().await;
    let cursor = app.panel("7", None).await.live().await.cursor;
    app.write("insert into orders (store_id, total) select 7, n from generate_series(1, 2000) n")
        .await;
    let mut panel = app.panel("7", Some(&cursor)).await.live().await;
    let mut told: usize = panel.before_live.len();
    while told < 2_000 {
        panel.event().await;
        told += 1;
    }
    let path = "/api/partner/stores/7/orders?status=all&limit=500";
    let listed = app.ask(path).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    let listed: serde_json::Value = serde_json::from_str(&listed.text()).unwrap();
    assert_eq!(listed["orders"].as_array().unwrap().len(), 500);
    let answer = app
        .post(
            "/api/partner/stores/7/orders/1/status",
            &serde_json::json!({"status": "preparing"}),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(panel.event().await["type"], "order_status_changed");
}

#[tokio::test]
async fn a_savepoint_that_was_rolled_back_holds_no_lock() {
    let database = Database::fresh().await;
    let mut client = database.client().await;
    let mut transaction = client.transaction().await.unwrap();
    for _ in 0..100 {
        let savepoint = transaction.savepoint().await.unwrap();
        savepoint.batch_execute("select 1 / 0").await.unwrap_err();
        savepoint.rollback().await.unwrap();
    }
    transaction.batch_execute("create table made ()").await.unwrap();
    let held = "select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'transactionid'";
    let held: i64 = transaction.query_one(held, &[]).await.unwrap().try_get(0).unwrap();
    assert_eq!(held, 1, "only the lock of the transaction itself");
}
