//! Everybody comes back at once after a restart, each 100 events behind: how long until all are live, and what those feel
//! meanwhile who are back already. Beside it, the same live load without the rush.

#[path = "support/child.rs"]
mod child;
#[path = "support/crowd.rs"]
mod crowd;
#[path = "support/engine.rs"]
mod engine;
#[path = "support/limits.rs"]
mod limits;
#[path = "support/quantile.rs"]
mod quantile;
#[path = "support/scan.rs"]
mod scan;
#[path = "support/shop.rs"]
mod shop;
#[path = "support/upgrade.rs"]
mod upgrade;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use child::{commands, cpu_seconds};
use crowd::Count;
use engine::{serve, token};
use limits::allow_many_sockets;
use quantile::quantile;
use scan::Kind;
use shop::Shop;

const PANELS: usize = 5000;
/// Events that each of them has missed.
const MISSED: usize = 100;
/// Stores over which they are spread: as many panels as one store may have, and a store for each.
const STORES: [usize; 2] = [25, 5000];
/// Stores of those who are back already begin here.
const LIVE_STORES: std::ops::Range<i64> = 1_000_000..1_000_020;
/// Live orders a second, and for how long: without the rush, and with it.
const LIVE_RATE: u32 = 200;
const CALM_SECONDS: u64 = 5;
const RUSH_SECONDS: u64 = 9;
/// Runs of which the medians are printed.
const RUNS: usize = 3;
/// Into the live load the rush begins.
const CALM: Duration = Duration::from_secs(1);
/// The part of the rush that this program plays.
const HERD: &str = "--herd";

#[tokio::main]
async fn main() {
    allow_many_sockets();
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == HERD) {
        return herd(&arguments[at + 1..]).await;
    }
    let shop = Shop::open().await;
    let token = token(&shop).await;
    println!(
        "median of {RUNS}                   |        all      CPU seconds of          |  live p50/p99 ms             | p99"
    );
    println!("panels  stores  tries again |  live after  engine Postgres herd |     calm         in the rush | ratio");
    for stores in STORES {
        let (engine, address) = serve(&shop, &[]).await;
        let cursor = cursor(address, &token).await;
        drop(engine);
        miss(&shop, stores).await;
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(run(&shop, &token, &cursor, stores).await);
        }
        let median = |of: fn(&Run) -> f64| quantile(&mut runs.iter().map(of).collect::<Vec<_>>(), 0.5);
        println!(
            "{PANELS:6} {stores:7} {:12} | {:9.2} s {:6.2} {:8.2} {:5.2} | {:5.2} / {:5.2}  {:5.2} / {:5.2} | {:5.2}",
            median(|run| run.again),
            median(|run| run.seconds),
            median(|run| run.cpu[0]),
            median(|run| run.cpu[1]),
            median(|run| run.cpu[2]),
            median(|run| run.calm.0),
            median(|run| run.calm.1),
            median(|run| run.rush.0),
            median(|run| run.rush.1),
            median(|run| run.rush.1 / run.calm.1),
        );
    }
}

/// One rush, on a program that has just been started.
struct Run {
    seconds: f64,
    again: f64,
    /// Of the program, of Postgres, and of the herd, while it came back.
    cpu: [f64; 3],
    /// The median and the 99th hundredth of the live orders, ms.
    calm: (f64, f64),
    rush: (f64, f64),
}

async fn run(shop: &Shop, token: &str, cursor: &str, stores: usize) -> Run {
    let (engine, address) = serve(shop, &[]).await;
    let heard = back_already(address, token).await;
    let calm = figures(load(shop, &heard, CALM_SECONDS).await, None);
    let mut herd = crowd::start(&[HERD, &address.to_string(), token, cursor, &stores.to_string()]);
    let postgres = postmaster(shop).await;
    let (engine_id, herd_id) = (engine.0.id(), herd.process.id());
    let cpu = move || [cpu_seconds(engine_id), cpu_of_children(postgres), cpu_seconds(herd_id)];
    let rush = tokio::task::spawn_blocking(move || {
        std::thread::sleep(CALM);
        let (begin, before) = (Instant::now(), cpu());
        herd.say("go");
        let said = herd.line();
        let (during, after) = (begin..Instant::now(), cpu());
        let cpu = [0, 1, 2].map(|index| after[index] - before[index]);
        (herd, said, during, cpu)
    });
    let (latencies, rush) = tokio::join!(load(shop, &heard, RUSH_SECONDS), rush);
    let (_herd, said, during, cpu) = rush.expect("a rush");
    assert!(
        during.end < during.start + Duration::from_secs(RUSH_SECONDS) - CALM,
        "the live load lasts as long"
    );
    let mut said = said.split(' ').map(|number| number.parse().expect("a number"));
    Run {
        seconds: said.next().expect("seconds"),
        again: said.next().expect("tries"),
        cpu,
        calm,
        rush: figures(latencies, Some(during)),
    }
}

/// The first process of Postgres, which has started all others.
async fn postmaster(shop: &Shop) -> u32 {
    let client = vestnik::db::connect_as(&shop.url, "bench").await.expect("a connection");
    let row = client
        .query_one("select pg_backend_pid()", &[])
        .await
        .expect("a backend");
    let status = std::fs::read_to_string(format!("/proc/{}/status", row.get::<_, i32>(0))).expect("Linux");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.expect("its parent").trim().parse().expect("a number")
}

/// CPU seconds of the processes that this one has started and that are still there.
fn cpu_of_children(process: u32) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).expect("Linux");
    let on_cpu = |child: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    };
    children.split_whitespace().filter_map(on_cpu).sum::<f64>() / 1e9
}

/// A cursor of now.
async fn cursor(address: SocketAddr, token: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("a socket");
    let request = format!(
        "GET /api/partner/stores/1/events?limit=1 HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    body["cursor"].as_str().expect("a cursor").to_owned()
}

/// What they miss: as many transactions as there are events a store.
async fn miss(shop: &Shop, stores: usize) {
    let client = vestnik::db::connect_as(&shop.url, "writer")
        .await
        .expect("a connection");
    let insert = "insert into orders (store_id, customer_name, total, order_type, items) \
         select i, 'Иван', 50000, 'delivery', '[{\"name\": \"Пицца\", \"count\": 2}]' from generate_series(1, $1::int) i";
    for _ in 0..MISSED {
        client.execute(insert, &[&(stores as i32)]).await.expect("orders");
    }
    client
        .batch_execute("analyze vestnik.event; checkpoint")
        .await
        .expect("settled");
}

type Heard = Arc<Mutex<Vec<(Instant, Utf8Bytes)>>>;

/// The panels that are back already, a store each.
async fn back_already(address: SocketAddr, token: &str) -> Heard {
    let heard = Heard::default();
    for store in LIVE_STORES {
        let url = format!("ws://{address}/api/partner/ws/partner/{store}");
        let mut request = url.into_client_request().expect("a request");
        let bearer = format!("Bearer {token}").parse().expect("a header");
        request.headers_mut().insert("authorization", bearer);
        let (mut socket, _) = connect_async(request).await.expect("a socket");
        let heard = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                let now = Instant::now();
                if let Message::Text(text) = message {
                    heard.lock().expect("no panic").push((now, text));
                }
            }
        });
    }
    heard
}

/// The median and the 99th hundredth, ms, of what was sent in this time.
fn figures(latencies: Vec<(Instant, f64)>, during: Option<std::ops::Range<Instant>>) -> (f64, f64) {
    let inside = |at: &Instant| during.as_ref().is_none_or(|during| during.contains(at));
    let mut inside: Vec<f64> = latencies
        .into_iter()
        .filter(|(at, _)| inside(at))
        .map(|(_, ms)| ms)
        .collect();
    (quantile(&mut inside, 0.5), quantile(&mut inside, 0.99))
}

/// Writes live orders at their rate: when each was sent, and how long it took to its socket, ms.
async fn load(shop: &Shop, heard: &Heard, seconds: u64) -> Vec<(Instant, f64)> {
    heard.lock().expect("no panic").clear();
    let client = Arc::new(vestnik::db::connect_as(&shop.url, "live").await.expect("a connection"));
    let insert = "insert into orders (store_id, customer_name, total, order_type, items) \
         values ($1, 'Пётр', 1, 'pickup', '[]') returning id";
    let insert = client.prepare(insert).await.expect("prepared");
    let sent: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / LIVE_RATE);
    for _ in 0..seconds * u64::from(LIVE_RATE) {
        ticks.tick().await;
        let (client, insert, sent) = (Arc::clone(&client), insert.clone(), Arc::clone(&sent));
        tokio::spawn(async move {
            let (now, store) = (Instant::now(), fastrand::i64(LIVE_STORES));
            let row = client.query_one(&insert, &[&store]).await.expect("an order");
            sent.lock()
                .expect("no panic")
                .insert(row.get::<_, i64>(0).to_string(), now);
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sent = sent.lock().expect("no panic");
    let mut latencies = Vec::new();
    for (at, text) in heard.lock().expect("no panic").drain(..) {
        let event: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        if let Some(begin) = event["data"]["order_id"].as_str().and_then(|order| sent.get(order)) {
            latencies.push((*begin, (at - *begin).as_secs_f64() * 1000.0));
        }
    }
    assert_eq!(latencies.len(), sent.len(), "every live order comes once");
    latencies
}

/// All of them, at once, when told to; comes back until it is live.
async fn herd(arguments: &[String]) {
    let [address, token, cursor, stores] = arguments else {
        panic!("--herd ADDRESS TOKEN CURSOR STORES")
    };
    let (address, stores): (SocketAddr, usize) = (address.parse().expect("one"), stores.parse().expect("one"));
    let mut commands = commands();
    commands.recv().await.expect("go");
    let begin = Instant::now();
    let (live, events, again) = (
        Arc::new(Count::default()),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
    );
    let all_live = live.expect(PANELS as u64);
    for panel in 0..PANELS {
        let (token, after) = (token.clone(), format!("?after={cursor}"));
        let (live, events, again) = (Arc::clone(&live), Arc::clone(&events), Arc::clone(&again));
        tokio::spawn(async move {
            loop {
                if let Ok(socket) = crowd::open(address, 1 + panel % stores, &token, &after).await {
                    let each = |kind| match kind {
                        Kind::Event => drop(events.fetch_add(1, Ordering::Relaxed)),
                        Kind::Live => live.add(),
                        Kind::Ping | Kind::Goodbye | Kind::Other => {}
                    };
                    crowd::listen(&socket, each).await;
                }
                again.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..500))).await;
            }
        });
    }
    all_live.await;
    let (events, again) = (events.load(Ordering::Relaxed), again.load(Ordering::Relaxed));
    assert_eq!(events, (PANELS * MISSED) as u64, "each got what it had missed, once");
    println!("{} {again}", begin.elapsed().as_secs_f64());
    commands.recv().await;
}
