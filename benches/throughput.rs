//! Orders a second that 16 and 64 writers sustain with every event delivered, as a share of what the same writers do
//! where no trigger watches; beside a bridge of LISTEN and NOTIFY. Turn by turn, fsync on; then with commits that take a
//! millisecond, as on a slower disk.

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

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use panels::Panels;
use quantile::quantile;
use shop::Shop;
use tokio_postgres::Client;

const ROUNDS: usize = 3;
const WRITERS: [usize; 2] = [16, 64];
const STORES: i64 = 16;
const TURN: Duration = Duration::from_secs(4);
/// Before the time counts: for the bell to be muted.
const WARM_UP: Duration = Duration::from_secs(1);
const SLOW_DISK: &str = "alter system set commit_delay = 1000; alter system set commit_siblings = 0";

#[tokio::main]
async fn main() {
    if bridge::was_bridge().await {
        return;
    }
    let shop = Shop::open().await;
    let client = vestnik::db::connect_as(&shop.url, "bench").await.expect("a connection");
    client.batch_execute(bridge::TABLES).await.expect("tables");
    let (_engine, vestnik) = engine::serve(&shop, &[]).await;
    let (_bridge, floor) = bridge::start(&shop);
    let token = engine::token(&shop).await;
    let vestnik = Panels::open(vestnik, &token, STORES, false).await;
    let floor = Panels::open(floor, &token, STORES, false).await;
    println!(
        "orders/s, median of {ROUNDS}   no trigger |  LISTEN bridge  share |  vestnik  share (of each round)   lost"
    );
    for (disk, settings) in [("fsync on", ""), ("a commit takes 1 ms", SLOW_DISK)] {
        for statement in settings.split("; ").filter(|statement| !statement.is_empty()) {
            client.batch_execute(statement).await.expect("set");
        }
        client.batch_execute("select pg_reload_conf()").await.expect("set");
        for writers in WRITERS {
            let [mut bare, mut bridged, mut ours] = [const { Vec::new() }; 3];
            let mut lost = 0;
            for _ in 0..ROUNDS {
                bare.push(turn(&shop, &client, writers, "bare_orders", None).await.0);
                bridged.push(turn(&shop, &client, writers, "floor_orders", Some(&floor)).await.0);
                let (rate, missing) = turn(&shop, &client, writers, "orders", Some(&vestnik)).await;
                ours.push(rate);
                lost += missing;
            }
            let share = |of: &[f64]| -> Vec<f64> { of.iter().zip(&bare).map(|(of, bare)| of / bare * 100.0).collect() };
            let (mut shares, mut bridge_shares) = (share(&ours), share(&bridged));
            let each: Vec<String> = shares.iter().map(|share| format!("{share:.0}")).collect();
            println!(
                "{disk:20} {writers:3} writers {:8.0} | {:9.0} {:6.0} % | {:9.0} {:5.0} % ({}) {lost:6}",
                quantile(&mut bare, 0.5),
                quantile(&mut bridged, 0.5),
                quantile(&mut bridge_shares, 0.5),
                quantile(&mut ours, 0.5),
                quantile(&mut shares, 0.5),
                each.join(", "),
            );
        }
    }
}

/// Orders a second until the last of them was delivered, and how many never were.
async fn turn(
    shop: &Shop,
    client: &Client,
    writers: usize,
    table: &'static str,
    panels: Option<&Panels>,
) -> (f64, u64) {
    let empty = "truncate orders, bare_orders, floor_orders; truncate vestnik.event cascade; checkpoint";
    client.batch_execute(empty).await.expect("empty");
    let begin = Instant::now() + WARM_UP;
    let before = panels.map_or(0, |panels| panels.count.load(Ordering::Relaxed));
    let writing = (0..writers).map(|_| {
        let url = shop.url.clone();
        tokio::spawn(async move {
            let client = vestnik::db::connect_as(&url, "writer").await.expect("a connection");
            let insert = format!(
                "insert into {table} (store_id, customer_name, total, order_type, items) \
                 values ($1, 'Иван', 50000, 'delivery', '[{{\"name\": \"Пицца\", \"count\": 2}}]')"
            );
            let insert = client.prepare(&insert).await.expect("prepared");
            let mut written = [0_u64; 2];
            while begin.elapsed() < TURN {
                let store = fastrand::i64(0..STORES);
                client.execute(&insert, &[&store]).await.expect("an order");
                written[usize::from(Instant::now() > begin)] += 1;
            }
            written
        })
    });
    let mut written = [0; 2];
    for writer in futures::future::join_all(writing.collect::<Vec<_>>()).await {
        let writer = writer.expect("a writer");
        written = [written[0] + writer[0], written[1] + writer[1]];
    }
    let all = written[0] + written[1];
    let come = match panels {
        Some(panels) => panels.until(before, all).await,
        None => all,
    };
    (written[1] as f64 / begin.elapsed().as_secs_f64(), all - come)
}
