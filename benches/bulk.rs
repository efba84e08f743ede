//! Measures how one large transaction delays live orders. The transaction writes 100,000 orders of one store, while
//! 200 orders a second go to 20 other stores. The figure is the latency of the live orders, from the INSERT to the
//! client's socket. Two more runs are for comparison. The first run has no large transaction. In the second run, the
//! large transaction writes to a table without a trigger, so only the load on the machine delays the live orders.

#[path = "support/engine.rs"]
mod engine;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/panels.rs"]
mod panels;
#[path = "support/quantile.rs"]
mod quantile;
#[path = "support/shop.rs"]
mod shop;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memory::resident_kb;
use panels::Panels;
use quantile::quantile;
use shop::Shop;

const BULK_ORDERS: u64 = 100_000;
const STORES: i64 = 20;
/// The store of the large transaction. No live order goes to this store.
const BULK_STORE: i64 = 20;
/// The pause between two live orders: 200 orders a second.
const PAUSE: Duration = Duration::from_millis(5);
/// How long live orders are written in the run without a large transaction.
const CALM: Duration = Duration::from_secs(5);
/// How long live orders are written after the large transaction.
const AFTER: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() {
    let shop = Shop::open().await;
    let client = vestnik::infra::db::connect_as(&shop.url, "bench")
        .await
        .expect("a connection");
    client
        .batch_execute("create table bare_orders (like orders including all)")
        .await
        .expect("a table");
    let (engine, address) = engine::serve(&shop, &[]).await;
    let token = engine::token(&shop).await;
    let live = Panels::open(address, &token, STORES, true).await;
    let bulk = Panels::of(address, &token, BULK_STORE..BULK_STORE + 1, false).await;
    let memory = Memory::of(engine.0.id());
    println!("200 orders/s to {STORES} stores, ms   |    p50     p99   worst");
    for (what, table) in [
        ("alone", None),
        ("a bulk without triggers", Some("bare_orders")),
        ("a bulk", Some("orders")),
        ("a bulk again", Some("orders")),
    ] {
        let before = (memory.now(), bulk.count.load(Ordering::Relaxed));
        let live_before = live.count.load(Ordering::Relaxed);
        memory.peak.store(before.0, Ordering::Relaxed);
        let watched = if table == Some("orders") { BULK_ORDERS } else { 0 };
        let enough = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn(write_live(shop.url.clone(), Arc::clone(&enough)));
        tokio::time::sleep(AFTER).await;
        let began = Instant::now();
        let mut committed = Duration::ZERO;
        match table {
            None => tokio::time::sleep(CALM).await,
            Some(table) => {
                client.batch_execute(&many(table)).await.expect("a bulk");
                committed = began.elapsed();
                bulk.until(before.1, watched).await;
            }
        }
        let whole = began.elapsed();
        assert_eq!(
            bulk.count.load(Ordering::Relaxed) - before.1,
            watched,
            "every order of the bulk comes once"
        );
        tokio::time::sleep(AFTER).await;
        enough.store(true, Ordering::Relaxed);
        let sent = writing.await.expect("a writer");
        let all = sent.len() as u64;
        assert_eq!(live.until(live_before, all).await, all, "every order comes once");
        let mut ways = live.ways(&sent);
        let [p50, p99, worst] = [0.5, 0.99, 1.0].map(|share| quantile(&mut ways, share));
        println!("{what:30} | {p50:6.2} {p99:7.2} {worst:7.2}");
        if watched > 0 {
            let mb = |kib: u64| kib as f64 / 1024.0;
            println!(
                "    committed after {:.2} s, whole on its socket {:.2} s later; resident {:.1} MB before, {:.1} MB at most",
                committed.as_secs_f64(),
                (whole - committed).as_secs_f64(),
                mb(before.0),
                mb(memory.peak.load(Ordering::Relaxed)),
            );
        }
    }
}

fn many(table: &str) -> String {
    format!(
        "insert into {table} (store_id, customer_name, total, order_type, items) \
         select {BULK_STORE}, 'Иван', 50000, 'delivery', '[{{\"name\": \"Пицца\", \"count\": 2}}]' from generate_series(1, {BULK_ORDERS})"
    )
}

/// Writes orders to each store in turn until `enough` is true. Each order has its own task, so a slow INSERT delays
/// no later order. Returns the time when each INSERT began, by order id.
async fn write_live(url: secrecy::SecretString, enough: Arc<AtomicBool>) -> HashMap<String, Instant> {
    let client = Arc::new(
        vestnik::infra::db::connect_as(&url, "writer")
            .await
            .expect("a connection"),
    );
    let insert = client
        .prepare_cached(
            "insert into orders (store_id, customer_name, total, order_type, items) \
             values ($1, 'Анна', 50000, 'delivery', '[{\"name\": \"Суп\", \"count\": 1}]') returning id",
        )
        .await
        .expect("prepared");
    let (mut due, mut store, mut writes) = (Instant::now(), 0, Vec::new());
    while !enough.load(Ordering::Relaxed) {
        tokio::time::sleep_until(due.into()).await;
        let (client, insert, of) = (Arc::clone(&client), insert.clone(), store);
        writes.push(tokio::spawn(async move {
            let now = Instant::now();
            let row = client.query_one(&insert, &[&of]).await.expect("an order");
            (row.get::<_, i64>(0).to_string(), now)
        }));
        store = (store + 1) % STORES;
        due += PAUSE;
    }
    let sent = futures::future::join_all(writes).await;
    sent.into_iter().map(|sent| sent.expect("an order")).collect()
}

/// The current and the highest resident memory of a process, KB.
struct Memory {
    process: u32,
    peak: Arc<AtomicU64>,
}

impl Memory {
    /// Starts a thread that measures the memory of a process until the bench ends.
    fn of(process: u32) -> Self {
        let peak = Arc::new(AtomicU64::new(0));
        let watched = Arc::clone(&peak);
        std::thread::spawn(move || {
            loop {
                watched.fetch_max(resident_kb(process).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { process, peak }
    }

    fn now(&self) -> u64 {
        resident_kb(self.process).unwrap_or(0)
    }
}
