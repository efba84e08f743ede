//! The writers of a [`Trial`](super::Trial), and the net changes of their transactions.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use vestnik::infra::db::Client;

use super::tables::{INSERT_MEAL, Table};
use super::{Book, STORES};
use crate::support::look_again;

pub const STATUSES: [&str; 6] = ["pending", "preparing", "ready", "completed", "rejected", "cancelled"];
/// The statuses of ended orders. An order that is inserted with one of these statuses creates no event.
const OVER: [&str; 3] = ["completed", "rejected", "cancelled"];
/// Writers change only this number of the newest orders, so that several writers change the same order.
const CONTENDED_ORDERS: usize = 10;
/// The longest wait of a writer for a row that another writer has locked. After this time, the writer rolls back.
const LOCK_TIMEOUT: &str = "set lock_timeout = '200ms'";
/// A transaction that is held open ends after at most this number of commits of other writers.
const HELD_FOR_COMMITS: usize = 30;

/// The tags of meals begin with this word.
pub const MEAL: &str = "meal-";

/// A row of a table that the writers write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub table: Table,
    pub number: i64,
}

pub struct Writer {
    pub name: String,
    pub random: fastrand::Rng,
    pub url: String,
    pub book: Arc<Mutex<Book>>,
    pub commits: Arc<AtomicUsize>,
    pub stop: Arc<AtomicBool>,
    pub tables: &'static [Table],
    pub written: u64,
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
    orders: Vec<Row>,
}

/// The net change of one order in one transaction.
#[derive(Clone)]
struct Change {
    tag: String,
    store: i64,
    order: Row,
    /// The order's status before the transaction; `None` if the transaction inserted the order.
    before: Option<String>,
    after: String,
}

impl Change {
    /// Whether the change creates an event: an existing order has a different status at the end, or a new order has not
    /// ended.
    fn is_event(&self) -> bool {
        match &self.before {
            Some(before) => *before != self.after,
            None => !OVER.contains(&self.after.as_str()),
        }
    }
}

impl Pending {
    /// Records a change, which replaces an earlier change of the same order.
    fn change(&mut self, tag: String, store: i64, order: Row, before: Option<String>, after: &str) {
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
        silent.map(|change| change.order.table.key(change.order.number))
    }
}

impl Writer {
    pub async fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut client = connect(&self.url).await;
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
        let began = Instant::now();
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
                book.acknowledge(owed, began);
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
        let _ = timeout(Duration::from_millis(200), async {
            while self.commits.load(Ordering::Relaxed) < goal && !self.stop.load(Ordering::Relaxed) {
                look_again().await;
            }
        })
        .await;
    }

    async fn step(&mut self, client: &Client, pending: &mut Pending) -> Result<(), tokio_postgres::Error> {
        self.written += 1;
        let tag = format!("{}-{}", self.name, self.written);
        let Some(order) = self.order(pending).filter(|_| self.random.bool()) else {
            let store = STORES[self.random.usize(..STORES.len())];
            let table = self.tables[self.random.usize(..self.tables.len())];
            let number = client.query_one(table.insert(), &[&store, &tag]).await?.get(0);
            let order = Row { table, number };
            pending.orders.push(order);
            pending.change(tag, store, order, None, "pending");
            return Ok(());
        };
        let status = self.random.usize(..STATUSES.len());
        let words = order.table.words();
        let update = order.table.update();
        if let Some(row) = client.query_opt(update, &[&order.number, &words[status], &tag]).await? {
            let before = words.iter().position(|word| *word == row.get::<_, &str>(0));
            let before = STATUSES[before.expect("one of the table's words")];
            pending.change(tag, row.get(1), order, Some(before.to_owned()), STATUSES[status]);
        }
        Ok(())
    }

    /// Chooses an order that this transaction has inserted, or one of the newest committed orders.
    fn order(&mut self, pending: &Pending) -> Option<Row> {
        let mut orders = pending.orders.clone();
        orders.extend(self.book.lock().unwrap().orders.iter().rev().take(CONTENDED_ORDERS));
        (!orders.is_empty()).then(|| orders[self.random.usize(..orders.len())])
    }
}

/// Connects as the shop's application, and tries again until Postgres accepts the connection.
async fn connect(url: &str) -> Client {
    loop {
        match vestnik::infra::db::connect_as(&url.to_owned().into(), "shop").await {
            Ok(client) => return client,
            Err(_) => look_again().await,
        }
    }
}

/// Writes one meal after the other, until `stop` is true. The projector may merge later changes of a meal into one
/// event, so this writer only inserts.
pub async fn write_meals(
    url: String,
    mut random: fastrand::Rng,
    book: Arc<Mutex<Book>>,
    commits: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) {
    let mut client = connect(&url).await;
    for number in 0_u64.. {
        // Write each meal only after some commits of the other writers, so that most events are about orders and
        // tickets.
        let goal = commits.load(Ordering::Relaxed) + random.usize(1..=HELD_FOR_COMMITS);
        while commits.load(Ordering::Relaxed) < goal && !stop.load(Ordering::Relaxed) {
            look_again().await;
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let (tag, store) = (format!("{MEAL}{number}"), STORES[random.usize(..STORES.len())]);
        let is_kept = random.u8(..10) < 8;
        let inserted = async {
            client.batch_execute("begin").await?;
            client.query_one(INSERT_MEAL, &[&store, &tag]).await
        };
        let done = match inserted.await {
            Ok(_) if is_kept => {
                let began = Instant::now();
                let committed = client.batch_execute("commit").await;
                let mut book = book.lock().unwrap();
                match committed {
                    Ok(()) => book.acknowledge([(tag, store)], began),
                    Err(_) => drop(book.unknown.insert(tag, store)),
                }
                committed
            }
            Ok(_) | Err(_) => {
                book.lock().unwrap().never.insert(tag);
                client.batch_execute("rollback").await
            }
        };
        if done.is_err() {
            client = connect(&url).await;
        }
    }
}
