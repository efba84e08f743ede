//! Measures how much the triggers slow down the shop's writes, while a node reads and NOTIFY is suppressed. The bench
//! writes in turns to three tables with the same columns. One table has no trigger, one has the smallest trigger, and
//! one has Vestnik's triggers. The smallest trigger only inserts the row as JSON. The writes are single orders by 16
//! and 64 writers, updates of a column that is not mapped, and statements with 100,000 rows.

#[path = "support/quantile.rs"]
mod quantile;
#[path = "support/shop.rs"]
mod shop;

use std::sync::Arc;
use std::time::{Duration, Instant};

use quantile::quantile;
use shop::Shop;
use vestnik::infra::db::Client;

/// The tables of the comparison: without a trigger, with the smallest trigger, and with Vestnik's triggers.
const SIDES: [(&str, &str); 3] = [
    ("bare_orders", "none"),
    ("least_orders", "the least"),
    ("orders", "ours"),
];
const TABLES: &str = "alter table orders add column courier_note text; \
     create table bare_orders (like orders including all); \
     create table least_orders (like orders including all); \
     create table least_event (id bigint generated always as identity primary key, xid xid8 not null default pg_current_xact_id(), \
         at timestamptz not null default clock_timestamp(), store_id text, data json); \
     create index on least_event (store_id, xid); \
     create function record_least() returns trigger language plpgsql as $$ begin \
         insert into least_event (store_id, data) select n.store_id::text, row_to_json(n) from new_rows n; \
         if vestnik.vst_should_notify() then perform pg_notify('vestnik', ''); end if; \
         return null; \
     end $$; \
     create trigger least after insert on least_orders referencing new table as new_rows \
         for each statement execute function record_least(); \
     create trigger least_update after update on least_orders referencing new table as new_rows \
         for each statement execute function record_least()";
const WRITERS: [usize; 2] = [16, 64];
const STORES: i64 = 16;
const TURNS: usize = 9;
const TURN: Duration = Duration::from_secs(1);
/// The number of statements that each writer runs before the measurement. After these, its connection reuses the query
/// plans.
const WARM_UP: u32 = 8;
/// The number of measured statements with 100,000 rows.
const BULK_TURNS: usize = 7;

#[tokio::main]
async fn main() {
    let shop = Shop::open().await;
    let client = vestnik::infra::db::connect_as(&shop.url, "bench")
        .await
        .expect("a connection");
    client.batch_execute(TABLES).await.expect("the tables");
    let reading = vestnik::infra::db::connect_as(&shop.url, "reading")
        .await
        .expect("a connection");
    let suppress = "select pg_advisory_lock(vestnik.vst_notify_lock_key(), 1)";
    reading.batch_execute(suppress).await.expect("suppressed");

    for writers in WRITERS {
        println!("\n{writers} writers, an order a transaction, fsync on, median of {TURNS}");
        in_turns(&shop, writers, STORES, |table| {
            format!(
                "insert into {table} (store_id, customer_name, total, order_type, items) \
                 values ($1, 'Иван', 50000, 'delivery', '[{{\"name\": \"Пицца\", \"count\": 2}}]')"
            )
        })
        .await;
    }
    println!("\n16 writers, an UPDATE of a column that is not mapped, median of {TURNS}");
    in_turns(&shop, 16, 10_000, |table| {
        format!("update {table} set courier_note = md5(random()::text) where id = $1")
    })
    .await;
    bulk(&client).await;
}

/// Measures the tables in turn. Prints the rate of each table, and its share of the rate without a trigger.
async fn in_turns(shop: &Shop, writers: usize, most: i64, statement: impl Fn(&str) -> String) {
    let writers = connect(shop, writers).await;
    let mut rates = SIDES.map(|_| Vec::new());
    for turn in 0..TURNS {
        for place in 0..SIDES.len() {
            // Each table is measured first equally often, so the order of the measurements favours no table.
            let side = (turn + place) % SIDES.len();
            rates[side].push(rate(&writers, &statement(SIDES[side].0), most).await);
        }
    }
    let bare = rates[0].clone();
    for ((_, name), rates) in SIDES.iter().zip(&mut rates) {
        let mut shares: Vec<f64> = rates
            .iter()
            .zip(&bare)
            .map(|(rate, bare)| rate / bare * 100.0)
            .collect();
        let [low, share, high] = [0.25, 0.5, 0.75].map(|at| quantile(&mut shares, at));
        println!(
            "{name:10} {:8.0} /s {share:6.1} % of none ({low:.1} to {high:.1})",
            quantile(rates, 0.5)
        );
    }
}

async fn bulk(client: &Client) {
    println!("\n100,000 rows in one statement, median of {BULK_TURNS}");
    let mut times = SIDES.map(|_| Vec::new());
    for _ in 0..BULK_TURNS {
        for ((table, _), times) in SIDES.iter().zip(&mut times) {
            let empty = format!("truncate {table}, least_event; truncate vestnik.vst_event cascade; checkpoint");
            client.batch_execute(&empty).await.expect("empty");
            let insert = format!(
                "insert into {table} (store_id, customer_name, total, order_type, items) \
                 select i % 50, 'Иван', 50000, 'delivery', '[{{\"name\": \"Пицца\", \"count\": 2}}]' from generate_series(1, 100000) i"
            );
            let begin = Instant::now();
            client.batch_execute(&insert).await.expect("written");
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
    }
    let bare = quantile(&mut times[0], 0.5);
    for ((_, name), times) in SIDES.iter().zip(&mut times) {
        let median = quantile(times, 0.5);
        println!("{name:10} {median:8.0} ms {:6.2} times none", median / bare);
    }
}

async fn connect(shop: &Shop, count: usize) -> Vec<Arc<Client>> {
    let mut writers = Vec::new();
    for _ in 0..count {
        let writer = vestnik::infra::db::connect_as(&shop.url, "writer").await;
        writers.push(Arc::new(writer.expect("a connection")));
    }
    writers
}

/// Executes a statement again and again in all writers, each time with a random parameter from 1 to `most`. Returns the
/// statements a second of all writers together.
async fn rate(writers: &[Arc<Client>], sql: &str, most: i64) -> f64 {
    let together = Arc::new(tokio::sync::Barrier::new(writers.len()));
    let writing = writers.iter().cloned().map(|writer| {
        let (together, sql) = (Arc::clone(&together), sql.to_owned());
        tokio::spawn(async move {
            let statement = writer.prepare_cached(&sql).await.expect("prepared");
            let write = async || {
                let number = fastrand::i64(1..=most);
                writer.execute(&statement, &[&number]).await.expect("written");
            };
            for _ in 0..WARM_UP {
                write().await;
            }
            together.wait().await;
            let begin = Instant::now();
            let mut written = 0_u32;
            while begin.elapsed() < TURN {
                write().await;
                written += 1;
            }
            f64::from(written)
        })
    });
    let written = futures::future::join_all(writing.collect::<Vec<_>>()).await;
    let written = written.into_iter().map(|written| written.expect("a writer"));
    written.sum::<f64>() / TURN.as_secs_f64()
}
