//! Measures the latency from the INSERT to the client's socket. Three loads have 50, 500 and 2,000 orders a second.
//! The fourth load has 500 orders a second, and 16 more writers that write in bursts of half a second. For
//! comparison, the bench also measures a small server without a journal, which forwards each NOTIFY to sockets
//! (`support/bridge.rs`). In each round, each of the two servers has one turn. The server that is first changes from
//! round to round. The turns at 50 orders a second are longer: among only 200 orders, the p99 would be the second or
//! third slowest order.
//!
//! `cargo bench --bench commit_to_client -- derived` measures a derived source instead: its orders and their items
//! are in two tables.

#[path = "support/bridge.rs"]
mod bridge;
#[path = "support/engine.rs"]
mod engine;
#[path = "support/panels.rs"]
mod panels;
#[path = "support/quantile.rs"]
mod quantile;
#[path = "support/shop.rs"]
mod shop;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use panels::Panels;
use quantile::quantile;
use shop::Shop;

const ROUNDS: usize = 5;
/// For each load: the orders a second, the length of a turn, and whether the bursts run. Each turn counts at least
/// 400 orders, so at least four of them are slower than the p99.
const LOADS: [(u32, Duration, Bursts); 4] = [
    (50, Duration::from_secs(9), Bursts::None),
    (500, Duration::from_secs(4), Bursts::None),
    (2000, Duration::from_secs(4), Bursts::None),
    (500, Duration::from_secs(4), Bursts::OnAndOff),
];
/// The first part of a turn. The bench does not count orders of this part.
const WARM_UP: Duration = Duration::from_secs(1);
const WRITERS: u32 = 16;
const STORES: i64 = 20;
/// The store of the orders in the bursts. No panel watches this store.
const BURST_STORE: i64 = 99;
const BURST: Duration = Duration::from_millis(500);
/// A shop that keeps orders in one table and their items in another.
const DERIVED: &str = "create table derived_orders (id bigint generated always as identity primary key, store_id bigint, customer_name text, \
         total bigint, order_type text, status text not null default 'pending'); \
     create table derived_items (order_id bigint, name text, count int); create index on derived_items (order_id)";
const DERIVED_MAPPING: &str = r#"
table = "public.derived_orders"
kind = "order"
key = "id"

[derived]
store = "o.store_id"
status = "o.status"
customer_name = "o.customer_name"
total = "o.total"
order_type = "o.order_type"
items = "select i.name, i.count as quantity from derived_items i where i.order_id = o.id"

[[derived.watch]]
table = "derived_items"
column = "order_id"
"#;

#[derive(Clone, Copy)]
enum Bursts {
    None,
    OnAndOff,
}

#[tokio::main]
async fn main() {
    if bridge::was_bridge().await {
        return;
    }
    let shop = Shop::open().await;
    let client = vestnik::infra::db::connect_as(&shop.url, "bench")
        .await
        .expect("a connection");
    client.batch_execute(bridge::TABLES).await.expect("tables");
    let table = match std::env::args().any(|argument| argument == "derived") {
        true => attach_derived(&shop).await,
        false => "orders",
    };
    let (_engine, address) = engine::serve(&shop, &[]).await;
    let (_bridge, floor) = bridge::start(&shop);
    let token = engine::token(&shop).await;
    let vestnik = Panels::open(address, &token, STORES, true).await;
    let floor = Panels::open(floor, &token, STORES, true).await;
    println!(
        "orders/s, median of {ROUNDS} | LISTEN bridge p50    p99 |   vestnik p50    p99 |  ratio p50   p99 | suppressed"
    );
    for load in LOADS {
        let (rate, _, bursts) = load;
        let mut quantiles = [const { Vec::new() }; 4];
        let before = suppressions(address).await;
        for round in 0..ROUNDS {
            let (mut bridged, mut ours) = ((0.0, 0.0), (0.0, 0.0));
            for floor_s_turn in [round % 2 == 0, round % 2 == 1] {
                if floor_s_turn {
                    bridged = turn(&shop, load, "floor_orders", &floor).await;
                } else {
                    ours = turn(&shop, load, table, &vestnik).await;
                }
            }
            for (all, one) in quantiles.iter_mut().zip([bridged.0, bridged.1, ours.0, ours.1]) {
                all.push(one);
            }
        }
        let [floor_50, floor_99, ours_50, ours_99] = quantiles.map(|mut values| quantile(&mut values, 0.5));
        let bursts = if matches!(bursts, Bursts::None) {
            ""
        } else {
            " and bursts"
        };
        println!(
            "{:24} | {floor_50:14.2} ms {floor_99:6.2} | {ours_50:10.2} ms {ours_99:6.2} | {:10.2} {:5.2} | {} times",
            format!("{rate}{bursts}"),
            ours_50 / floor_50,
            ours_99 / floor_99,
            suppressions(address).await - before,
        );
    }
}

/// Attaches the two tables of `DERIVED` as one derived source, and returns the name of the table of orders.
async fn attach_derived(shop: &Shop) -> &'static str {
    let mut config = vestnik::infra::config::Config::default();
    config.database.url = Some(shop.url.clone());
    let mut client = vestnik::infra::db::connect_directly(&config.database, "bench")
        .await
        .expect("a connection");
    client.batch_execute(DERIVED).await.expect("tables");
    let options = vestnik::sources::attach::Options::default();
    vestnik::sources::attach::attach(&mut client, DERIVED_MAPPING, options, &mut |line| eprintln!("{line}"))
        .await
        .expect("attached");
    "derived_orders"
}

/// The number of times that the program has begun NOTIFY suppression.
async fn suppressions(address: SocketAddr) -> f64 {
    engine::figure(address, "vestnik_notify_suppressions_total")
        .await
        .unwrap_or(0.0)
}

/// Writes orders at this rate, and returns p50 and p99 of their latency in milliseconds.
async fn turn(
    shop: &Shop,
    (rate, length, bursts): (u32, Duration, Bursts),
    table: &'static str,
    panels: &Panels,
) -> (f64, f64) {
    panels.heard.lock().expect("no panic").clear();
    let before = panels.count.load(Ordering::Relaxed);
    let begin = Instant::now();
    let bursting = matches!(bursts, Bursts::OnAndOff).then(|| burst(shop, begin, length, table));
    let pause = Duration::from_secs(1) * WRITERS / rate;
    let writers = (0..WRITERS).map(|writer| {
        let url = shop.url.clone();
        tokio::spawn(async move {
            let client = vestnik::infra::db::connect_as(&url, "writer")
                .await
                .expect("a connection");
            let insert = client.prepare_cached(&insert_into(table)).await.expect("prepared");
            let (mut sent, mut all) = (Vec::new(), 0);
            let mut due = begin + pause * writer / WRITERS;
            while due < begin + length {
                tokio::time::sleep_until(due.into()).await;
                let now = Instant::now();
                let row = client
                    .query_one(&insert, &[&fastrand::i64(0..STORES)])
                    .await
                    .expect("an order");
                all += 1;
                if now > begin + WARM_UP {
                    sent.push((row.get::<_, i64>(0).to_string(), now));
                }
                due += pause;
            }
            (sent, all, client)
        })
    });
    let (mut sent, mut all) = (HashMap::new(), 0);
    // The connections stay open until every order has arrived: if 16 Postgres backends ended at once, they would
    // delay the last orders.
    let mut open = Vec::new();
    for writer in futures::future::join_all(writers.collect::<Vec<_>>()).await {
        let (its, number, client) = writer.expect("a writer");
        open.push(client);
        sent.extend(its);
        all += number;
    }
    if let Some(bursting) = bursting {
        bursting.await.expect("the bursts");
    }
    assert_eq!(panels.until(before, all).await, all, "every order comes once");
    drop(open);
    let mut ways = panels.ways(&sent);
    (quantile(&mut ways, 0.5), quantile(&mut ways, 0.99))
}

/// Runs 16 more writers. They repeat two steps: pause for half a second, then write at full speed for half a second.
fn burst(shop: &Shop, begin: Instant, length: Duration, table: &'static str) -> tokio::task::JoinHandle<()> {
    let writers = (0..WRITERS).map(|_| {
        let url = shop.url.clone();
        tokio::spawn(async move {
            let client = vestnik::infra::db::connect_as(&url, "burst")
                .await
                .expect("a connection");
            let insert = client.prepare_cached(&insert_into(table)).await.expect("prepared");
            while begin.elapsed() < length {
                if (begin.elapsed().as_millis() / BURST.as_millis()).is_multiple_of(2) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                } else {
                    client.query_one(&insert, &[&BURST_STORE]).await.expect("an order");
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    tokio::spawn(async move {
        for writer in writers {
            writer.await.expect("a writer");
        }
    })
}

fn insert_into(table: &str) -> String {
    if table == "derived_orders" {
        return "with made as (insert into derived_orders (store_id, customer_name, total, order_type) \
                 values ($1, 'Иван', 50000, 'delivery') returning id) \
             insert into derived_items select id, 'Пицца', 2 from made returning order_id"
            .to_owned();
    }
    format!(
        "insert into {table} (store_id, customer_name, total, order_type, items) \
         values ($1, 'Иван', 50000, 'delivery', '[{{\"name\": \"Пицца\", \"count\": 2}}]') returning id"
    )
}
