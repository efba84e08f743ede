//! A transaction with thousands of orders. Its events must arrive completely and in order, and must not delay the
//! events of other stores.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::{FutureExt as _, SinkExt as _};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use vestnik::domain::cursor::{Cursor, Epoch};
use vestnik::domain::event::{EventId, Xid};
use vestnik::journal::READ_DEADLINE;

use crate::oracle::{Repeats, Trial, seed};
use crate::support::app::{App, Panel};
use crate::support::db::Database;
use crate::support::look_again;
use crate::support::proxy::Proxy;

/// The store whose orders the large transaction inserts.
const BULK: &str = "1";
/// The longest wait for a large transaction. This time is enough for a debug build on a busy machine.
const LONG_PATIENCE: Duration = Duration::from_secs(300);
/// The time between two heartbeats. The time is short, so that some heartbeats arrive in the middle of a large
/// transaction. A session whose client is silent for three times as long is closed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The panel sends a ping after this number of events, so that the engine does not consider the panel dead.
const SIGN_OF_LIFE_EVENTS: usize = 200;
/// The size of a session's send queue, bytes. When a queue is full, the server closes its session. A queue of this size
/// does not become full in these tests.
const ROOM: usize = 512 * 1024 * 1024;

async fn app() -> App {
    App::start_with(|config| config.session.send_queue_bytes = ROOM).await
}

/// Starts an engine that connects to its database through a proxy.
async fn app_behind_a_proxy() -> (App, Proxy) {
    let database = Database::fresh().await;
    let (proxy, url) = Proxy::before(&database).await;
    let app = App::start_on(database, |config| {
        config.session.send_queue_bytes = ROOM;
        config.database.url = Some(url.into());
    })
    .await;
    app.until_listening().await;
    (app, proxy)
}

fn insert(store: &str, orders: usize) -> String {
    format!(
        "insert into orders (store_id, customer_name) select {store}, 'Анна ' || n from generate_series(1, {orders}) n"
    )
}

/// A panel whose messages a background task reads.
struct Reading {
    received: Arc<Mutex<Vec<Value>>>,
    count: Arc<AtomicUsize>,
    /// The WebSocket close code, once the server has closed the panel's socket. No event arrives after that.
    closed: Arc<OnceLock<u16>>,
    task: JoinHandle<()>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reading {
    fn of(mut panel: Panel) -> Self {
        let (received, count) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let closed = Arc::new(OnceLock::new());
        let (to, counted, closing) = (Arc::clone(&received), Arc::clone(&count), Arc::clone(&closed));
        let task = tokio::spawn(async move {
            loop {
                match panel.message().await {
                    Ok(message) => {
                        let is_event = message.get("data").is_some();
                        to.lock().unwrap().push(message);
                        // On a busy machine, the engine's ping waits behind thousands of events, and the panel's pong
                        // comes too late. The panel therefore also sends pings, which show that the panel is alive.
                        if is_event && counted.fetch_add(1, Ordering::Relaxed) % SIGN_OF_LIFE_EVENTS == 0 {
                            let _ = panel.socket.send(Message::Ping(Bytes::new())).await;
                        }
                    }
                    Err(code) => return closing.set(code).expect("the panel closes once"),
                }
            }
        });
        Self {
            received,
            count,
            closed,
            task,
        }
    }

    fn count(&self) -> usize {
        let count = self.count.load(Ordering::Relaxed);
        assert!(
            !self.task.is_finished(),
            "closed after {count} events: {:?}",
            self.closed.get()
        );
        count
    }

    /// Waits until the panel has received `events` events.
    async fn until(&self, events: usize) {
        let waited = timeout(LONG_PATIENCE, async {
            while self.count() < events {
                look_again().await;
            }
        });
        assert!(waited.await.is_ok(), "{} of {events} came", self.count());
    }

    /// The events that the panel has received.
    fn events(&self) -> Vec<Value> {
        let received = self.received.lock().unwrap();
        received
            .iter()
            .filter(|message| message.get("data").is_some())
            .cloned()
            .collect()
    }
}

fn id(event: &Value) -> i64 {
    event["id"].as_str().unwrap().parse().unwrap()
}

fn ids(events: &[Value]) -> Vec<i64> {
    events.iter().map(id).collect()
}

fn assert_ascending_without_repeats(ids: &[i64]) {
    assert!(
        ids.is_sorted_by(|before, after| before < after),
        "not in order, or twice"
    );
}

async fn epoch(database: &Database) -> Epoch {
    vestnik::journal::read_epoch(&database.client().await).await.unwrap()
}

/// The id of the large transaction, and the id of its last event.
async fn bulk(database: &Database) -> (Xid, EventId) {
    let last = "select xid::text, id from vestnik.vst_event where store_id = $1 order by id desc limit 1";
    let row = database.client().await.query_one(last, &[&BULK]).await.unwrap();
    (Xid(row.get::<_, String>(0).parse().unwrap()), EventId(row.get(1)))
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_large_transaction_of_another_store() {
    const ORDERS: usize = 100_000;
    let app = app().await;
    let bulk_panel = Reading::of(app.panel(BULK, None).await.live().await);
    let mut other = app.panel("2", None).await.live().await;
    let (client, epoch) = (app.database.client().await, epoch(&app.database).await);
    app.write(&insert(BULK, ORDERS)).await;
    let (xid, last) = bulk(&app.database).await;
    bulk_panel.until(1).await;
    let mut came_within = 0;
    while bulk_panel.count() < ORDERS {
        client
            .execute("insert into orders (store_id) values (2)", &[])
            .await
            .unwrap();
        let event = other.event().await;
        // The event's cursor shows which part of the large transaction was published before the event.
        match Cursor::decode(event["cursor"].as_str().unwrap(), epoch).unwrap() {
            Cursor::Within { before, seen, through } => {
                assert!(!before.covers(xid) && seen.covers(xid));
                // The feed may publish the last chunk before it knows that no chunk follows. The cursor is then still
                // `Within`, although all events of the large transaction are published. Such an event does not count.
                came_within += usize::from(through < last);
            }
            Cursor::At(position) => {
                assert!(position.covers(xid));
                break;
            }
        }
    }
    assert!(
        came_within >= 20,
        "only {came_within} orders came while the bulk was on its way"
    );
    bulk_panel.until(ORDERS).await;
    let ids = ids(&bulk_panel.events());
    assert_eq!(ids.len(), ORDERS);
    assert_ascending_without_repeats(&ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_sort_a_large_transaction_for_longer_than_it_may_read() {
    let (app, proxy) = app_behind_a_proxy().await;
    let mut panel = app.panel(BULK, None).await.live().await;
    proxy.hold_next("vestnik bulk", "order by id");
    app.write(&insert(BULK, 2000)).await;
    proxy.until_held().await;
    let for_long = format!(
        "select exists (select from pg_stat_activity where datname = current_database() \
             and application_name = 'vestnik bulk' and now() - query_start > '{} s')",
        READ_DEADLINE.as_secs() + 1
    );
    app.database.until(&for_long).await;
    assert!(panel.event().now_or_never().is_none(), "the read was not repeated");
    proxy.let_go();
    for order in 1..=2000 {
        assert_eq!(panel.event().await["data"]["order_id"], order.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_a_row_of_a_large_transaction_comes_after_it_and_so_does_what_builds_on_that() {
    const ORDERS: usize = 20_000;
    let (app, proxy) = app_behind_a_proxy().await;
    let mut panels = Vec::new();
    for store in [BULK, "2", "3"] {
        panels.push(Reading::of(app.panel(store, None).await.live().await));
    }
    let client = app.database.client().await;
    // The proxy holds the read of the large transaction until all changes that depend on it are committed.
    proxy.hold_next("vestnik bulk", "order by id");
    app.write(&insert(BULK, ORDERS)).await;
    proxy.until_held().await;
    // The first transaction changes the last order of the large transaction, and inserts an order of store 2. The
    // second transaction changes the order of store 2, and inserts an order of store 3.
    for change in [
        "with last as (select max(id) as id from orders where store_id = 1), \
             changed as (update orders set status = 'preparing' from last where orders.id = last.id) \
         insert into orders (store_id, customer_name) values (2, 'with the bulk')",
        "with changed as (update orders set status = 'preparing' where customer_name = 'with the bulk') \
         insert into orders (store_id, customer_name) values (3, 'behind that')",
        "update orders set status = 'preparing' where customer_name = 'behind that'",
    ] {
        client.batch_execute(change).await.unwrap();
    }
    assert_eq!(
        panels[0].count(),
        0,
        "the large transaction was published before a change depended on it"
    );
    proxy.let_go();
    for (panel, events) in panels.iter().zip([ORDERS + 1, 2, 2]) {
        panel.until(events).await;
        let events = panel.events();
        let last = &events[events.len() - 1];
        assert_eq!(
            (&last["type"], &last["data"]["status"]),
            (&"order_status_changed".into(), &"preparing".into())
        );
        let inserted = events
            .iter()
            .position(|event| event["type"] == "new_order" && event["data"]["order_id"] == last["data"]["order_id"]);
        assert!(inserted.is_some(), "a change came without its order");
        assert_ascending_without_repeats(&ids(&events));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_from_the_middle_of_a_large_transaction_goes_on_exactly_there() {
    const ORDERS: usize = 20_000;
    let app = App::start_with(|config| {
        config.session.send_queue_bytes = ROOM;
        config.session.ping_interval = HEARTBEAT;
    })
    .await;
    let bulk_panel = Reading::of(app.panel(BULK, None).await.live().await);
    let other = Reading::of(app.panel("2", None).await.live().await);
    let client = app.database.client().await;
    let first = client
        .query_one("select coalesce(max(id), 0) from vestnik.vst_event", &[])
        .await
        .unwrap()
        .get::<_, i64>(0);
    app.write(&insert(BULK, ORDERS)).await;
    bulk_panel.until(1).await;
    let order = "insert into orders (store_id) values (2)";
    let mut orders = 0;
    while bulk_panel.count() < ORDERS {
        client.execute(order, &[]).await.unwrap();
        orders += 1;
        other.until(orders).await;
    }
    let events = other.events();
    let had = ids(&events);

    // Reconnect a panel of the other store with the cursors of about 20 events.
    for (index, event) in events.iter().enumerate().step_by(events.len().div_ceil(20)) {
        let back = app.panel("2", event["cursor"].as_str()).await.live().await;
        let replayed: Vec<Value> = back
            .before_live
            .into_iter()
            .filter(|message| message.get("data").is_some())
            .collect();
        assert_eq!(ids(&replayed), had[index + 1..]);
    }
    // Reconnect a panel of the large transaction's store. Its cursors come from heartbeats in the middle of the large
    // transaction, and must cover all events that were sent before the heartbeat.
    bulk_panel.until(ORDERS).await;
    let received = bulk_panel.received.lock().unwrap().clone();
    let (mut came, mut heartbeats) = (0, Vec::new());
    for message in &received {
        match message.get("data") {
            Some(_) => came = id(message),
            None if came > first && came < first + ORDERS as i64 => {
                heartbeats.push((came, message["cursor"].as_str().unwrap().to_owned()))
            }
            None => {}
        }
    }
    assert!(!heartbeats.is_empty(), "no heartbeat came in the middle");
    let all = ids(&bulk_panel.events());
    for (came, cursor) in heartbeats.iter().step_by(heartbeats.len().div_ceil(2)) {
        let back = app.panel(BULK, Some(cursor)).await.live().await;
        let replayed: Vec<Value> = back
            .before_live
            .into_iter()
            .filter(|message| message.get("data").is_some())
            .collect();
        let expected: Vec<i64> = all.iter().copied().filter(|id| id > came).collect();
        assert_eq!(ids(&replayed), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_that_comes_back_while_a_large_transaction_is_on_its_way_misses_nothing() {
    const ORDERS: usize = 20_000;
    let app = app().await;
    let mut panel = app.panel(BULK, None).await.live().await;
    app.write(&insert(BULK, ORDERS)).await;
    let mut came = HashSet::new();
    let mut returns = 0;
    while came.len() < ORDERS {
        came.insert(id(&panel.event().await));
        // Reconnect ten times, after every 1111 events. Some of these disconnections fall within a chunk, and some
        // between two chunks.
        if came.len() > returns * 1111 && returns < 10 {
            returns += 1;
            let cursor = panel.cursor.clone();
            panel = app.panel(BULK, Some(&cursor)).await;
        }
    }
    assert_eq!(returns, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_that_reads_is_not_let_go_for_a_large_transaction_beyond_its_queue() {
    const ORDERS: usize = 20_000;
    // The events take about 6 MB, more than the send queue and the buffers of the socket together.
    let app = App::start_with(|config| config.session.send_queue_bytes = 512 * 1024).await;
    let panel = Reading::of(app.panel(BULK, None).await.live().await);
    app.write(&insert(BULK, ORDERS)).await;
    panel.until(ORDERS).await;
    assert_ascending_without_repeats(&ids(&panel.events()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_large_transactions_at_once_come_whole_and_a_third_store_does_not_wait() {
    const ORDERS: usize = 20_000;
    let app = app().await;
    let mut panels = Vec::new();
    for store in [BULK, "2"] {
        panels.push(Reading::of(app.panel(store, None).await.live().await));
    }
    let mut third = app.panel("3", None).await.live().await;
    let (one, other, client) = (
        app.database.client().await,
        app.database.client().await,
        app.database.client().await,
    );
    for (client, store) in [(&one, BULK), (&other, "2")] {
        client
            .batch_execute(&format!("begin; {}", insert(store, ORDERS)))
            .await
            .unwrap();
    }
    one.batch_execute("commit").await.unwrap();
    panels[0].until(1).await;
    other.batch_execute("commit").await.unwrap();
    let mut meanwhile = 0;
    while panels[0].count() < ORDERS || panels[1].count() < ORDERS {
        client
            .execute("insert into orders (store_id) values (3)", &[])
            .await
            .unwrap();
        third.event().await;
        meanwhile += usize::from(panels[1].count() == 0);
    }
    assert!(meanwhile > 0, "the third store got events meanwhile");
    for panel in &panels {
        let ids = ids(&panel.events());
        assert_eq!(ids.len(), ORDERS);
        assert_ascending_without_repeats(&ids);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_killed_while_large_transactions_are_on_their_way_and_nothing_is_lost() {
    const ROUNDS: usize = 6;
    const ORDERS: usize = 3_000;
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let app = app().await;
    let trial = Trial::begin(app.database.url(), &[app.engine.address()], &app.token, seed).await;
    let client = app.database.client().await;
    let terminate = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
         where application_name = $1 and datname = current_database()";
    let mut killed = [0; 3];
    for _ in 0..ROUNDS {
        trial.write_many(ORDERS, &mut random).await;
        for _ in 0..3 {
            trial.commits(random.usize(1..20)).await;
            let victim = random.usize(..3);
            let name = ["vestnik bulk", "vestnik feed", "vestnik listener"][victim];
            killed[victim] += client.query_one(terminate, &[&name]).await.unwrap().get::<_, i64>(0);
        }
        trial.commits(random.usize(1..60)).await;
    }
    eprintln!("killed: bulk, feed, listener {killed:?}");
    trial.judge(Repeats::Never).await;
}
