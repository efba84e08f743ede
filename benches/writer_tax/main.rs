//! What the triggers cost the shop: 100,000 rows in one statement, and single orders one after another, each beside the
//! same without triggers, turn by turn. Then what other forms of the trigger would cost.

mod forms;
#[path = "../support/quantile.rs"]
mod quantile;
#[path = "../support/shop.rs"]
mod shop;

use std::sync::Arc;
use std::time::{Duration, Instant};

use quantile::quantile;
use shop::Shop;
use vestnik::db::Client;

const ROUNDS: usize = 5;
const WRITERS: usize = 8;
const SINGLE: Duration = Duration::from_secs(3);
/// What each writer writes before the time counts, so that its session has planned everything.
const WARM_UP: u32 = 8;

const INSERT: &str = "insert into orders (store_id, customer_name, total, order_type, items) \
     select i % 50, 'Иван', 50000, 'delivery', '[{\"name\": \"Пицца\", \"count\": 2, \"price\": 25000}]' \
     from generate_series(1, 100000) i";
const UPDATE: &str = "update orders set status = 'preparing'";
const ONE: &str = "insert into orders (store_id, customer_name, total, order_type, items) \
     values ($1, 'Иван', 50000, 'delivery', '[{\"name\": \"Пицца\", \"count\": 2, \"price\": 25000}]')";
const ONE_STATUS: &str =
    "update orders set status = case status when 'ready' then 'preparing' else 'ready' end where id = $1";
const ONE_TOTAL: &str = "update orders set total = total + 1 where id = $1";

#[tokio::main]
async fn main() {
    let shop = Shop::open().await;
    let client = vestnik::db::connect_as(&shop.url, "bench").await.expect("a connection");
    many(&client).await;
    single(&shop, &client).await;
    forms::compare(&shop, &client).await;
}

async fn many(client: &Client) {
    println!("100,000 rows in one statement, median of {ROUNDS}    without    with   ratio");
    let mut times = [[vec![], vec![]], [vec![], vec![]]];
    for _ in 0..ROUNDS {
        for (with, times) in times.iter_mut().enumerate() {
            switch(client, with == 1).await;
            client
                .batch_execute("truncate orders; truncate vestnik.vst_event cascade; checkpoint")
                .await
                .expect("empty");
            for (sql, times) in [INSERT, UPDATE].into_iter().zip(times) {
                let begin = Instant::now();
                client.batch_execute(sql).await.expect("written");
                times.push(begin.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    let [without, with] = &mut times;
    for (what, (without, with)) in ["INSERT", "UPDATE of the status"]
        .iter()
        .zip(without.iter_mut().zip(with))
    {
        let (without, with) = (quantile(without, 0.5), quantile(with, 0.5));
        println!("{what:44} {without:7.0} ms {with:5.0} ms {:6.2}", with / without);
    }
}

async fn single(shop: &Shop, client: &Client) {
    println!("\nsingle statements of {WRITERS} writers, the bell rings           without    with   share kept");
    client
        .batch_execute("truncate orders restart identity")
        .await
        .expect("empty");
    client.batch_execute(INSERT).await.expect("rows to change");
    let writers = writers(shop, WRITERS).await;
    for (what, sql) in [
        ("INSERT", ONE),
        ("UPDATE of the status", ONE_STATUS),
        ("UPDATE of something else", ONE_TOTAL),
    ] {
        let mut rates = [0.0, 0.0];
        for _ in 0..2 {
            for (with, best) in rates.iter_mut().enumerate() {
                switch(client, with == 1).await;
                *best = f64::max(*best, rate(&writers, sql, 100_000, SINGLE).await);
            }
        }
        println!(
            "{what:44} {:7.0} /s {:5.0} /s {:8.0} %",
            rates[0],
            rates[1],
            rates[1] / rates[0] * 100.0
        );
    }
}

async fn switch(client: &Client, triggers: bool) {
    let word = if triggers { "enable" } else { "disable" };
    client
        .batch_execute(&format!("alter table orders {word} trigger user"))
        .await
        .expect("switched");
}

/// Sessions that write.
async fn writers(shop: &Shop, count: usize) -> Vec<Arc<Client>> {
    let mut writers = Vec::new();
    for _ in 0..count {
        let writer = vestnik::db::connect_as(&shop.url, "writer").await;
        writers.push(Arc::new(writer.expect("a connection")));
    }
    writers
}

/// Statements a second, each with a number from 1 to `most`.
async fn rate(writers: &[Arc<Client>], sql: &str, most: i64, time: Duration) -> f64 {
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
            while begin.elapsed() < time {
                write().await;
                written += 1;
            }
            f64::from(written)
        })
    });
    let written = futures::future::join_all(writing.collect::<Vec<_>>()).await;
    let written = written.into_iter().map(|written| written.expect("a writer"));
    written.sum::<f64>() / time.as_secs_f64()
}
