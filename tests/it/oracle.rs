//! The oracle that all fault tests use. Writers write orders with savepoints, rollbacks and long transactions, and
//! record which commits Postgres has acknowledged. Panels receive events, and reconnect with their cursors. At the end
//! the oracle checks:
//!
//! - Every acknowledged commit was delivered, as one event for each changed order. A transaction that was rolled back
//!   has no event.
//! - The events of a row are in order. Each event's previous status is the status of the event before it.
//! - No panel received an event of another store.
//! - An event was repeated only where a fault permits this, and the repeated event had the same id.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vestnik::infra::db::Client;

use crate::support::app::{PATIENCE, Panel};
use crate::support::look_again;

/// The stores whose orders the writers write.
pub const STORES: [i64; 3] = [1, 2, 3];
const WRITERS: u64 = 4;
const STATUSES: [&str; 6] = ["pending", "preparing", "ready", "completed", "rejected", "cancelled"];
/// The statuses of ended orders. An order that is inserted with one of these statuses creates no event.
const OVER: [&str; 3] = ["completed", "rejected", "cancelled"];
/// All writers change the newest orders. This is the number of these orders.
const CONTENDED_ORDERS: usize = 10;
/// The longest wait of a writer for a row that another writer has locked. After this time, the writer rolls back.
const LOCK_TIMEOUT: &str = "set lock_timeout = '200ms'";
/// A transaction that is held open ends after at most this number of commits of other writers.
const HELD_FOR_COMMITS: usize = 30;

/// The seed of this run, from VESTNIK_TEST_SEED or random. The function prints the seed, so that a failed run can be
/// repeated.
pub fn seed() -> u64 {
    let given = std::env::var("VESTNIK_TEST_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("replay with VESTNIK_TEST_SEED={seed}");
    seed
}

/// The record of all changes that the writers have written. Each change has a unique tag.
#[derive(Default)]
struct Book {
    /// Changes whose commit Postgres has acknowledged. The key is the tag, and the value is the store.
    acknowledged: HashMap<String, i64>,
    /// Changes whose outcome is unknown, because the connection broke during the commit. The key is the tag, and the
    /// value is the store.
    unknown: HashMap<String, i64>,
    /// The tags of changes that were rolled back.
    never: HashSet<String>,
    /// Changes that the same transaction later replaced or undid. The key is the tag, and the value is the store.
    passing: HashMap<String, i64>,
    /// Whether some transaction was larger than one read of the feed. The feed may publish each change of such a
    /// transaction as an event of its own.
    has_large: bool,
    /// The ids of orders that were inserted with an ended status. Such an insertion creates no event.
    silent: HashSet<String>,
    /// The ids and the stores of committed orders, which every writer may change.
    orders: Vec<(i64, i64)>,
}

/// Whether an event may arrive more than once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// No fault of the run allows a repeated event.
    Never,
    /// A session or the engine fails during the run, so some events may arrive twice.
    InFaults,
}

/// The panel of one store, with the events that the panel has received.
struct Receiver {
    store: i64,
    received: Arc<Mutex<Vec<Value>>>,
    receiving: JoinHandle<()>,
}

/// The writers and panels of one run.
pub struct Trial {
    url: String,
    book: Arc<Mutex<Book>>,
    commits: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    /// The test increments this number to close the socket of every panel.
    breaks: watch::Sender<u64>,
    writers: Vec<JoinHandle<()>>,
    panels: Vec<Receiver>,
}

impl Trial {
    /// Starts writers on `database`, and panels that connect to `engines`. After a disconnection, a panel connects to
    /// the next engine.
    pub async fn begin(database: &str, engines: &[SocketAddr], token: &str, seed: u64) -> Self {
        let mut panels = Vec::new();
        let (breaks, broken) = watch::channel(0);
        for (store, engine) in STORES.into_iter().zip(engines.iter().cycle()) {
            let received = Arc::new(Mutex::new(Vec::new()));
            let first = Panel::connect(*engine, &store.to_string(), None, token)
                .await
                .unwrap()
                .live()
                .await;
            let receiving = receive(
                first,
                engines.to_vec(),
                store,
                token.to_owned(),
                Arc::clone(&received),
                broken.clone(),
            );
            panels.push(Receiver {
                store,
                received,
                receiving: tokio::spawn(receiving),
            });
        }
        let (book, commits, stop) = (Arc::default(), Arc::default(), Arc::default());
        let writers = (0..WRITERS).map(|number| {
            let writer = Writer {
                name: format!("w{number}"),
                random: fastrand::Rng::with_seed(seed.wrapping_add(number)),
                url: database.to_owned(),
                book: Arc::clone(&book),
                commits: Arc::clone(&commits),
                stop: Arc::clone(&stop),
                written: 0,
            };
            tokio::spawn(writer.run())
        });
        let writers = writers.collect();
        Self {
            url: database.to_owned(),
            book,
            commits,
            stop,
            breaks,
            writers,
            panels,
        }
    }

    /// Waits until the writers have committed `more` transactions after this call.
    pub async fn commits(&self, more: usize) {
        let goal = self.commits.load(Ordering::Relaxed) + more;
        timeout(PATIENCE * 3, async {
            while self.commits.load(Ordering::Relaxed) < goal {
                look_again().await;
            }
        })
        .await
        .expect("the writers go on");
    }

    /// Inserts `orders` orders of one or two stores in one transaction, and lets the other writers change some of these
    /// orders.
    pub async fn write_many(&self, orders: usize, random: &mut fastrand::Rng) {
        let name = format!("many{}", random.u64(..));
        let client = vestnik::infra::db::connect_as(&self.url.clone().into(), "shop")
            .await
            .unwrap();
        let mut store = || STORES[random.usize(..STORES.len())];
        let stores = [(); 2].map(|()| store());
        let insert = "insert into orders (store_id, customer_name) \
             select ($1::bigint[])[1 + n % 2], $2 || '-' || n from generate_series(1, $3::bigint) n \
             returning id, store_id, customer_name";
        let rows = client
            .query(insert, &[&stores.as_slice(), &name, &(orders as i64)])
            .await
            .unwrap();
        let mut book = self.book.lock().unwrap();
        book.has_large = true;
        for row in rows {
            book.acknowledged.insert(row.get(2), row.get(1));
            book.orders.push((row.get(0), row.get(1)));
        }
    }

    /// Closes the socket of every panel. The panels reconnect.
    pub fn break_panels(&self) {
        self.breaks.send_modify(|breaks| *breaks += 1);
    }

    /// Stops the writers, waits for the events of all acknowledged commits, and checks all events that the panels have
    /// received. Returns a summary in one line.
    pub async fn judge(self, repeats: Repeats) -> String {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            timeout(PATIENCE * 3, writer).await.expect("a writer ends").unwrap();
        }
        let book = std::mem::take(&mut *self.book.lock().unwrap());
        let (mut by_tag, mut by_id) = (HashMap::new(), HashMap::new());
        for Receiver {
            store,
            received,
            receiving,
        } in &self.panels
        {
            let owed: HashSet<&str> = of_store(&book.acknowledged, *store).collect();
            until_received(&owed, received).await;
            receiving.abort();
            let events = received.lock().unwrap();
            let mut last_of_order: HashMap<String, (u64, Value)> = HashMap::new();
            let mut seen = HashSet::new();
            for event in events.iter() {
                let (tag, id) = (tag(event), event["id"].as_str().unwrap().to_owned());
                assert_eq!(
                    event["store_id"],
                    store.to_string(),
                    "an event of another store: {event}"
                );
                assert!(
                    !book.never.contains(&tag),
                    "an event of a rolled back transaction: {event}"
                );
                let passing = book.passing.get(&tag).filter(|_| book.has_large);
                let known = book.acknowledged.get(&tag).or(book.unknown.get(&tag)).or(passing);
                assert_eq!(known, Some(store), "never written for this store: {event}");
                assert_eq!(
                    by_tag.entry(tag.clone()).or_insert(id.clone()),
                    &id,
                    "two ids for one change: {event}"
                );
                assert_eq!(
                    by_id.entry(id.clone()).or_insert(tag.clone()),
                    &tag,
                    "one id for two changes: {event}"
                );
                if !seen.insert(id.clone()) {
                    assert!(repeats == Repeats::InFaults, "a repeated event: {event}");
                    continue;
                }
                let data = &event["data"];
                let (order, id) = (data["order_id"].as_str().unwrap().to_owned(), id.parse().unwrap());
                let before = last_of_order.insert(order.clone(), (id, data["status"].clone()));
                let is_silent = before.is_none() && book.silent.contains(&order);
                let (before_id, status) = before.unwrap_or((0, Value::Null));
                assert!(before_id < id, "out of order: {event}");
                assert!(
                    is_silent || data["previous_status"] == status,
                    "a change before it is missing: {event}"
                );
            }
        }
        assert!(
            book.acknowledged.len() > 50,
            "too little was written to judge: {}",
            book.acknowledged.len()
        );
        format!(
            "{} acknowledged changes, each delivered; {} of unknown outcome, {} rolled back; {} events received",
            book.acknowledged.len(),
            book.unknown.len(),
            book.never.len(),
            by_id.len()
        )
    }
}

fn of_store(tags: &HashMap<String, i64>, store: i64) -> impl Iterator<Item = &str> {
    tags.iter()
        .filter(move |(_, of)| **of == store)
        .map(|(tag, _)| tag.as_str())
}

async fn until_received(owed: &HashSet<&str>, received: &Mutex<Vec<Value>>) {
    let missing = || {
        let received = received.lock().unwrap();
        let there: HashSet<String> = received.iter().map(tag).collect();
        owed.iter()
            .filter(|tag| !there.contains(**tag))
            .map(|tag| (*tag).to_owned())
            .collect::<Vec<_>>()
    };
    let waited = timeout(PATIENCE * 2, async {
        while !missing().is_empty() {
            look_again().await;
        }
    });
    if waited.await.is_err() {
        panic!("acknowledged and never delivered: {:?}", missing());
    }
}

/// The tag of the change that an event describes. A changed order has the tag as its reason, and a new order has the
/// tag as its customer.
fn tag(event: &Value) -> String {
    let data = &event["data"];
    data["reason"]
        .as_str()
        .or(data["customer_name"].as_str())
        .unwrap_or("none")
        .to_owned()
}

/// Receives events as a panel does. After each disconnection, it reconnects with the panel's newest cursor.
async fn receive(
    mut panel: Panel,
    engines: Vec<SocketAddr>,
    store: i64,
    token: String,
    received: Arc<Mutex<Vec<Value>>>,
    mut broken: watch::Receiver<u64>,
) {
    let mut engines = engines.iter().cycle().skip(1);
    loop {
        let message = tokio::select! {
            message = panel.message() => message,
            _ = broken.changed() => Err(1006),
        };
        match message {
            Ok(message) if message.get("data").is_some() => received.lock().unwrap().push(message),
            Ok(message) => assert_ne!(message["type"], "resync_required", "{message}"),
            Err(_) => {
                let cursor = panel.cursor.clone();
                panel = loop {
                    let engine = engines.next().unwrap();
                    match Panel::connect(*engine, &store.to_string(), Some(&cursor), &token).await {
                        Ok(panel) => break panel,
                        Err(_) => look_again().await,
                    }
                };
            }
        }
    }
}

struct Writer {
    name: String,
    random: fastrand::Rng,
    url: String,
    book: Arc<Mutex<Book>>,
    commits: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    written: u64,
}

/// The tag and the store of each change.
type Tags = Vec<(String, i64)>;

/// The changes that one open transaction has written so far.
#[derive(Default, Clone)]
struct Pending {
    /// The net change of each order.
    changes: Vec<Change>,
    /// The tags and the stores of changes that the same transaction has replaced with later changes.
    passing: Vec<(String, i64)>,
    orders: Vec<(i64, i64)>,
}

/// The net change of one order in one transaction.
#[derive(Clone)]
struct Change {
    tag: String,
    store: i64,
    order: i64,
    /// The order's status before the transaction; `None` if the transaction inserted the order.
    before: Option<String>,
    after: String,
}

impl Change {
    /// Whether the change creates an event: an existing order has another status at the end, or a new order is not an
    /// ended order.
    fn is_event(&self) -> bool {
        match &self.before {
            Some(before) => *before != self.after,
            None => !OVER.contains(&self.after.as_str()),
        }
    }
}

impl Pending {
    /// Records a change, which replaces an earlier change of the same order.
    fn change(&mut self, tag: String, store: i64, order: i64, before: Option<String>, after: &str) {
        let place = self.changes.iter().position(|change| change.order == order);
        let earlier = place.map(|place| self.changes.remove(place));
        self.changes.push(Change {
            tag,
            store,
            order,
            before: earlier.as_ref().map_or(before, |earlier| earlier.before.clone()),
            after: after.to_owned(),
        });
        self.passing.extend(earlier.map(|earlier| (earlier.tag, earlier.store)));
    }

    fn tags(&self) -> impl Iterator<Item = &String> {
        self.changes
            .iter()
            .map(|change| &change.tag)
            .chain(self.passing.iter().map(|(tag, _)| tag))
    }

    /// The changes that create an event, and the changes that create none.
    fn owed(&self) -> (Tags, Tags) {
        let (events, none): (Vec<_>, Vec<_>) = self.changes.iter().partition(|change| change.is_event());
        let tags = |changes: Vec<&Change>| {
            changes
                .into_iter()
                .map(|change| (change.tag.clone(), change.store))
                .collect::<Tags>()
        };
        (tags(events), [tags(none), self.passing.clone()].concat())
    }

    fn silent(&self) -> impl Iterator<Item = String> {
        let silent = self
            .changes
            .iter()
            .filter(|change| change.before.is_none() && !change.is_event());
        silent.map(|change| change.order.to_string())
    }
}

impl Writer {
    async fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(mut client) = vestnik::infra::db::connect_as(&self.url.clone().into(), "shop").await else {
                look_again().await;
                continue;
            };
            if client.batch_execute(LOCK_TIMEOUT).await.is_err() {
                continue;
            }
            while !self.stop.load(Ordering::Relaxed) && self.transaction(&mut client).await.is_ok() {}
        }
    }

    /// Executes one transaction. An error means that the connection has failed.
    async fn transaction(&mut self, client: &mut Client) -> Result<(), tokio_postgres::Error> {
        let mut pending = Pending::default();
        let result = self.steps(client, &mut pending).await;
        let committed = match result {
            Ok(true) => client.batch_execute("commit").await,
            // `Ok(false)` is a rollback by choice. An error means that another writer has locked a row for too long, or
            // that the connection has failed. If the connection has failed, the rollback fails as well.
            Ok(false) | Err(_) => {
                self.book.lock().unwrap().never.extend(pending.tags().cloned());
                return client.batch_execute("rollback").await;
            }
        };
        let mut book = self.book.lock().unwrap();
        let (owed, passing) = pending.owed();
        book.passing.extend(passing);
        book.silent.extend(pending.silent());
        match committed {
            Ok(()) => {
                book.acknowledged.extend(owed);
                book.orders.extend(pending.orders);
                self.commits.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                // The commit may have failed. These new orders may not exist, so no writer changes them.
                book.unknown.extend(owed);
                Err(error)
            }
        }
    }

    /// Executes the statements of one transaction. Returns whether to commit the transaction.
    async fn steps(&mut self, client: &Client, pending: &mut Pending) -> Result<bool, tokio_postgres::Error> {
        client.batch_execute("begin").await?;
        for _ in 0..self.random.usize(1..=4) {
            if self.random.u8(..10) < 2 {
                let mut within = pending.clone();
                client.batch_execute("savepoint s").await?;
                self.step(client, &mut within).await?;
                if self.random.bool() {
                    client.batch_execute("rollback to savepoint s").await?;
                    let kept: HashSet<&String> = pending.tags().collect();
                    let undone = within.tags().filter(|tag| !kept.contains(tag)).cloned();
                    self.book.lock().unwrap().never.extend(undone);
                } else {
                    client.batch_execute("release savepoint s").await?;
                    *pending = within;
                }
            } else {
                self.step(client, pending).await?;
            }
        }
        if self.random.u8(..10) == 0 {
            self.hold_open().await;
        }
        Ok(self.random.u8(..10) < 8)
    }

    /// Keeps the transaction open until other writers have committed. Transactions with higher ids then commit before
    /// this transaction.
    async fn hold_open(&mut self) {
        let goal = self.commits.load(Ordering::Relaxed) + self.random.usize(1..=HELD_FOR_COMMITS);
        // The wait is limited, because all writers may hold a transaction open at once.
        let _ = timeout(std::time::Duration::from_millis(200), async {
            while self.commits.load(Ordering::Relaxed) < goal && !self.stop.load(Ordering::Relaxed) {
                look_again().await;
            }
        })
        .await;
    }

    async fn step(&mut self, client: &Client, pending: &mut Pending) -> Result<(), tokio_postgres::Error> {
        self.written += 1;
        let tag = format!("{}-{}", self.name, self.written);
        let Some((id, store)) = self.order(pending).filter(|_| self.random.bool()) else {
            let store = STORES[self.random.usize(..STORES.len())];
            let insert = "insert into orders (store_id, customer_name) values ($1, $2) returning id";
            let row = client.query_one(insert, &[&store, &tag]).await?;
            pending.orders.push((row.get(0), store));
            pending.change(tag, store, row.get(0), None, "pending");
            return Ok(());
        };
        let status = STATUSES[self.random.usize(..STATUSES.len())];
        // If the order has this status already, the statement changes nothing and creates no event.
        let update = "with before as (select id, status from orders where id = $1 for update) \
             update orders o set status = $2, reason = $3 from before where o.id = before.id and before.status <> $2 \
             returning before.status";
        if let Some(row) = client.query_opt(update, &[&id, &status, &tag]).await? {
            pending.change(tag, store, id, Some(row.get(0)), status);
        }
        Ok(())
    }

    /// Chooses an order that this transaction has inserted, or one of the newest committed orders.
    fn order(&mut self, pending: &Pending) -> Option<(i64, i64)> {
        let mut orders = pending.orders.clone();
        orders.extend(self.book.lock().unwrap().orders.iter().rev().take(CONTENDED_ORDERS));
        (!orders.is_empty()).then(|| orders[self.random.usize(..orders.len())])
    }
}
