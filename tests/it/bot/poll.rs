//! The one poll for all nodes: who holds it, and what happens when Telegram lets nobody in.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use vestnik::db;
use vestnik::engine::Engine;
use vestnik::poll::{self, Lease};

use super::{ANNA, ask, command, people, run, text, until_dealt_with, value};
use crate::support::app::{App, PATIENCE};
use crate::support::db::Database;
use crate::support::look_again;
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
    app.database.until("select count(*) = 1 from vestnik.vst_delivery").await;
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

/// A `vestnik serve`, and what it logs; killed with the test.
struct Server {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Server {
    fn start(mut command: Command) -> Self {
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

    async fn until_log(&self, part: &str) {
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
    server.until_log("this node hears the bot for all").await;
    let app = App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
    let poller = value(&app.database, "select poller from vestnik.vst_bot").await;
    for _ in 0..3 {
        assert!(ask(&telegram, ANNA, ANNA, "/help").await.contains("/link"));
    }
    assert_eq!(value(&app.database, "select poller from vestnik.vst_bot").await, poller);
    until_dealt_with(&app.database, 3).await;
    // What it has sent and not settled would hold the chat for the lease of a send, and come twice.
    let settled = "select count(*) filter (where settled_at is not null) = 3 from vestnik.vst_delivery";
    app.database.until(settled).await;
    drop(server);
    telegram.write(ANNA, ANNA, "/help");
    // The time of its lease passes; what the dead one had asked of Postgres may still have prolonged it.
    let passes = format!("update vestnik.vst_bot set polls_until = now() - interval '1 s' where poller = '{poller}'");
    tokio::time::timeout(PATIENCE, async {
        while value(&app.database, "select poller from vestnik.vst_bot").await == poller {
            app.write(&passes).await;
        }
    })
    .await
    .expect("the other node polls");
    telegram.until_messages(ANNA, 4).await;
    assert_ne!(value(&app.database, "select poller from vestnik.vst_bot").await, poller);
    // One that is shut down lets go at once.
    let server = Server::start(command(&app.database, &telegram, &["serve"]));
    server.until_log("another node hears the bot").await;
    let database = app.database;
    app.engine.shut_down().await;
    telegram.write(ANNA, ANNA, "/help");
    telegram.until_messages(ANNA, 5).await;
    server.until_log("this node hears the bot for all").await;
    until_dealt_with(&database, 5).await;
    assert_eq!(telegram.messages(ANNA).len(), 5, "each was answered once");
    assert!(
        !server.log().contains("WARN"),
        "no 409, and nothing else: {}",
        server.log()
    );
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
    for table in ["delivery", "escalation", "node", "presence", "alarm"] {
        assert_eq!(
            value(&app.database, &format!("select count(*) from vestnik.{table}")).await,
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

#[tokio::test]
async fn only_who_holds_the_lease_moves_the_poll_on_and_another_bot_begins_anew() {
    let database = Database::fresh().await;
    let pool = db::pool(&database.config().database).unwrap();
    let life = Duration::from_secs(40);
    let ours = |next_update| Lease::Ours { next_update };
    poll::start_bot(&pool, "100:secret").await.unwrap();
    assert_eq!(poll::lease(&pool, "a", life).await.unwrap(), ours(0));
    assert_eq!(poll::lease(&pool, "b", life).await.unwrap(), Lease::Elsewhere);
    assert!(poll::dealt_with(&pool, "a", 900, life).await.unwrap());
    assert!(!poll::dealt_with(&pool, "b", 950, life).await.unwrap());
    // After a quiet week Telegram numbers anew, and lower.
    assert!(poll::dealt_with(&pool, "a", 40, life).await.unwrap());
    poll::start_bot(&pool, "100:another-secret").await.unwrap();
    assert_eq!(poll::lease(&pool, "a", life).await.unwrap(), ours(40));
    poll::release(&pool, "b").await.unwrap();
    assert_eq!(poll::lease(&pool, "b", life).await.unwrap(), Lease::Elsewhere);
    poll::stop_bot(&pool, "100:another-secret", "401").await.unwrap();
    assert_eq!(poll::lease(&pool, "a", life).await.unwrap(), Lease::Stopped);
    poll::start_bot(&pool, "200:secret").await.unwrap();
    assert_eq!(poll::lease(&pool, "a", life).await.unwrap(), ours(0));
    poll::release(&pool, "a").await.unwrap();
    assert_eq!(poll::lease(&pool, "b", life).await.unwrap(), ours(0));
}
