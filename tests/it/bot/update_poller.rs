//! The long poll of Telegram: one node polls for all nodes. The tests check which node holds the lease of the poll, and
//! what happens when Telegram refuses the poll.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;
use vestnik::delivery::shared_bot::{self, Lease, Update};
use vestnik::engine::Engine;
use vestnik::infra::db;

use super::{ANNA, ask, command, people, press, run, text, until_dealt_with, value};
use crate::support::app::{App, PATIENCE};
use crate::support::db::Database;
use crate::support::look_again;
use crate::support::node::Node;
use crate::support::telegram::{Fault, On, TOKEN, Times};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_let_in_stops_the_bot_until_it_is() {
    let telegram = people().await;
    let database = Database::fresh().await;
    telegram.link(&database, "7", ANNA, "mirror").await;
    telegram.shut_out(TOKEN);
    let app = App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
    app.database
        .until("select stopped_at is not null from vestnik.vst_bot")
        .await;
    app.write("insert into orders (store_id) values (7)").await;
    app.database
        .until("select count(*) = 1 from vestnik.vst_delivery")
        .await;
    let status = text(&run(&app.database, &telegram, &["telegram", "status"]).await.stdout);
    assert!(
        status.contains("bot: stopped: Telegram does not know this token"),
        "{status}"
    );
    let refused = run(&app.database, &telegram, &["telegram", "link", "--store", "7"]).await;
    assert!(
        text(&refused.stderr).contains("does not know this token"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(telegram.messages(ANNA), []);

    let mut config = app.database.config();
    config.http.listen = app.engine.address();
    config.telegram = Some(telegram.settings());
    app.engine.shut_down().await;
    telegram.let_in(TOKEN);
    let engine = Engine::start(&config).await.unwrap();
    telegram.until_messages(ANNA, 1).await;
    engine.shut_down().await;
}

/// A running `vestnik serve`, and its log. Dropping this value kills the process.
pub(super) struct Server {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Server {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, log }
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub async fn until_log(&self, part: &str) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !self.log().contains(part) {
                look_again().await;
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("never logged {part:?}: {}", self.log()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_polls_for_all_and_another_takes_over_when_it_dies() {
    let telegram = people().await;
    let database = Database::fresh().await;
    let server = Server::start(command(&database, &telegram, &["serve"]));
    server.until_log("this node polls Telegram for all nodes").await;
    let app = App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
    let poller = value(&app.database, "select poller from vestnik.vst_bot").await;
    for _ in 0..3 {
        assert!(ask(&telegram, ANNA, ANNA, "/help").await.contains("/link"));
    }
    assert_eq!(value(&app.database, "select poller from vestnik.vst_bot").await, poller);
    until_dealt_with(&app.database, 3).await;
    // Wait until the node has completed its sends. Otherwise the killed node's sends would block the chat until their
    // lease ends, and another node would repeat them.
    let completed = "select count(*) filter (where completed_at is not null) = 3 from vestnik.vst_delivery";
    app.database.until(completed).await;
    drop(server);
    telegram.write(ANNA, ANNA, "/help");
    telegram.until_messages(ANNA, 4).await;
    assert_ne!(value(&app.database, "select poller from vestnik.vst_bot").await, poller);
    // A node that shuts down releases the lease of the poll at once.
    let server = Server::start(command(&app.database, &telegram, &["serve"]));
    server.until_log("another node polls Telegram").await;
    let database = app.database;
    app.engine.shut_down().await;
    telegram.write(ANNA, ANNA, "/help");
    telegram.until_messages(ANNA, 5).await;
    server.until_log("this node polls Telegram for all nodes").await;
    until_dealt_with(&database, 5).await;
    assert_eq!(telegram.messages(ANNA).len(), 5, "each was answered once");
    assert!(!server.log().contains("409"), "no 409: {}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_409_is_said_once_and_waited_for_and_no_log_shows_the_token() {
    let telegram = people().await;
    let database = Database::fresh().await;
    telegram.fault(On::Method("getUpdates"), Fault::conflict(), Times::Some(2));
    let server = Server::start(command(&database, &telegram, &["serve", "--set", "log.filter=trace"]));
    server.until_log("409 from Telegram").await;
    let answer = ask(&telegram, ANNA, ANNA, "/help").await;
    assert!(answer.contains("/link"));
    telegram.fault(On::Method("getUpdates"), Fault::bad_gateway(), Times::Some(1));
    telegram.shut_out(TOKEN);
    server.until_log("the bot is stopped").await;
    let log = server.log();
    assert_eq!(log.matches("409 from Telegram").count(), 1, "{log}");
    let secret = TOKEN.split_once(':').unwrap().1;
    assert!(
        !log.contains(secret),
        "{}",
        log.lines().find(|line| line.contains(secret)).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_of_it_runs_and_serve_says_so_in_one_line() {
    let telegram = people().await;
    let database = Database::fresh().await;
    telegram.link(&database, "7", ANNA, "mirror").await;
    let mut serve = command(&database, &telegram, &["serve"]);
    serve.env_remove("VESTNIK_TELEGRAM_TOKEN");
    let server = Server::start(serve);
    server.until_log("serving;").await;
    assert_eq!(server.log().matches("Telegram").count(), 1, "{}", server.log());
    assert!(server.log().contains("no bot token is configured"));
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    panel.say(&json!({"type": "panel", "rings": true}).to_string()).await;
    app.write("insert into orders (store_id) values (7)").await;
    panel.event().await;
    for table in ["delivery", "escalation", "bot_node", "alarm"] {
        assert_eq!(
            value(&app.database, &format!("select count(*) from vestnik.vst_{table}")).await,
            "0",
            "{table}"
        );
    }
    let mut link = command(&app.database, &telegram, &["telegram", "link", "--store", "7"]);
    let output = link.env_remove("VESTNIK_TELEGRAM_TOKEN").output().unwrap();
    assert!(
        text(&output.stderr).contains("get a token from @BotFather"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(telegram.calls().len(), 0);
    app.engine.shut_down().await;
}

/// Simulates a running node: a connection to Postgres, and a row that names the backend of this connection.
async fn node_up(database: &Database, node: &str) -> vestnik::infra::db::Client {
    let session = database.client().await;
    let up = "insert into vestnik.vst_bot_node (id, pid, seen_at) values ($1, pg_backend_pid(), now()) \
         on conflict (id) do update set pid = excluded.pid, seen_at = now()";
    session.execute(up, &[&node]).await.unwrap();
    session
}

#[tokio::test]
async fn only_the_holder_of_the_lease_advances_the_poll_and_another_bot_starts_its_own() {
    let database = Database::fresh().await;
    let pool = db::pool(&database.config().database).unwrap();
    let ours = |next_update, is_new| Lease::Ours { next_update, is_new };
    let (_a, _b) = (node_up(&database, "a").await, node_up(&database, "b").await);
    shared_bot::start_bot(&pool, "100:secret").await.unwrap();
    assert_eq!(shared_bot::lease(&pool, "a").await.unwrap(), ours(0, true));
    assert_eq!(shared_bot::lease(&pool, "b").await.unwrap(), Lease::Elsewhere);
    let update = |id| Update {
        id,
        body: format!(r#"{{"update_id":{id}}}"#),
    };
    assert!(
        shared_bot::save_updates(&pool, "a", 900, &[update(898), update(899)])
            .await
            .unwrap()
    );
    assert!(!shared_bot::save_updates(&pool, "b", 950, &[update(940)]).await.unwrap());
    let left: Vec<i64> = shared_bot::left_over(&pool, 10)
        .await
        .unwrap()
        .iter()
        .map(|update| update.id)
        .collect();
    assert_eq!(left, [898, 899], "a node without the lease cannot save updates");
    shared_bot::dealt_with(&pool, 898).await.unwrap();
    // After a week without updates, Telegram may begin again with lower update ids. So the id 40 is accepted after the
    // id 900.
    assert!(shared_bot::save_updates(&pool, "a", 40, &[]).await.unwrap());
    shared_bot::start_bot(&pool, "100:another-secret").await.unwrap();
    assert_eq!(shared_bot::lease(&pool, "a").await.unwrap(), ours(40, false));
    shared_bot::release(&pool, "b").await.unwrap();
    assert_eq!(shared_bot::lease(&pool, "b").await.unwrap(), Lease::Elsewhere);
    shared_bot::stop_bot(&pool, "100:another-secret", "401").await.unwrap();
    assert_eq!(shared_bot::lease(&pool, "a").await.unwrap(), Lease::Stopped);
    assert_eq!(shared_bot::left_over(&pool, 10).await.unwrap().len(), 1);
    shared_bot::start_bot(&pool, "200:secret").await.unwrap();
    assert_eq!(shared_bot::lease(&pool, "a").await.unwrap(), ours(0, false));
    assert_eq!(
        shared_bot::left_over(&pool, 10).await.unwrap().len(),
        0,
        "the updates belong to another bot"
    );
    shared_bot::release(&pool, "a").await.unwrap();
    assert_eq!(shared_bot::lease(&pool, "b").await.unwrap(), ours(0, true));
}

#[tokio::test]
async fn the_poll_is_free_as_soon_as_its_nodes_session_ends_or_when_it_falls_silent() {
    let database = Database::fresh().await;
    let pool = db::pool(&database.config().database).unwrap();
    let (a, b) = (node_up(&database, "a").await, node_up(&database, "b").await);
    shared_bot::start_bot(&pool, "100:secret").await.unwrap();
    shared_bot::lease(&pool, "a").await.unwrap();
    assert_eq!(shared_bot::lease(&pool, "b").await.unwrap(), Lease::Elsewhere);
    drop(a);
    tokio::time::timeout(PATIENCE, async {
        while shared_bot::lease(&pool, "b").await.unwrap() == Lease::Elsewhere {
            look_again().await;
        }
    })
    .await
    .expect("the lease of an ended session is free at once");
    // Node `b` holds the lease, and its connection to Postgres is open, so node `a` does not get the lease. But node
    // `b` may hang, or a pooler may keep the connection open after node `b` has ended. So node `a` gets the lease if
    // node `b` gives no sign of life for nine seconds.
    let _a = node_up(&database, "a").await;
    assert_eq!(shared_bot::lease(&pool, "a").await.unwrap(), Lease::Elsewhere);
    b.execute(
        "update vestnik.vst_bot_node set seen_at = now() - interval '9 s' where id = 'b'",
        &[],
    )
    .await
    .unwrap();
    assert!(matches!(
        shared_bot::lease(&pool, "a").await.unwrap(),
        Lease::Ours { is_new: true, .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_same_node_or_another_takes_presses_at_once_and_what_was_left() {
    let telegram = people().await;
    let database = Database::fresh().await;
    telegram.link(&database, "7", ANNA, "mirror").await;
    let mut server = Node::start(database.url(), &telegram.url(), &[]);
    server.until_said("this node polls Telegram for all nodes").await;
    let client = database.client().await;
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    let message = telegram.until_messages(ANNA, 1).await[0].message.unwrap();
    crate::support::db::until(&client, "select state = 'sent' from vestnik.vst_delivery").await;
    // Because of this lock, the node polls the press but cannot handle it before the test kills the node.
    client
        .batch_execute("begin; lock table vestnik.vst_chat_link")
        .await
        .unwrap();
    let update = telegram.push_press(ANNA, ANNA, message, "s:1:preparing");
    let taken = format!("select next_update > {update} from vestnik.vst_bot");
    database.until(&taken).await;
    server.kill();
    client.batch_execute("commit").await.unwrap();
    assert_eq!(
        value(&database, "select count(*) from vestnik.vst_bot_update").await,
        "1"
    );
    let mut again = Node::start(database.url(), &telegram.url(), &[]);
    database.until("select status = 'preparing' from orders").await;
    telegram
        .until_call("the answer to it", |call| call.method == "answerCallbackQuery")
        .await;
    assert_eq!(press(&telegram, ANNA, ANNA, message, "s:1:ready").await, "Done: ready");
    // When the polling node `again` is killed, the node `other` takes the lease without waiting for a timeout.
    let other = Node::start(database.url(), &telegram.url(), &[]);
    other.until_said("another node polls Telegram").await;
    again.kill();
    assert_eq!(
        press(&telegram, ANNA, ANNA, message, "s:1:completed").await,
        "Done: completed"
    );
    database.until("select count(*) = 0 from vestnik.vst_bot_update").await;
}
