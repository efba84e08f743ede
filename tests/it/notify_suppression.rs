//! NOTIFY suppression: when it begins, when it ends, and failures in between. docs/notify-suppression.md explains why
//! no event is lost. The feeds in these tests have no fallback poll. Without a notification or a polling node, the feed
//! would never read an event, and the oracle would report the event as lost.

use std::future::poll_fn;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::AsyncMessage;
use vestnik::engine::Engine;
use vestnik::infra::config::Config;
use vestnik::infra::db::Client;

use crate::oracle::{Repeats, Trial, seed};
use crate::support::app::{App, LISTEN_PATIENCE, PATIENCE};
use crate::support::db::Database;

/// The interval of the fallback poll, in which a node reads without a notification. It is longer than any test.
const NEVER: Duration = Duration::from_secs(3600);
/// The number of nodes on one database.
const NODES: usize = 3;
/// The number of writers that only create load. The oracle (`tests/it/oracle/mod.rs`), which looks for lost events,
/// does not check their orders.
const LOADERS: usize = 12;
/// Writes an order of store 99, which no panel watches.
const LOAD: &str = "insert into orders (store_id) values (99)";

/// Counts the holders of an advisory lock of NOTIFY suppression. The second half of the lock's key is 1 for the writer
/// lock and 2 for the idle lock.
const HOLDERS: &str = "select count(*) from pg_locks l join pg_stat_activity a using (pid) \
     where l.locktype = 'advisory' and l.classid = vestnik.vst_notify_lock_key()::oid and l.objsubid = 2 \
       and l.database = (select oid from pg_database where datname = current_database()) \
       and l.objid = $1 and l.mode = $2 and l.granted = $3 and a.application_name = $4";

async fn holders(client: &Client, lock: u32, mode: &str, granted: bool, who: &str) -> i64 {
    let row = client
        .query_one(HOLDERS, &[&lock, &mode, &granted, &who])
        .await
        .unwrap();
    row.get(0)
}

/// Waits until exactly `nodes` nodes hold the idle lock.
async fn until_idle(client: &Client, nodes: i64) {
    timeout(LISTEN_PATIENCE, async {
        while holders(client, 2, "ShareLock", true, "vestnik listener").await != nodes {}
    })
    .await
    .expect("the nodes are idle");
}

/// Waits until one node holds the writer lock in exclusive mode.
async fn until_suppressed(client: &Client) {
    timeout(PATIENCE, async {
        while holders(client, 1, "ExclusiveLock", true, "vestnik suppressor").await != 1 {}
    })
    .await
    .expect("a node suppresses NOTIFY");
}

async fn app_without_fallback_poll() -> App {
    App::start_with(|config| config.database.fallback_poll_interval = NEVER).await
}

/// Many writers, which the test can start and pause.
struct Load {
    on: watch::Sender<bool>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    async fn prepare(database: &Database) -> Self {
        let on = watch::Sender::new(false);
        let mut writers = Vec::new();
        for _ in 0..LOADERS {
            let (client, mut on) = (database.client().await, on.subscribe());
            writers.push(tokio::spawn(async move {
                while on.wait_for(|on| *on).await.is_ok() {
                    client.batch_execute(LOAD).await.unwrap();
                }
            }));
        }
        Self { on, writers }
    }

    fn begin(&self) {
        self.on.send_replace(true);
    }

    fn end(&self) {
        self.on.send_replace(false);
    }

    async fn stop(self) {
        self.end();
        drop(self.on);
        for writer in self.writers {
            timeout(PATIENCE, writer).await.expect("a writer ends").unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notify_is_suppressed_under_load_and_sent_again_after_it() {
    let app = app_without_fallback_poll().await;
    let client = app.database.client().await;
    let load = Load::prepare(&app.database).await;
    let mut panel = app.panel("7", None).await.live().await;
    for _ in 0..2 {
        until_idle(&client, 1).await;
        load.begin();
        until_suppressed(&client).await;
        for _ in 0..20 {
            app.write("insert into orders (store_id) values (7)").await;
            panel.event().await;
        }
        load.end();
    }
    until_idle(&client, 1).await;
    app.write("insert into orders (store_id) values (7)").await;
    panel.event().await;
    load.stop().await;
    assert_eq!(app.engine.missed_notifications(), 0);
}

/// Starts [`NODES`] engines on one database.
async fn nodes(database: &Database) -> Vec<Engine> {
    let mut engines = Vec::new();
    for _ in 0..NODES {
        let mut config: Config = database.config();
        config.http.listen = ([127, 0, 0, 1], 0).into();
        config.database.fallback_poll_interval = NEVER;
        let engine = Engine::start(&config).await.unwrap();
        timeout(PATIENCE, engine.until_fresh()).await.expect("a node starts");
        engines.push(engine);
    }
    engines
}

/// Terminates one of the backends with this application name. `which` is its index in the order of the process ids.
/// Does nothing if no backend has this index.
async fn end_one(client: &Client, name: &str, which: i64) {
    let end = "select pg_terminate_backend(pid) from (select pid from pg_stat_activity \
         where application_name = $1 and datname = current_database() order by pid offset $2 limit 1) one";
    client.execute(end, &[&name, &which]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_killed_between_any_two_steps_and_nothing_is_lost() {
    let database = Database::fresh().await;
    let (client, token) = (
        database.client().await,
        database.token(vestnik::token::Stores::All).await,
    );
    let engines = nodes(&database).await;
    let addresses: Vec<_> = engines.iter().map(Engine::address).collect();
    let load = Load::prepare(&database).await;
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut suppressing = 0;
    for round in 0..4 {
        let trial = Trial::begin(database.url(), &addresses, &token, seed.wrapping_add(round)).await;
        for _ in 0..12 {
            match random.u8(..10) {
                0..2 => end_one(&client, "vestnik listener", random.i64(0..NODES as i64)).await,
                2..4 => end_one(&client, "vestnik feed", random.i64(0..NODES as i64)).await,
                4..6 => end_one(&client, "vestnik suppressor", 0).await,
                6..9 => load.begin(),
                _ => load.end(),
            }
            trial.commits(random.usize(..40)).await;
            suppressing += holders(&client, 1, "ExclusiveLock", true, "vestnik suppressor").await;
        }
        load.end();
        trial.judge(Repeats::Never).await;
        until_idle(&client, NODES as i64).await;
    }
    assert!(
        suppressing > 0,
        "no node suppressed NOTIFY in any round, so this test proves little"
    );
    load.stop().await;
    for engine in engines {
        assert_eq!(engine.missed_notifications(), 0);
        engine.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suppressing_node_ends_and_another_one_takes_its_place() {
    let database = Database::fresh().await;
    let (client, token) = (
        database.client().await,
        database.token(vestnik::token::Stores::All).await,
    );
    let mut engines = nodes(&database).await;
    let load = Load::prepare(&database).await;
    until_idle(&client, NODES as i64).await;
    load.begin();
    until_suppressed(&client).await;
    let last = engines.pop().unwrap();
    let trial = Trial::begin(database.url(), &[last.address()], &token, seed()).await;
    for engine in engines {
        trial.commits(40).await;
        engine.shut_down().await;
        until_suppressed(&client).await;
    }
    load.end();
    trial.judge(Repeats::Never).await;
    until_idle(&client, 1).await;
    load.stop().await;
    assert_eq!(last.missed_notifications(), 0);
}

/// Takes the idle lock and the writer lock, as a suppressing node does. [`release`] frees both locks.
async fn suppress(client: &Client) {
    timeout(PATIENCE, async {
        loop {
            let release_request = r#"select pg_notify('vestnik', '{"release_request":"1"}')"#;
            client.batch_execute(release_request).await.unwrap();
            // The timeout applies only to the statement that takes the lock. NOTIFY takes another lock, which all
            // databases of the cluster share, and must not time out.
            let gather =
                "set lock_timeout = '50ms'; select pg_advisory_lock(vestnik.vst_notify_lock_key(), 2); set lock_timeout = 0";
            if client.batch_execute(gather).await.is_ok() {
                break;
            }
        }
    })
    .await
    .expect("the nodes release the idle lock");
    client
        .batch_execute("select pg_advisory_lock(vestnik.vst_notify_lock_key(), 1)")
        .await
        .unwrap();
}

async fn release(client: &Client) {
    client
        .batch_execute("select pg_advisory_unlock(vestnik.vst_notify_lock_key(), 1), pg_advisory_unlock(vestnik.vst_notify_lock_key(), 2)")
        .await
        .unwrap();
}

/// Waits until the feed has begun a read after this call.
async fn until_read(client: &Client) {
    let now: String = client
        .query_one("select clock_timestamp()::text", &[])
        .await
        .unwrap()
        .get(0);
    let read = "select count(*) from pg_stat_activity where application_name = 'vestnik feed' and state = 'idle' \
         and datname = current_database() and query_start > $1::text::timestamptz";
    timeout(PATIENCE, async {
        while client.query_one(read, &[&now]).await.unwrap().get::<_, i64>(0) == 0 {}
    })
    .await
    .expect("the feed reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_denied_the_lock_before_the_node_went_idle_is_read() {
    let app = app_without_fallback_poll().await;
    let (client, suppressor, writer) = (
        app.database.client().await,
        app.database.client().await,
        app.database.client().await,
    );
    let mut panel = app.panel("7", None).await.live().await;
    for _ in 0..5 {
        until_idle(&client, 1).await;
        suppress(&suppressor).await;
        // The writer is denied the writer lock, so it does not notify. Its transaction id is the newest one. While the
        // writer's transaction is open, no snapshot has an `xmax` above this id. If the node waited only for the
        // transactions below `xmax` before it goes idle, it would miss the order.
        writer
            .batch_execute("begin; insert into orders (store_id) values (7)")
            .await
            .unwrap();
        release(&suppressor).await;
        until_idle(&client, 1).await;
        // The node holds the idle lock. It must now drain: poll until all older transactions have ended. If it skipped
        // the drain, it would be idle, and would not read the order.
        until_read(&client).await;
        writer.batch_execute("commit").await.unwrap();
        panel.event().await;
    }
    assert_eq!(app.engine.missed_notifications(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_delays_suppression_and_nothing_else() {
    let app = app_without_fallback_poll().await;
    let (client, writer) = (app.database.client().await, app.database.client().await);
    let load = Load::prepare(&app.database).await;
    let mut panel = app.panel("7", None).await.live().await;
    until_idle(&client, 1).await;
    writer
        .batch_execute("begin; insert into orders (store_id) values (7)")
        .await
        .unwrap();
    load.begin();
    timeout(PATIENCE, async {
        while holders(&client, 1, "ExclusiveLock", false, "vestnik suppressor").await != 1 {}
    })
    .await
    .expect("suppression waits for the writer");
    for _ in 0..20 {
        app.write("insert into orders (store_id) values (7)").await;
        assert_ne!(panel.event().await["id"], "1");
    }
    assert_eq!(
        holders(&client, 1, "ExclusiveLock", true, "vestnik suppressor").await,
        0
    );
    writer.batch_execute("commit").await.unwrap();
    assert_eq!(panel.event().await["id"], "1");
    until_suppressed(&client).await;
    load.stop().await;
    until_idle(&client, 1).await;
    assert_eq!(app.engine.missed_notifications(), 0);
}

/// Opens a connection that listens, and collects the payloads of notifications until the payload `"end"`.
async fn listen(database: &Database) -> (tokio_postgres::Client, JoinHandle<Vec<String>>) {
    let url = SecretString::from(database.url().to_owned());
    let (client, mut connection) = vestnik::infra::db::connect_raw(&url, "test listener").await.unwrap();
    let receiving = tokio::spawn(async move {
        let mut payloads = Vec::new();
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                if notification.payload() == "end" {
                    break;
                }
                payloads.push(notification.payload().to_owned());
            }
        }
        payloads
    });
    client.batch_execute("listen vestnik").await.unwrap();
    (client, receiving)
}

#[tokio::test]
async fn a_writer_that_is_denied_the_lock_does_not_notify() {
    let database = Database::fresh().await;
    let (listener, payloads) = listen(&database).await;
    let (suppressor, writer) = (database.client().await, database.client().await);
    let insert = "insert into orders (store_id) values (7)";
    writer.batch_execute(insert).await.unwrap();
    suppress(&suppressor).await;
    writer.batch_execute(insert).await.unwrap();
    writer
        .batch_execute(&format!(
            "begin; {insert}; savepoint a; {insert}; rollback to a; {insert}; commit"
        ))
        .await
        .unwrap();
    release(&suppressor).await;
    // A rollback to a savepoint releases the writer lock. The next write takes the lock again, and two writes hold it
    // only once.
    writer
        .batch_execute(&format!("begin; savepoint a; {insert}; rollback to a"))
        .await
        .unwrap();
    let held = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    assert_eq!(writer.query_one(held, &[]).await.unwrap().get::<_, i64>(0), 0);
    writer.batch_execute(&format!("{insert}; {insert}")).await.unwrap();
    assert_eq!(writer.query_one(held, &[]).await.unwrap().get::<_, i64>(0), 1);
    writer.batch_execute("commit; notify vestnik, 'end'").await.unwrap();
    let payloads = timeout(PATIENCE, payloads).await.expect("the end").unwrap();
    drop(listener);
    let notifications = payloads.iter().filter(|payload| payload.is_empty());
    assert_eq!(notifications.count(), 2, "{payloads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_locks_have_the_key_of_the_settings_when_it_is_migrated() {
    let app = app_without_fallback_poll().await;
    let client = app.database.client().await;
    until_idle(&client, 1).await;
    let mut config = app.database.config();
    config.database.notify_lock_key = 77;
    vestnik::migrate::run(&config, &mut |_| ()).await.unwrap();
    let key: i32 = client
        .query_one("select vestnik.vst_notify_lock_key()", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(key, 77);
    // The running node starts to use the new key.
    until_idle(&client, 1).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id) values (7)").await;
    panel.event().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_detects_that_the_triggers_do_not_notify_and_polls() {
    let database = Database::empty().await;
    let mut config = database.config();
    config.database.notify = vestnik::infra::config::Notify::Off;
    vestnik::migrate::run(&config, &mut |_| ()).await.unwrap();
    let app = App::start_on(database, |config| config.database.fallback_poll_interval = NEVER).await;
    let trial = Trial::begin(app.database.url(), &[app.engine.address()], &app.token, seed()).await;
    trial.commits(100).await;
    app.until_feed("polling").await;
    trial.judge(Repeats::Never).await;
}
