//! Measures how many orders a second 16 and 64 writers sustain while clients receive every event. The bench prints each
//! rate, and its share of the rate that the same writers reach without a trigger. Two other systems are measured in the
//! same rounds. The first is the bridge from LISTEN to sockets (`support/bridge.rs`). The second is this engine with
//! the smallest possible trigger and journal, in which events cannot be found by store or by order. The systems run in
//! turns with fsync on. Then they run with an extra delay of a millisecond at each commit, as on a slower disk.

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
use secrecy::SecretString;
use shop::Shop;
use vestnik::infra::db::Client;

const ROUNDS: usize = 3;
const WRITERS: [usize; 2] = [16, 64];
const STORES: i64 = 16;
const TURN: Duration = Duration::from_secs(4);
/// How long the writers write before the measurement begins. In this time, the node begins to suppress NOTIFY.
const WARM_UP: Duration = Duration::from_secs(1);
const SLOW_DISK: &str = "alter system set commit_delay = 1000; alter system set commit_siblings = 0";
/// A table with the smallest trigger. The trigger inserts one row per event into a journal that can only be read in
/// order.
const LEAST: &str = "drop index vestnik.vst_event_store_xid; \
     create table least_orders (like orders including all); \
     create function vestnik.emit_least() returns trigger \
     language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin \
         insert into vestnik.vst_event (source, store_id, key, type, data) \
         select 1, n.store_id::text, n.id::text, 'insert', row_to_json(n) from inserted_rows n; \
         if vestnik.vst_should_notify() then \
             perform pg_notify('vestnik', ''); \
         end if; \
         return null; \
     end $$; \
     create trigger least after insert on least_orders referencing new table as inserted_rows \
     for each statement execute function vestnik.emit_least()";

/// A table for the writers, and the clients that receive its events.
struct Side<'a> {
    shop: &'a Shop,
    client: &'a Client,
    table: &'static str,
    panels: Option<Panels>,
    /// The orders a second in each round. `shares` has each rate in percent of the rate without a trigger in the same
    /// round.
    rates: Vec<f64>,
    shares: Vec<f64>,
    lost: u64,
}

#[tokio::main]
async fn main() {
    if bridge::was_bridge().await {
        return;
    }
    let shop = Shop::open().await;
    let client = connect(&shop).await;
    client.batch_execute(bridge::TABLES).await.expect("tables");
    let (_engine, vestnik) = engine::serve(&shop, &[]).await;
    let (_bridge, bridge) = bridge::start(&shop);
    let least_shop = shop.beside("least").await;
    let least_client = connect(&least_shop).await;
    least_client.batch_execute(LEAST).await.expect("a table");
    let (_least_engine, least) = engine::serve(&least_shop, &[]).await;
    let token = engine::token(&shop).await;
    let least_token = engine::token(&least_shop).await;
    let bridge = Panels::open(bridge, &token, STORES, false).await;
    let least = Panels::open(least, &least_token, STORES, false).await;
    let vestnik = Panels::open(vestnik, &token, STORES, false).await;
    let mut sides = [
        Side::new(&shop, &client, "bare_orders", None),
        Side::new(&shop, &client, "floor_orders", Some(bridge)),
        Side::new(&least_shop, &least_client, "least_orders", Some(least)),
        Side::new(&shop, &client, "orders", Some(vestnik)),
    ];
    println!("orders/s, median of {ROUNDS}, and the share of the same without a trigger (of each round)");
    println!("{:32} no trigger | LISTEN bridge | the least trigger | vestnik", "");
    for (disk, settings) in [("fsync on", ""), ("a commit takes 1 ms", SLOW_DISK)] {
        for statement in settings.split("; ").filter(|statement| !statement.is_empty()) {
            client.batch_execute(statement).await.expect("set");
        }
        client.batch_execute("select pg_reload_conf()").await.expect("set");
        for writers in WRITERS {
            for _ in 0..ROUNDS {
                let mut bare = None;
                for side in &mut sides {
                    let rate = side.turn(writers).await;
                    side.shares.push(rate / *bare.get_or_insert(rate) * 100.0);
                }
            }
            let told: Vec<String> = sides.iter_mut().map(Side::told).collect();
            println!("{disk:20} {writers:2} writers {}", told.join(" | "));
        }
    }
}

async fn connect(shop: &Shop) -> Client {
    vestnik::infra::db::connect_as(&shop.url, "bench")
        .await
        .expect("a connection")
}

impl<'a> Side<'a> {
    fn new(shop: &'a Shop, client: &'a Client, table: &'static str, panels: Option<Panels>) -> Self {
        Self {
            shop,
            client,
            table,
            panels,
            rates: Vec::new(),
            shares: Vec::new(),
            lost: 0,
        }
    }

    /// Returns the results of all rounds as text, and deletes the results.
    fn told(&mut self) -> String {
        let each: Vec<String> = self.shares.iter().map(|share| format!("{share:.0}")).collect();
        let rate = quantile(&mut self.rates, 0.5);
        let told = match self.panels {
            Some(_) => format!(
                "{rate:7.0} {:3.0} % ({}) lost {}",
                quantile(&mut self.shares, 0.5),
                each.join(", "),
                self.lost
            ),
            None => format!("{rate:7.0}"),
        };
        (self.rates, self.shares, self.lost) = (Vec::new(), Vec::new(), 0);
        told
    }

    /// Writes orders for one turn, and waits until every event has arrived. Returns the orders a second.
    async fn turn(&mut self, writers: usize) -> f64 {
        let empty = format!(
            "truncate orders, {}; truncate vestnik.vst_event cascade; checkpoint",
            self.table
        );
        self.client.batch_execute(&empty).await.expect("empty");
        let begin = Instant::now() + WARM_UP;
        let before = self.come();
        let writing: Vec<_> = (0..writers)
            .map(|_| tokio::spawn(write(self.shop.url.clone(), self.table, begin)))
            .collect();
        let mut written = [0; 2];
        for writer in futures::future::join_all(writing).await {
            let writer = writer.expect("a writer");
            written = [written[0] + writer[0], written[1] + writer[1]];
        }
        if let Some(panels) = &self.panels {
            let all = written[0] + written[1];
            self.lost += all - panels.until(before, all).await;
        }
        // The elapsed time includes the wait for the last delivery, so the rate counts delivered orders.
        let rate = written[1] as f64 / begin.elapsed().as_secs_f64();
        self.rates.push(rate);
        rate
    }

    fn come(&self) -> u64 {
        self.panels
            .as_ref()
            .map_or(0, |panels| panels.count.load(Ordering::Relaxed))
    }
}

/// Writes orders until the turn is over. Returns how many were written before the measurement, and how many during it.
async fn write(url: SecretString, table: &'static str, begin: Instant) -> [u64; 2] {
    let client = vestnik::infra::db::connect_as(&url, "writer")
        .await
        .expect("a connection");
    let insert = format!(
        "insert into {table} (store_id, customer_name, total, order_type, items) \
         values ($1, 'Иван', 50000, 'delivery', '[{{\"name\": \"Пицца\", \"count\": 2}}]')"
    );
    let insert = client.prepare_cached(&insert).await.expect("prepared");
    let mut written = [0_u64; 2];
    while begin.elapsed() < TURN {
        let store = fastrand::i64(0..STORES);
        client.execute(&insert, &[&store]).await.expect("an order");
        written[usize::from(Instant::now() > begin)] += 1;
    }
    written
}
