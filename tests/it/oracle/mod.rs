//! The oracle that all fault tests use. Writers write orders with savepoints, rollbacks and long transactions, and
//! record which commits Postgres has acknowledged. Panels receive events, and reconnect with their cursors. At the end
//! the oracle checks:
//!
//! - Every acknowledged commit was delivered, as one event for each changed order. A transaction that was rolled back
//!   has no event.
//! - If the database lost commits, each client that saw a lost change was told to load its lists again. Other clients
//!   may have been told as well. Each commit that the database still has was delivered, or is in those lists.
//! - The events of a row are in order. Each event's previous status is the status of the event before it.
//! - No panel received an event of another store.
//! - An event was repeated only if a fault permits this, and the repeated event had the same id.

mod receiver;
pub mod tables;
mod writer;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::app::PATIENCE;
use crate::support::look_again;
use receiver::{Address, Received, Receiver, Resync};
use tables::Table;
use writer::{MEAL, Row, Writer, write_meals};

/// The stores whose orders the writers write.
pub const STORES: [i64; 3] = [1, 2, 3];
const WRITERS: u64 = 4;
/// After one loss, a client may be told at most this often to load its lists again: once by each of the three nodes.
const MOST_RESYNCS: usize = 3;

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
    /// Changes whose commit Postgres has acknowledged. The key is the tag.
    acknowledged: HashMap<String, Commit>,
    /// Changes whose outcome is unknown, because the connection broke during the commit. The key is the tag, and the
    /// value is the store.
    unknown: HashMap<String, i64>,
    /// Changes that the database lost in a promotion, or when a copy of its files was restored. The key is the tag, and
    /// the value is the store.
    lost: HashMap<String, i64>,
    /// The times at which the test recorded a loss of commits.
    losses: Vec<Instant>,
    /// The tags of changes that were rolled back.
    never: HashSet<String>,
    /// Changes that the same transaction later replaced or undid. The key is the tag, and the value is the store.
    passing: HashMap<String, i64>,
    /// Whether some transaction was larger than one read of the feed. The feed may publish each change of such a
    /// transaction as a separate event.
    has_large: bool,
    /// The `order_id` of each order that was inserted with a final status. Such an insertion creates no event.
    silent: HashSet<String>,
    /// The committed orders, which every writer may change.
    orders: Vec<Row>,
}

/// The store of an acknowledged change, and the time at which its commit began.
#[derive(Clone, Copy)]
struct Commit {
    store: i64,
    began: Instant,
}

impl Book {
    fn acknowledge(&mut self, tags: impl IntoIterator<Item = (String, i64)>, began: Instant) {
        let commits = tags.into_iter().map(|(tag, store)| (tag, Commit { store, began }));
        self.acknowledged.extend(commits);
    }

    /// The store of a change that may have caused an event. `None` if the change cannot have an event.
    fn store_of(&self, tag: &str) -> Option<i64> {
        let passing = self.passing.get(tag).filter(|_| self.has_large);
        let acknowledged = self.acknowledged.get(tag).map(|commit| commit.store);
        acknowledged.or(self.unknown.get(tag).or(self.lost.get(tag)).or(passing).copied())
    }
}

/// Whether an event may arrive more than once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// No fault of the run allows a repeated event.
    Never,
    /// A session or the engine fails during the run, so some events may arrive twice.
    InFaults,
}

/// The parts of a trial that a test may choose.
#[derive(Clone, Copy)]
pub struct Setup {
    /// Whether there are also writers of tickets and meals ([`tables::attach`]), and a client with one stream for all
    /// stores.
    pub is_whole: bool,
    /// A client that receives nothing for this time reconnects.
    pub silence: Duration,
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
    clients: Vec<Receiver>,
}

impl Trial {
    /// Starts writers on `database`, and panels that connect to `engines`. After a disconnection, a panel connects to
    /// the next engine.
    pub async fn begin(database: &str, engines: &[SocketAddr], token: &str, seed: u64) -> Self {
        let setup = Setup {
            is_whole: false,
            silence: PATIENCE,
        };
        Self::begin_with(database, engines, token, seed, setup).await
    }

    /// Like [`Trial::begin`], with another setup.
    pub async fn begin_with(database: &str, engines: &[SocketAddr], token: &str, seed: u64, setup: Setup) -> Self {
        let mut clients = Vec::new();
        let (breaks, broken) = watch::channel(0);
        let all_stores = setup.is_whole.then_some(None);
        for (number, store) in STORES.into_iter().map(Some).chain(all_stores).enumerate() {
            let mut engines = engines.to_vec();
            let first = number % engines.len();
            engines.rotate_left(first);
            let address = Address {
                engines,
                store,
                token: token.to_owned(),
                silence: setup.silence,
            };
            clients.push(Receiver::begin(address, broken.clone()).await);
        }
        let (book, commits, stop) = (Arc::default(), Arc::default(), Arc::default());
        let tables: &[Table] = if setup.is_whole {
            &[Table::Orders, Table::Tickets]
        } else {
            &[Table::Orders]
        };
        let writers = (0..WRITERS).map(|number| {
            let writer = Writer {
                name: format!("w{number}"),
                random: fastrand::Rng::with_seed(seed.wrapping_add(number)),
                url: database.to_owned(),
                book: Arc::clone(&book),
                commits: Arc::clone(&commits),
                stop: Arc::clone(&stop),
                tables,
                written: 0,
            };
            tokio::spawn(writer.run())
        });
        let mut writers: Vec<_> = writers.collect();
        if setup.is_whole {
            let random = fastrand::Rng::with_seed(seed.wrapping_add(WRITERS));
            let (book, commits, stop) = (Arc::clone(&book), Arc::clone(&commits), Arc::clone(&stop));
            writers.push(tokio::spawn(write_meals(
                database.to_owned(),
                random,
                book,
                commits,
                stop,
            )));
        }
        Self {
            url: database.to_owned(),
            book,
            commits,
            stop,
            breaks,
            writers,
            clients,
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
        let began = Instant::now();
        let rows = client
            .query(insert, &[&stores.as_slice(), &name, &(orders as i64)])
            .await
            .unwrap();
        let mut book = self.book.lock().unwrap();
        book.has_large = true;
        for row in rows {
            book.acknowledge([(row.get(2), row.get(1))], began);
            let (table, number) = (Table::Orders, row.get(0));
            book.orders.push(Row { table, number });
        }
    }

    /// Inserts an order with this tag, which no writer changes. Returns the order's id, or `None` if Postgres has not
    /// acknowledged the commit.
    pub async fn order(&self, store: i64, tag: &str) -> Option<i64> {
        let insert = async {
            let client = vestnik::infra::db::connect_as(&self.url.clone().into(), "shop")
                .await
                .ok()?;
            let row = client.query_one(Table::Orders.insert(), &[&store, &tag]).await.ok()?;
            Some(row.get(0))
        };
        let (began, id) = (Instant::now(), insert.await);
        let mut book = self.book.lock().unwrap();
        if id.is_some() {
            book.acknowledge([(tag.to_owned(), store)], began);
        } else {
            book.unknown.insert(tag.to_owned(), store);
        }
        id
    }

    /// Whether Postgres has acknowledged the change, and has not lost it since.
    pub fn is_kept(&self, tag: &str) -> bool {
        self.book.lock().unwrap().acknowledged.contains_key(tag)
    }

    /// After a promotion or a restored copy, asks the database which changes it still has, and records the others as
    /// lost. No client needs events of lost changes. Connections to the earlier database must be closed. `since` is a
    /// moment before the loss, so no node can have noticed the loss before it.
    pub async fn forget_lost(&self, since: Instant) {
        let mut tags: HashSet<String> = {
            let book = self.book.lock().unwrap();
            book.acknowledged.keys().chain(book.unknown.keys()).cloned().collect()
        };
        let client = vestnik::infra::db::connect_as(&self.url.clone().into(), "shop")
            .await
            .unwrap();
        for row in client
            .query("select tag from written where tag is not null", &[])
            .await
            .unwrap()
        {
            tags.remove(row.get::<_, &str>(0));
        }
        let mut book = self.book.lock().unwrap();
        book.losses.push(since);
        for tag in tags {
            let acknowledged = book.acknowledged.remove(&tag).map(|commit| commit.store);
            let unknown = book.unknown.remove(&tag);
            let store = acknowledged.or(unknown).expect("a change of the book");
            book.lost.insert(tag, store);
        }
    }

    /// Waits until every client has received all changes that Postgres has acknowledged so far.
    pub async fn until_caught_up(&self) {
        let acknowledged = self.book.lock().unwrap().acknowledged.clone();
        for client in &self.clients {
            until_received(&acknowledged, client, &self.url).await;
        }
    }

    /// Closes the connection of every client. The clients reconnect.
    pub fn break_clients(&self) {
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
        let mut ids = Ids::default();
        for client in &self.clients {
            until_received(&book.acknowledged, client, &self.url).await;
            client.receiving.abort();
            check(&book, &client.received.lock().unwrap(), client.store, repeats, &mut ids);
        }
        assert!(
            book.acknowledged.len() > 50,
            "too little was written to judge: {}",
            book.acknowledged.len()
        );
        let lost = match book.losses.len() {
            0 => String::new(),
            losses => format!("; {} lost by the database in {losses} losses", book.lost.len()),
        };
        format!(
            "{} acknowledged changes, each delivered; {} of unknown outcome, {} rolled back; {} events received{lost}",
            book.acknowledged.len(),
            book.unknown.len(),
            book.never.len(),
            ids.by_id.len()
        )
    }
}

/// The event id of each change by the change's tag, and the tag of each change by its event id.
#[derive(Default)]
struct Ids {
    by_tag: HashMap<String, String>,
    by_id: HashMap<String, String>,
}

/// Checks all events that a client of `store` has received.
fn check(book: &Book, received: &Received, store: Option<i64>, repeats: Repeats, ids: &mut Ids) {
    check_resyncs(&received.resyncs, &book.losses);
    let mut last_of_order: HashMap<String, (u64, Value)> = HashMap::new();
    let (mut seen, mut since_resync) = (HashSet::new(), HashMap::new());
    for (number, event) in received.events.iter().enumerate() {
        if received.resyncs.iter().any(|resync| resync.events_before == number) {
            // The client loads its lists again, so the events before this one no longer count.
            last_of_order.clear();
            seen.clear();
            since_resync.clear();
        }
        let (tag, id) = (tag(event), event["id"].as_str().unwrap().to_owned());
        let of: i64 = event["store_id"].as_str().unwrap().parse().unwrap();
        assert_eq!(of, store.unwrap_or(of), "an event of another store: {event}");
        assert!(
            !book.never.contains(&tag),
            "an event of a rolled back transaction: {event}"
        );
        assert_eq!(book.store_of(&tag), Some(of), "never written for this store: {event}");
        if book.lost.contains_key(&tag) {
            let is_undone = received.resyncs.iter().any(|resync| resync.events_before > number);
            assert!(is_undone, "lost, and the client was not told: {event}");
        } else {
            // The projector appends the event of a meal after the meal's commit. So a loss of commits can remove the
            // event and keep the meal. Then the projector appends a second event, and each client that received the
            // first event was told of the loss.
            let is_again = tag.starts_with(MEAL) && !book.losses.is_empty();
            let by_tag = if is_again { &mut since_resync } else { &mut ids.by_tag };
            let first = by_tag.entry(tag.clone()).or_insert(id.clone());
            assert_eq!(first, &id, "two ids for one change: {event}");
            let first = ids.by_id.entry(id.clone()).or_insert(tag.clone());
            assert_eq!(first, &tag, "one id for two changes: {event}");
        }
        if !seen.insert(id.clone()) {
            assert!(repeats == Repeats::InFaults, "a repeated event: {event}");
            continue;
        }
        let data = &event["data"];
        let (order, id) = (data["order_id"].as_str().unwrap().to_owned(), id.parse().unwrap());
        let before = last_of_order.insert(order.clone(), (id, data["status"].clone()));
        // The client knows the order from a list, or the order's insertion created no event.
        let is_listed = received.resyncs.iter().any(|resync| resync.events_before <= number);
        let is_silent = before.is_none() && (is_listed || book.silent.contains(&order));
        let (before_id, status) = before.unwrap_or((0, Value::Null));
        assert!(before_id < id, "out of order: {event}");
        assert!(
            is_silent || data["previous_status"] == status,
            "a change before it is missing: {event}"
        );
    }
}

/// Checks that a client was told to load its lists again only after a loss of commits, and at most once by each node.
/// If a node notices the loss later than the other nodes, it may refuse a cursor that the client got after the loss.
fn check_resyncs(resyncs: &[Resync], losses: &[Instant]) {
    for (number, loss) in losses.iter().enumerate() {
        let next = losses.get(number + 1);
        let of_loss = resyncs
            .iter()
            .filter(|resync| resync.at >= *loss && next.is_none_or(|next| resync.at < *next));
        let of_loss: Vec<_> = of_loss.map(|resync| (resync.at - *loss, &resync.reason)).collect();
        assert!(of_loss.len() <= MOST_RESYNCS, "told again and again: {of_loss:?}");
        if of_loss.len() > 1 {
            eprintln!(
                "a client was told {} times of loss {number}: {of_loss:?}",
                of_loss.len()
            );
        }
    }
    let first = losses.iter().min();
    let is_early = |resync: &Resync| first.is_none_or(|first| resync.at < *first);
    assert!(!resyncs.iter().any(is_early), "no commit was lost: {resyncs:#?}");
}

/// Waits until a client has received an event for each acknowledged change of its stores. When the client was told to
/// load its lists again, those lists had the earlier commits, so only later commits need an event.
async fn until_received(acknowledged: &HashMap<String, Commit>, client: &Receiver, url: &str) {
    let missing = || {
        let received = client.received.lock().unwrap();
        let there: HashSet<String> = received.events.iter().map(tag).collect();
        let listed = received.resyncs.last().map(|resync| resync.at);
        let is_owed = |commit: &Commit| {
            client.store.is_none_or(|store| store == commit.store) && listed.is_none_or(|listed| listed <= commit.began)
        };
        let owed = acknowledged.iter().filter(|(_, commit)| is_owed(commit));
        owed.map(|(tag, _)| tag)
            .filter(|tag| !there.contains(*tag))
            .cloned()
            .collect::<Vec<_>>()
    };
    let waited = timeout(PATIENCE * 2, async {
        while !missing().is_empty() {
            look_again().await;
        }
    });
    if waited.await.is_err() {
        let missing = missing();
        let journal = journal_of(&missing, url).await;
        let received = client.received.lock().unwrap();
        panic!(
            "acknowledged and never delivered to the client of store {:?}: {missing:?}; in the journal: {journal:#?}; \
             the client's last events: {:#?}; its last message to load the lists: {:?}",
            client.store,
            received.events.iter().rev().take(3).collect::<Vec<_>>(),
            received.resyncs.last(),
        );
    }
}

/// The journal's rows of the changes with these tags, and the rows before and after them.
async fn journal_of(tags: &[String], url: &str) -> Vec<String> {
    const ROWS: &str = "select e::text from vestnik.vst_event e where exists (select from vestnik.vst_event m, unnest($1::text[]) tag \
         where strpos(m::text, tag) > 0 and e.id between m.id - 3 and m.id + 3) order by id limit 50";
    let client = vestnik::infra::db::connect_as(&url.to_owned().into(), "shop")
        .await
        .unwrap();
    let rows = client.query(ROWS, &[&tags]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
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
