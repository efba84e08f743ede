//! Faults of the engine, of Postgres and of the network, while writers write. After each fault the oracle checks the
//! events that the panels have received.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use vestnik::engine::Engine;
use vestnik::infra::config::{Config, Notify};
use vestnik::infra::db::Client;
use vestnik::token::Stores;

use crate::oracle::{Repeats, Trial, seed};
use crate::support::app::{App, PATIENCE, Panel};
use crate::support::breakable::Breakable;
use crate::support::db::Database;
use crate::support::proxy::Proxy;
use crate::support::running::Running;

/// The number of times that a test repeats its fault.
const BREAKS: usize = 8;
/// The time between two heartbeats, in tests that check the cursors of heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(5);
/// The number of commits of the writers between two faults.
const COMMITS_BETWEEN: usize = 60;

async fn trial(app: &App) -> Trial {
    Trial::begin(app.database.url(), &[app.engine.address()], &app.token, seed()).await
}

/// Waits until the engine has a backend with this application name, and terminates all such backends.
async fn terminate(client: &Client, name: &str) {
    let terminate = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
         where application_name = $1 and datname = current_database()";
    timeout(PATIENCE, async {
        while client.query_one(terminate, &[&name]).await.unwrap().get::<_, i64>(0) == 0 {}
    })
    .await
    .expect("the engine comes back");
}

/// Within this time, a node that cannot read the journal must close its sessions. The time includes a margin for a busy
/// machine.
const LET_GO_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_read_the_journal_says_so_sends_no_heartbeat_and_lets_its_sessions_go() {
    let database = Database::fresh().await;
    let (proxy, url) = Proxy::before(&database).await;
    let app = App::start_on(database, |config| {
        config.database.url = Some(SecretString::from(url));
        config.session.ping_interval = Duration::from_secs(2);
    })
    .await;
    let mut panel = app.panel("7", None).await.live().await;
    proxy.cut();
    let heard = timeout(LET_GO_WITHIN, async {
        let mut heard = Vec::new();
        loop {
            match panel.message().await {
                Ok(message) => heard.push(message["type"].as_str().unwrap().to_owned()),
                Err(code) => return (heard, code),
            }
        }
    });
    let (heard, code) = heard.await.expect("the session is closed");
    let (beats, rest) = heard.split_at(
        heard
            .iter()
            .position(|kind| kind == "stale")
            .expect("the client is told"),
    );
    assert!(beats.iter().all(|kind| kind == "heartbeat"), "{heard:?}");
    assert_eq!(rest, ["stale"], "no heartbeat follows `stale`");
    assert_eq!(code, 1012);
    assert!(
        app.try_panel("7", None, &app.token).await.is_err(),
        "no new session is admitted"
    );
    proxy.mend();
    app.until_ready().await;
    app.panel("7", None).await.live().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listen_backend_is_terminated_again_and_again() {
    let app = App::start().await;
    let (trial, client) = (trial(&app).await, app.database.client().await);
    for _ in 0..BREAKS {
        terminate(&client, "vestnik listener").await;
        trial.commits(COMMITS_BETWEEN).await;
    }
    trial.judge(Repeats::Never).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feeds_backend_is_terminated_again_and_again() {
    let app = App::start().await;
    let (trial, client) = (trial(&app).await, app.database.client().await);
    for _ in 0..BREAKS {
        terminate(&client, "vestnik feed").await;
        trial.commits(COMMITS_BETWEEN).await;
    }
    trial.judge(Repeats::Never).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_breaks_within_a_long_read_begins_it_again() {
    let app = App::start_with(|config| config.session.send_queue_bytes = 256 * 1024 * 1024).await;
    let client = app.database.client().await;
    let mut panel = app.panel("7", None).await.live().await;
    const ORDERS: usize = 20_000;
    app.write(&format!(
        "insert into orders (store_id) select 7 from generate_series(1, {ORDERS})"
    ))
    .await;
    let mut ids = std::collections::HashSet::new();
    while ids.len() < ORDERS {
        let event = panel.event().await;
        ids.insert(event["id"].as_str().unwrap().to_owned());
        if ids.len() == 1 {
            terminate(&client, "vestnik feed").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn panels_go_and_come_back_with_their_cursors() {
    // The server sends heartbeats all the time, so panels also reconnect with the cursors of heartbeats.
    let app = App::start_with(|config| {
        config.session.send_queue_bytes = 16 * 1024;
        config.session.ping_interval = HEARTBEAT;
    })
    .await;
    let (trial, client) = (trial(&app).await, app.database.client().await);
    for _ in 0..BREAKS {
        // Terminate the connections that read replays, too.
        terminate(&client, "vestnik pool").await;
        trial.break_clients();
        trial.commits(COMMITS_BETWEEN).await;
    }
    trial.judge(Repeats::InFaults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panels_come_back_to_another_node_each_time() {
    let app = App::start_with(|config| config.session.ping_interval = HEARTBEAT).await;
    let other = Engine::start(&Config {
        http: vestnik::infra::config::Http {
            listen: ([127, 0, 0, 1], 0).into(),
            ..app.database.config().http
        },
        ..app.database.config()
    })
    .await
    .unwrap();
    other.until_fresh().await;
    let nodes = [app.engine.address(), other.address()];
    let trial = Trial::begin(app.database.url(), &nodes, &app.token, seed()).await;
    for _ in 0..BREAKS {
        trial.break_clients();
        trial.commits(COMMITS_BETWEEN).await;
    }
    trial.judge(Repeats::InFaults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_notifications_everything_comes_all_the_same() {
    let database = Database::empty().await;
    let mut config = database.config();
    config.database.notify = Notify::Off;
    vestnik::migrate::run(&config, &mut |_| ()).await.unwrap();
    let app = App::start_on(database, |config| config.database.notify = Notify::Off).await;
    let trial = trial(&app).await;
    trial.commits(COMMITS_BETWEEN * 4).await;
    trial.judge(Repeats::Never).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_notifications_are_swallowed_it_notices_and_polls() {
    // The listener connects to another database, so no notification arrives. A transaction pooler has the same effect:
    // it accepts LISTEN, but passes no notification on.
    let elsewhere = Database::empty().await;
    let swallowing = SecretString::from(elsewhere.url().to_owned());
    let app = App::start_with(|config| config.database.listen_url = Some(swallowing)).await;
    let trial = trial(&app).await;
    trial.commits(COMMITS_BETWEEN * 2).await;
    app.until_feed("polling").await;
    trial.judge(Repeats::Never).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_writers_satisfy_the_oracle() {
    // The oracle, which looks for lost events, must find no error with any seed. So each round uses a different seed.
    for round in 0..4 {
        let app = App::start().await;
        let seed = seed().wrapping_add(round * 1_000_003);
        let trial = Trial::begin(app.database.url(), &[app.engine.address()], &app.token, seed).await;
        trial.commits(COMMITS_BETWEEN * 3).await;
        trial.judge(Repeats::Never).await;
        app.engine.shut_down().await;
    }
}

/// Starts an engine that connects to its database through a proxy.
async fn app_behind_a_proxy() -> (App, Proxy) {
    let database = Database::fresh().await;
    let (_, host) = database.url().split_once('@').unwrap();
    let (host, name) = host.split_once('/').unwrap();
    let proxy = Proxy::to(host.parse().unwrap()).await;
    let through: SecretString = format!("postgres://postgres@{}/{name}", proxy.address).into();
    let app = App::start_on(database, |config| config.database.url = Some(through)).await;
    app.until_listening().await;
    (app, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_is_noticed_and_replaced() {
    let (app, proxy) = app_behind_a_proxy().await;
    let trial = trial(&app).await;
    for _ in 0..2 {
        trial.commits(COMMITS_BETWEEN).await;
        proxy.stall();
        trial.break_clients();
    }
    trial.commits(COMMITS_BETWEEN).await;
    trial.judge(Repeats::InFaults).await;
    app.until_listening().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_keeps_no_revoked_token_open() {
    let (app, proxy) = app_behind_a_proxy().await;
    let mut panel = app.panel("7", None).await.live().await;
    let client = app.database.client().await;
    proxy.stall();
    client
        .batch_execute("update vestnik.vst_token set revoked_at = now(); notify vestnik_token")
        .await
        .unwrap();
    let closed = timeout(LET_GO_WITHIN, async {
        loop {
            if let Err(code) = panel.message().await {
                return code;
            }
        }
    });
    match closed.await.expect("the session is closed") {
        4503 => {}
        // On a busy machine, the node may first close all sessions, because it cannot read the journal.
        1012 => {
            app.until_ready().await;
            let refused = app.try_panel("7", None, &app.token).await.err();
            assert!(matches!(refused, Some(Error::Http(response)) if response.status() == 401));
        }
        code => panic!("closed with {code}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_in_the_self_test_is_given_up() {
    let (app, proxy) = app_behind_a_proxy().await;
    let client = app.database.client().await;
    proxy.silence_next("pg_notify");
    terminate(&client, "vestnik listener").await;
    proxy.until_silenced().await;
    app.until_listening().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_id_that_commits_first_hides_no_earlier_one() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    let (earlier, later) = (app.database.client().await, app.database.client().await);
    earlier
        .batch_execute("begin; insert into orders (store_id) values (7)")
        .await
        .unwrap();
    later
        .batch_execute("begin; insert into orders (store_id) values (7); commit")
        .await
        .unwrap();
    let second = panel.event().await;
    assert_eq!(second["id"], "2");
    earlier.batch_execute("commit").await.unwrap();
    assert_eq!(panel.event().await["id"], "1");
    let back = app.panel("7", second["cursor"].as_str()).await.live().await;
    assert_eq!(back.before_live.len(), 1);
    assert_eq!(back.before_live[0]["id"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_delays_nobody() {
    let app = App::start().await;
    let elsewhere = Database::fresh().await;
    let mut panel = app.panel("7", None).await.live().await;
    let (here, there) = (app.database.client().await, elsewhere.client().await);
    for open in [&here, &there] {
        open.batch_execute("begin; insert into orders (store_id) values (7)")
            .await
            .unwrap();
    }
    for _ in 0..50 {
        app.write("insert into orders (store_id) values (7)").await;
        panel.event().await;
    }
    here.batch_execute("commit").await.unwrap();
    assert_eq!(panel.event().await["id"], "1");
    there.batch_execute("rollback").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_restarted_fast_and_immediate() {
    let (mut postgres, database) = Breakable::start().await;
    let app = App::start_on(database, |_| ()).await;
    let trial = trial(&app).await;
    for _ in 0..2 {
        trial.commits(COMMITS_BETWEEN).await;
        postgres.restart_fast().await;
        trial.commits(COMMITS_BETWEEN).await;
        postgres.restart_immediate().await;
    }
    trial.commits(COMMITS_BETWEEN).await;
    trial.judge(Repeats::InFaults).await;
    app.engine.shut_down().await;
    postgres.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_number_that_a_crash_gives_out_again_hides_no_order() {
    let (mut postgres, database) = Breakable::start().await;
    let client = database.client().await;
    // Postgres flushes the WAL of a rolled back transaction only in the background. With these settings the crash comes
    // before the flush, so the crash loses this WAL.
    for setting in ["wal_writer_delay", "bgwriter_delay"] {
        client
            .batch_execute(&format!("alter system set {setting} = '10s'"))
            .await
            .unwrap();
    }
    drop(client);
    postgres.restart_fast().await;
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    let mut given_again = 0;
    for _ in 0..5 {
        let client = app.database.client().await;
        client
            .batch_execute("insert into orders (store_id) values (7)")
            .await
            .unwrap();
        panel.event().await;
        client
            .batch_execute("begin; insert into orders (store_id) values (7)")
            .await
            .unwrap();
        let lost: String = client
            .query_one("select pg_current_xact_id()::text", &[])
            .await
            .unwrap()
            .get(0);
        client.batch_execute("rollback").await.unwrap();
        // Wait until the feed has begun another read. The snapshot of that read shows that the transaction `lost` has
        // ended.
        let read_since = "select count(*) from pg_stat_activity where application_name = 'vestnik feed' and state = 'idle' \
             and query_start > $1::text::timestamptz";
        let now: String = client
            .query_one("select clock_timestamp()::text", &[])
            .await
            .unwrap()
            .get(0);
        timeout(PATIENCE, async {
            while client.query_one(read_since, &[&now]).await.unwrap().get::<_, i64>(0) == 0 {}
        })
        .await
        .expect("the feed reads");
        let since = Instant::now();
        postgres.restart_immediate().await;

        let client = app.database.client().await;
        client
            .batch_execute("insert into orders (store_id, customer_name) values (7, 'after')")
            .await
            .unwrap();
        let newest = "select xid::text from vestnik.vst_event order by id desc limit 1";
        let xid: String = client.query_one(newest, &[]).await.unwrap().get(0);
        given_again += usize::from(xid == lost);
        let event = app.event_after_failure(&mut panel, "7", since).await;
        assert_eq!(
            event["data"]["customer_name"], "after",
            "in transaction {xid}, lost was {lost}"
        );
    }
    assert!(
        given_again > 0,
        "Postgres reused no transaction id, so this test proves nothing"
    );
    app.engine.shut_down().await;
    postgres.stop().await;
}

/// Starts `vestnik serve` as in production, on this port.
fn serve(database: &Database, port: u16) -> Running {
    Running::start(
        Command::new(env!("CARGO_BIN_EXE_vestnik"))
            .arg("serve")
            .env("DATABASE_URL", database.url())
            .env("VESTNIK_LISTEN", format!("127.0.0.1:{port}"))
            .env("VESTNIK_OPS_LISTEN", "127.0.0.1:0")
            .current_dir(std::env::temp_dir())
            .stderr(Stdio::null()),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_killed_and_everybody_goes_on_where_they_were() {
    let database = Database::fresh().await;
    let token = database.token(Stores::All).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = ([127, 0, 0, 1], port).into();
    let mut engine = serve(&database, port);
    timeout(PATIENCE, async {
        while Panel::connect(address, "1", None, &token).await.is_err() {}
    })
    .await
    .expect("it serves");
    let trial = Trial::begin(database.url(), &[address], &token, seed()).await;
    for _ in 0..3 {
        trial.commits(COMMITS_BETWEEN).await;
        drop(engine);
        trial.commits(COMMITS_BETWEEN).await;
        engine = serve(&database, port);
    }
    trial.commits(COMMITS_BETWEEN).await;
    trial.judge(Repeats::InFaults).await;
    engine.end();
}
