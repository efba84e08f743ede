//! Measures a rush: after a restart, 5,000 panels reconnect, and each of them is 100 events behind. The bench measures
//! the time until all panels are live. It also measures the latency of live orders for panels that are already
//! connected. The panels reconnect all at once, or spread over the time that the server's message `connected` states.
//! For comparison, the bench measures this latency in two more cases: without a rush, and while a bare server accepts
//! the connections of the rush instead of Vestnik.
//!
//! With a number as argument, the bench runs only with that number of stores: `cargo bench --bench replay -- 25`.

#[path = "support/child.rs"]
mod child;
#[path = "support/counting_clients.rs"]
mod counting_clients;
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
use counting_clients::Count;
use engine::{serve, token};
use limits::allow_many_sockets;
use quantile::quantile;
use scan::Kind;
use shop::Shop;

const PANELS: usize = 5000;
/// The number of events that each client has missed.
const MISSED: usize = 100;
/// The number of stores that share the 5,000 panels. With 25 stores, each store has 200 panels, the default limit. With
/// 5,000 stores, each store has one panel.
const STORES: [usize; 2] = [25, 5000];
/// The stores of the panels that are already connected.
const LIVE_STORES: std::ops::Range<i64> = 1_000_000..1_000_020;
/// The number of live orders a second. The bench writes them for 5 s without a rush, and for 11 s with one.
const LIVE_RATE: u32 = 200;
const CALM_SECONDS: u64 = 5;
const RUSH_SECONDS: u64 = 11;
/// The number of runs; the bench prints the medians of all runs.
const RUNS: usize = 3;
/// The time from the start of the live load until the rush begins.
const CALM: Duration = Duration::from_secs(1);
/// The time over which the panels reconnect. Zero: all at once. 5 s: the `reconnect_jitter_ms` that the server states
/// to 5,000 sessions.
const SPREADS: [Duration; 2] = [Duration::ZERO, Duration::from_secs(5)];
/// This argument takes the place of a cursor when the clients connect to the bare server, which sends no events.
const NOTHING: &str = "-";
/// With this argument, this program runs as the bare server.
const BARE: &str = "--bare";
/// With this argument, this program runs as the panels that reconnect.
const HERD: &str = "--herd";

#[tokio::main]
async fn main() {
    allow_many_sockets();
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == HERD) {
        return herd(&arguments[at + 1..]).await;
    }
    if arguments.iter().any(|argument| argument == BARE) {
        return bare().await;
    }
    let chosen: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let shop = Shop::open().await;
    let token = token(&shop).await;
    println!(
        "median of {RUNS}                         | all        CPU seconds of       | live p50/p99 ms                              | p99"
    );
    println!(
        "panels  stores  within  tries again | live after engine Postgres herd | calm           the rush       a bare server | ratio  once connected"
    );
    let is_chosen = |stores: &usize| chosen.is_empty() || chosen.contains(stores);
    for stores in STORES.into_iter().filter(is_chosen) {
        let (engine, address) = serve(&shop, &[]).await;
        let cursor = cursor(address, &token).await;
        drop(engine);
        miss(&shop, stores).await;
        for spread in SPREADS {
            let mut runs = Vec::new();
            for _ in 0..RUNS {
                runs.push(run(&shop, &token, &cursor, stores, spread).await);
            }
            print(&runs, stores, spread);
        }
    }
}

fn print(runs: &[Run], stores: usize, spread: Duration) {
    let median = |of: fn(&Run) -> f64| quantile(&mut runs.iter().map(of).collect::<Vec<_>>(), 0.5);
    let floor = match spread.is_zero() {
        true => format!("{:5.2} / {:5.2}", median(|run| run.floor.0), median(|run| run.floor.1)),
        false => format!("{:13}", "-"),
    };
    println!(
        "{PANELS:6} {stores:7} {:5} s {:12} | {:8.2} s {:6.2} {:8.2} {:4.2} | {:5.2} / {:5.2}  {:5.2} / {:5.2}  {floor} | {:5.2}  {:5.2}",
        spread.as_secs(),
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
        median(|run| run.connected.1 / run.calm.1),
    );
}

/// The results of one rush, on a program that was started for this rush.
struct Run {
    seconds: f64,
    again: f64,
    /// The CPU time of the program, of Postgres and of the clients during the rush, seconds.
    cpu: [f64; 3],
    /// The median and the p99 of the live orders' latency before the rush and during the rush, ms.
    calm: (f64, f64),
    rush: (f64, f64),
    /// The median and the p99 after the last panel has connected and before the rush ends, ms.
    connected: (f64, f64),
    /// The median and the p99 while a bare server accepts the panels, over a time as long as the rush, ms. NaN if the
    /// panels do not reconnect all at once.
    floor: (f64, f64),
}

async fn run(shop: &Shop, token: &str, cursor: &str, stores: usize, spread: Duration) -> Run {
    let (engine, address) = serve(shop, &[]).await;
    let heard = back_already(address, token).await;
    let calm = figures(&load(shop, &heard, CALM_SECONDS).await, None);
    let postgres = postmaster(shop).await;
    let engine_id = engine.0.id();
    let (latencies, rush) = beside_live(
        shop,
        &heard,
        [&address.to_string(), token, cursor],
        stores,
        spread,
        move |herd| [cpu_seconds(engine_id), cpu_of_children(postgres), cpu_seconds(herd)],
    )
    .await;
    let during = rush.begin..rush.begin + rush.lasted;
    assert!(
        rush.lasted < Duration::from_secs(RUSH_SECONDS) - CALM,
        "the live load lasts as long"
    );
    let floor = if spread.is_zero() {
        let mut server = counting_clients::start(&[BARE]);
        let address = server.line();
        let (latencies, bare) =
            beside_live(shop, &heard, [&address, token, NOTHING], stores, spread, |_| [0.0; 3]).await;
        figures(&latencies, Some(bare.begin..bare.begin + rush.lasted))
    } else {
        (f64::NAN, f64::NAN)
    };
    Run {
        seconds: rush.said[1],
        again: rush.said[2],
        cpu: rush.cpu,
        calm,
        connected: figures(
            &latencies,
            Some(during.start + Duration::from_secs_f64(rush.said[0])..during.end),
        ),
        rush: figures(&latencies, Some(during)),
        floor,
    }
}

/// The measurements of one rush.
struct Admission {
    begin: Instant,
    lasted: Duration,
    /// Three numbers that the clients' process prints: the seconds until all panels were connected, the seconds until
    /// all panels were live, and the number of repeated attempts.
    said: [f64; 3],
    cpu: [f64; 3],
}

/// Writes live orders, and measures their latency, while the panels of the rush connect to a server. `to` has the
/// server's address, the token and the cursor.
async fn beside_live(
    shop: &Shop,
    heard: &Heard,
    to: [&str; 3],
    stores: usize,
    spread: Duration,
    cpu: impl Fn(u32) -> [f64; 3] + Send + 'static,
) -> (Vec<(Instant, f64)>, Admission) {
    let [address, token, cursor] = to;
    let (stores, spread) = (stores.to_string(), spread.as_millis().to_string());
    let mut herd = counting_clients::start(&[HERD, address, token, cursor, &stores, &spread]);
    let rush = tokio::task::spawn_blocking(move || {
        std::thread::sleep(CALM);
        let id = herd.process.id();
        let (begin, before) = (Instant::now(), cpu(id));
        herd.say("go");
        let said = herd.line();
        let (lasted, after) = (begin.elapsed(), cpu(id));
        let mut said = said.split(' ').map(|number| number.parse().expect("a number"));
        let rush = Admission {
            begin,
            lasted,
            said: std::array::from_fn(|_| said.next().expect("three numbers")),
            cpu: std::array::from_fn(|index| after[index] - before[index]),
        };
        (herd, rush)
    });
    let (latencies, rush) = tokio::join!(load(shop, heard, RUSH_SECONDS), rush);
    let (_herd, rush) = rush.expect("a rush");
    (latencies, rush)
}

/// The process id of the postmaster, the parent of all processes of Postgres.
async fn postmaster(shop: &Shop) -> u32 {
    let client = vestnik::infra::db::connect_as(&shop.url, "bench")
        .await
        .expect("a connection");
    let row = client
        .query_one("select pg_backend_pid()", &[])
        .await
        .expect("a backend");
    let status = std::fs::read_to_string(format!("/proc/{}/status", row.get::<_, i32>(0))).expect("Linux");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.expect("its parent").trim().parse().expect("a number")
}

/// The CPU time of the running child processes of a process, seconds.
fn cpu_of_children(process: u32) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).expect("Linux");
    let on_cpu = |child: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    };
    children.split_whitespace().filter_map(on_cpu).sum::<f64>() / 1e9
}

/// The current cursor of the server.
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

/// Writes the events that the panels miss: `MISSED` transactions, each with one order for each store.
async fn miss(shop: &Shop, stores: usize) {
    let client = vestnik::infra::db::connect_as(&shop.url, "writer")
        .await
        .expect("a connection");
    let insert = "insert into orders (store_id, customer_name, total, order_type, items) \
         select i, 'Иван', 50000, 'delivery', '[{\"name\": \"Пицца\", \"count\": 2}]' from generate_series(1, $1::int) i";
    for _ in 0..MISSED {
        client.execute(insert, &[&(stores as i32)]).await.expect("orders");
    }
    client
        .batch_execute("analyze vestnik.vst_event; checkpoint")
        .await
        .expect("settled");
}

type Heard = Arc<Mutex<Vec<(Instant, Utf8Bytes)>>>;

/// Connects one panel for each store of `LIVE_STORES`, before the rush.
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

/// The median and the p99 of the latencies of orders that were sent in the time span `during`, ms. `None`: of all
/// orders.
fn figures(latencies: &[(Instant, f64)], during: Option<std::ops::Range<Instant>>) -> (f64, f64) {
    let inside = |at: &Instant| during.as_ref().is_none_or(|during| during.contains(at));
    let mut inside: Vec<f64> = latencies
        .iter()
        .filter(|(at, _)| inside(at))
        .map(|(_, ms)| *ms)
        .collect();
    (quantile(&mut inside, 0.5), quantile(&mut inside, 0.99))
}

/// Writes live orders. Returns for each order when it was sent, and its latency to the client's socket, ms.
async fn load(shop: &Shop, heard: &Heard, seconds: u64) -> Vec<(Instant, f64)> {
    heard.lock().expect("no panic").clear();
    let client = Arc::new(
        vestnik::infra::db::connect_as(&shop.url, "live")
            .await
            .expect("a connection"),
    );
    let insert = "insert into orders (store_id, customer_name, total, order_type, items) \
         values ($1, 'Пётр', 1, 'pickup', '[]') returning id";
    let insert = client.prepare_cached(insert).await.expect("prepared");
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

/// Waits for the line `go` on standard input, and then connects all panels within the time `spread`. Each panel tries
/// again until the message `live` ends its replay.
async fn herd(arguments: &[String]) {
    let [address, token, cursor, stores, spread] = arguments else {
        panic!("--herd ADDRESS TOKEN CURSOR STORES SPREAD_MS")
    };
    let (address, stores): (SocketAddr, usize) = (address.parse().expect("one"), stores.parse().expect("one"));
    let spread_ms: u64 = spread.parse().expect("milliseconds");
    let mut commands = commands();
    commands.recv().await.expect("go");
    let begin = Instant::now();
    let [live, connected] = [Arc::new(Count::default()), Arc::new(Count::default())];
    let [events, again] = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    let [all_live, all_connected] = [&live, &connected].map(|count| count.expect(PANELS as u64));
    for panel in 0..PANELS {
        let (token, after) = (token.clone(), format!("?after={cursor}"));
        let (live, events, again) = (Arc::clone(&live), Arc::clone(&events), Arc::clone(&again));
        let connected = Arc::clone(&connected);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=spread_ms))).await;
            loop {
                if let Ok(socket) = counting_clients::open(address, 1 + panel % stores, &token, &after).await {
                    connected.add();
                    let each = |kind| match kind {
                        Kind::Event => drop(events.fetch_add(1, Ordering::Relaxed)),
                        Kind::Live => live.add(),
                        Kind::Ping | Kind::Goodbye | Kind::Other => {}
                    };
                    counting_clients::listen(&socket, each).await;
                }
                again.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..500))).await;
            }
        });
    }
    all_connected.await;
    let connected = begin.elapsed();
    all_live.await;
    let (events, again) = (events.load(Ordering::Relaxed), again.load(Ordering::Relaxed));
    let missed = if cursor == NOTHING { 0 } else { PANELS * MISSED };
    assert_eq!(events, missed as u64, "each panel received each missed event once");
    println!("{} {} {again}", connected.as_secs_f64(), begin.elapsed().as_secs_f64());
    commands.recv().await;
}

/// Runs the bare server. It accepts each connection, and sends only the message that ends a replay. No server can do
/// less work.
async fn bare() {
    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x0f{\"type\":\"live\"}";
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let listener = socket.listen(PANELS as u32).expect("listening");
    println!("{}", listener.local_addr().expect("a port"));
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut request = [0; 1024];
            let asked = socket.read(&mut request).await;
            if asked.is_ok() && socket.write_all(ANSWER).await.is_ok() {
                // Wait until the client disconnects.
                let _ = socket.read(&mut request).await;
            }
        });
    }
}
