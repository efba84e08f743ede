//! Measures how much an attack by clients slows down live sessions and new panels. The live sessions get 50 events a
//! second. Twice a second, a new panel connects with a new token. The bench runs one attack after the other, and
//! compares each attack with a run without an attack. `scripts/attack` starts this bench. The attackers and the server
//! share the CPU cores of the machine.

#[path = "../tests/it/support/attackers.rs"]
mod attackers;
#[path = "support/engine.rs"]
mod engine;
#[path = "support/limits.rs"]
mod limits;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/quantile.rs"]
mod quantile;
#[path = "support/shop.rs"]
mod shop;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use attackers::{Attack, Attackers};
use futures::StreamExt as _;
use quantile::quantile;
use rustix::process::{Resource, getrlimit};
use shop::Shop;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use vestnik::token::{self, New, Stores};

const PANELS: usize = 20;
const ORDERS_PER_SECOND: u32 = 50;
const NEWCOMERS_PER_SECOND: u32 = 2;
/// How long each attack is measured.
const SPAN: Duration = Duration::from_secs(15);
/// How long an attack runs before the measurement begins.
const BEGINNING: Duration = Duration::from_secs(3);
/// A new panel that is not live after this time counts as kept out.
const PATIENCE: Duration = Duration::from_secs(15);
/// The attack with silent sockets leaves this many file descriptors free, because the bench itself needs some.
const OTHER_FILES: usize = 2000;

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// The results of one attack.
#[derive(Default)]
struct Seen {
    events_ms: Vec<f64>,
    newcomers_ms: Vec<f64>,
    kept_out: usize,
    /// The error of the last panel that was kept out.
    why: String,
    cpu_s: f64,
    missed: usize,
    peak_mb: f64,
}

impl Seen {
    fn keep_out(&mut self, why: String) {
        self.kept_out += 1;
        self.why = why;
    }
}

#[tokio::main]
async fn main() {
    limits::allow_many_sockets();
    let files = getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |files| files as usize);
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let shop = Shop::open().await;
    let (engine, server) = engine::serve(&shop, &["--set", "log.filter=error"]).await;
    let pid = engine.0.id();
    let attacks = [
        ("quiet", None),
        (
            "silent sockets",
            Some((Attack::SayNothing, files.saturating_sub(OTHER_FILES).min(20_000))),
        ),
        ("HTTP/2 prefaces", Some((Attack::SpeakHttp2, 100))),
        ("slow heads", Some((Attack::DripHeads, 2000))),
        ("slow bodies, with a token", Some((Attack::DripBodies, 200))),
        ("readers that never read", Some((Attack::ReadNothing, 500))),
        ("made-up tokens a second", Some((Attack::TryTokens, 5000))),
        ("ping floods, with a token", Some((Attack::FloodPings, 4))),
        ("quiet again", None),
    ];
    println!(
        "{PANELS} panels, {ORDERS_PER_SECOND} orders/s, {NEWCOMERS_PER_SECOND} newcomers/s, {} s each; ms",
        SPAN.as_secs()
    );
    println!(
        "{:32} | event p50    p99 missed | newcomer p50    max kept out | MB before   peak",
        ""
    );
    for (name, attack) in attacks {
        if attack.is_some() && !only.is_empty() && !only.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let before = resident_mb(pid);
        let seen = look(&shop, server, pid, attack).await;
        let name = attack.map_or(name.to_owned(), |(_, count)| format!("{count} {name}"));
        let (mut events, mut newcomers) = (seen.events_ms, seen.newcomers_ms);
        println!(
            "{name:32} | {:9.2} {:6.2} {:6} | {:12.0} {:6.0} {:8} | {:9.0} {:6.0} | {:14.0} {}",
            quantile(&mut events, 0.5),
            quantile(&mut events, 0.99),
            seen.missed,
            quantile(&mut newcomers, 0.5),
            quantile(&mut newcomers, 1.0),
            seen.kept_out,
            before,
            seen.peak_mb,
            seen.cpu_s / SPAN.as_secs_f64() * 100.0,
            seen.why,
        );
    }
    let told = [
        "vestnik_connections_closed_for_others_total{limit=\"address\"}",
        "vestnik_connections_timed_out_total{waited_for=\"head\"}",
        "vestnik_connections_timed_out_total{waited_for=\"write\"}",
        "vestnik_requests_refused_total{limit=\"address\"}",
        "vestnik_tokens_refused_total{why=\"unknown\"}",
        "vestnik_sessions_closed_total{code=\"4429\"}",
    ];
    for name in told {
        println!("{name} {}", engine::figure(server, name).await.unwrap_or(0.0));
    }
}

/// Measures the latencies of live sessions and of new panels for `SPAN`, with or without an attack.
async fn look(shop: &Shop, server: SocketAddr, pid: u32, attack: Option<(Attack, usize)>) -> Seen {
    let client = vestnik::infra::db::connect_as(&shop.url, "bench")
        .await
        .expect("a connection");
    let attacker = token(&client).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let written: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let mut panels = JoinSet::new();
    for _ in 0..PANELS {
        let socket = live(server, &token(&client).await).await.expect("a panel");
        panels.spawn(watch(socket, Arc::clone(&written), Arc::clone(&seen)));
    }
    let _attackers = attack.map(|(attack, count)| Attackers::begin(attack, server, &attacker, count));
    if attack.is_some() {
        tokio::time::sleep(BEGINNING).await;
    }
    let mut newcomers = JoinSet::new();
    let (mut orders, mut arrivals) = (
        interval(Duration::from_secs(1) / ORDERS_PER_SECOND),
        interval(Duration::from_secs(1) / NEWCOMERS_PER_SECOND),
    );
    let began_s = cpu_s(pid);
    let (mut memory, end) = (interval(Duration::from_millis(100)), Instant::now() + SPAN);
    while Instant::now() < end {
        tokio::select! {
            _ = orders.tick() => write(&client, &written).await,
            _ = arrivals.tick() => {
                let (token, seen) = (token(&client).await, Arc::clone(&seen));
                newcomers.spawn(async move {
                    let came = Instant::now();
                    let came_in = timeout(PATIENCE, live(server, &token)).await;
                    let mut seen = seen.lock().expect("no panic");
                    match came_in {
                        Ok(Ok(_)) => seen.newcomers_ms.push(ms(came.elapsed())),
                        Ok(Err(why)) => seen.keep_out(why.to_string()),
                        Err(_) => seen.keep_out("nothing".to_owned()),
                    }
                });
            }
            _ = memory.tick() => {
                let mut seen = seen.lock().expect("no panic");
                seen.peak_mb = seen.peak_mb.max(resident_mb(pid));
            }
        }
    }
    let cpu_s = cpu_s(pid) - began_s;
    while newcomers.join_next().await.is_some() {}
    drop(_attackers);
    // Wait for events that are still in transit.
    tokio::time::sleep(Duration::from_secs(1)).await;
    panels.shutdown().await;
    let mut seen = std::mem::take(&mut *seen.lock().expect("no panic"));
    seen.cpu_s = cpu_s;
    let orders = written.lock().expect("no panic").len();
    seen.missed = (orders * PANELS).saturating_sub(seen.events_ms.len());
    seen
}

/// Inserts an order. The total of the order is its index in `written`, the list of the times of all INSERTs.
async fn write(client: &vestnik::infra::db::Client, written: &Mutex<Vec<Instant>>) {
    let number = {
        let mut written = written.lock().expect("no panic");
        written.push(Instant::now());
        written.len() as i64 - 1
    };
    let order = "insert into orders (store_id, total) values (7, $1::text::int)";
    client.execute(order, &[&number.to_string()]).await.expect("written");
}

/// Receives the orders of one session, and records the latency of each order.
async fn watch(mut socket: Socket, written: Arc<Mutex<Vec<Instant>>>, seen: Arc<Mutex<Seen>>) {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let event: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let Some(number) = event["data"]["total"].as_u64() else {
            continue;
        };
        let at = written.lock().expect("no panic")[number as usize];
        seen.lock().expect("no panic").events_ms.push(ms(at.elapsed()));
    }
}

/// Connects a session, and waits for the server's message `live`, which ends the replay.
async fn live(server: SocketAddr, token: &str) -> Result<Socket, Box<dyn std::error::Error + Send + Sync>> {
    let mut request = format!("ws://{server}/api/partner/ws/partner/7").into_client_request()?;
    let bearer = format!("Bearer {token}").parse()?;
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = connect_async(request).await?;
    while let Some(message) = socket.next().await {
        if message?.to_text()?.starts_with(r#"{"type":"live""#) {
            return Ok(socket);
        }
    }
    Err("it was closed".into())
}

async fn token(client: &vestnik::infra::db::Client) -> String {
    let token = token::create(client, &New::of(&Stores::These(vec!["7".into()]))).await;
    token.expect("a token").reveal().to_owned()
}

/// The CPU time that a process has used on all cores, seconds.
fn cpu_s(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: f64 = behind_name
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    ticks / 100.0
}

fn resident_mb(process: u32) -> f64 {
    memory::resident_kb(process).unwrap_or(0) as f64 / 1024.0
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
