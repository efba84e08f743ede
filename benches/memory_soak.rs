//! Checks that memory does not grow with time. 10,000 sessions are connected to two nodes, one of which uses TLS. In
//! each round, every store gets orders, while sessions disconnect and reconnect with their cursors. The round also
//! creates, uses and revokes a token, and fetches lists. One client stops reading, and the server must close this
//! client. Some sessions are panels that can ring, and all sessions get heartbeats. After each round, the bench prints
//! the memory of both nodes and of their Postgres backends. At the end, it prints the growth in the second half of
//! the rounds.

#[path = "support/engine.rs"]
mod engine;
#[path = "support/limits.rs"]
mod limits;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/quantile.rs"]
mod quantile;
#[path = "support/reconnecting_client.rs"]
mod reconnecting_client;
#[path = "support/scan.rs"]
mod scan;
#[path = "support/secure.rs"]
mod secure;
#[path = "support/shop.rs"]
mod shop;
#[path = "support/upgrade.rs"]
mod upgrade;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use vestnik::infra::db::Client;
use vestnik::token::{self, New, Stores, Which};

use limits::allow_many_sockets;
use memory::{private_kb, resident_kb};
use quantile::quantile;
use reconnecting_client::{Manner, Tally, Visitor};
use secure::Way;
use shop::{Ended, Shop};
use upgrade::upgrade;

const PLAIN_SESSIONS: usize = 8000;
const SECURE_SESSIONS: usize = 2000;
const SESSIONS: usize = PLAIN_SESSIONS + SECURE_SESSIONS;
const STORES: usize = 500;
const WRITERS: usize = 8;
/// The number of orders that each store gets in a round. Each session receives the orders of its store, so a round has
/// 200,000 deliveries.
const ORDERS: usize = 20;
/// In each round, `COMEBACKS` sessions reconnect, with the pause `COMEBACK_PAUSE` between two reconnects.
const COMEBACKS: usize = 1000;
const COMEBACK_PAUSE: Duration = Duration::from_millis(2);
/// One in this many sessions is a panel that can ring.
const RINGING: usize = 50;
/// The number of clients that connect with the token of the round. The server closes them when the round revokes the
/// token.
const GUESTS: usize = 40;
/// The number of lists that are fetched in each round.
const FETCHES: usize = 100;
/// The store `SLOW_STORE` has a client that does not read. In each round, this store gets `LARGE_ORDERS` orders of
/// `LARGE_BYTES` bytes each.
const SLOW_STORE: usize = STORES;
const LARGE_ORDERS: usize = 24;
const LARGE_BYTES: usize = 128 * 1024;
/// Each session gets a heartbeat every 2 seconds.
const HEARTBEAT: [&str; 2] = ["--set", "session.ping_interval_seconds=2"];
/// Nodes log only errors, because the bench causes many warnings on purpose.
const QUIETLY: [&str; 2] = ["--set", "log.filter=error"];
/// The number of rounds before the measurement. In these rounds, caches fill, and the program creates everything that
/// it creates only once.
const WARM_UP: usize = 8;
const ROUNDS: usize = 30;
/// How long an expected event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// The wait after all sessions have connected at once. The server releases the memory of such a burst after some
/// seconds.
const RUSH_FORGOTTEN: Duration = Duration::from_secs(12);
/// How long the slow client does not read. The server closes a client that has not read for 10 s.
const UNREADING_FOR: Duration = Duration::from_secs(15);
/// The wait between the end of a round and the measurement of memory.
const SETTLE: Duration = Duration::from_millis(300);
/// The highest allowed growth of memory, as a share. The bench compares the median of the second half of the rounds
/// with the median of the first half.
const GROWTH: f64 = 0.03;

/// A node, and how a client connects to it.
struct Node {
    engine: Ended,
    way: Arc<Way>,
}

/// The memory after a round, KB, and the counts of deliveries and connections so far.
struct Memory {
    nodes: [f64; 2],
    /// The private memory of all Postgres backends that serve the nodes, and the number of backends.
    postgres: (f64, usize),
    deliveries: u64,
    visits: u64,
}

/// The state of the whole run.
struct Day {
    shop: Shop,
    client: Client,
    token: String,
    nodes: [Node; 2],
    tally: Arc<Tally>,
    slow: Arc<Tally>,
    guests: Arc<Tally>,
    unreading: Mutex<Vec<JoinHandle<()>>>,
}

#[tokio::main]
async fn main() {
    allow_many_sockets();
    let day = Day::begin().await;
    let empty = day.memory().await;
    let visitors = day.come().await;
    tokio::time::sleep(RUSH_FORGOTTEN).await;
    let idle = day.memory().await;
    let [plain, secure] = [(0, PLAIN_SESSIONS), (1, SECURE_SESSIONS)]
        .map(|(node, sessions)| (idle.nodes[node] - empty.nodes[node]) / sessions as f64);
    println!(
        "KB a session, when all have come at once: {plain:.1} plain ({PLAIN_SESSIONS}), {secure:.1} over TLS ({SECURE_SESSIONS})"
    );
    println!("round  deliveries  visits | MB plain    TLS | Postgres, MB each");
    let mut memory = Vec::new();
    for round in 1..=ROUNDS {
        day.round(round, &visitors).await;
        let now = day.memory().await;
        println!(
            "{round:5} {:11} {:7} | {:8.1} {:6.1} | {:.2} of {}",
            now.deliveries,
            now.visits,
            now.nodes[0] / 1024.0,
            now.nodes[1] / 1024.0,
            now.postgres.0 / now.postgres.1 as f64 / 1024.0,
            now.postgres.1,
        );
        memory.push(now);
    }
    let unreading = std::mem::take(&mut *day.unreading.lock().expect("no panic"));
    for one in unreading {
        one.await.expect("a client that does not read is closed");
    }
    report(&memory[WARM_UP..]);
}

impl Day {
    async fn begin() -> Self {
        let shop = Shop::open().await;
        let client = vestnik::infra::db::connect_as(&shop.url, "bench")
            .await
            .expect("a connection");
        let token = engine::token(&shop).await;
        let settings = [HEARTBEAT, QUIETLY].concat();
        let (engine, address) = engine::serve(&shop, &settings).await;
        let way = Arc::new(Way::plain(address));
        let plain = Node { engine, way };
        let (engine, way) = secure::serve(&shop, &settings).await;
        let way = Arc::new(way);
        let secure = Node { engine, way };
        Self {
            shop,
            client,
            token,
            nodes: [plain, secure],
            tally: Arc::default(),
            slow: Arc::default(),
            guests: Arc::default(),
            unreading: Mutex::default(),
        }
    }

    /// Opens all sessions that stay for the whole run. The last one belongs to the store `SLOW_STORE`.
    async fn come(&self) -> Vec<Visitor> {
        let visitor = |number: usize| {
            let node = &self.nodes[usize::from(number >= PLAIN_SESSIONS)];
            let manner = match number.is_multiple_of(RINGING) {
                true => Manner::Rings,
                false => Manner::Silent,
            };
            Visitor::regular(&node.way, number % STORES, &self.token, manner, &self.tally)
        };
        let mut visitors: Vec<Visitor> = (0..SESSIONS).map(visitor).collect();
        let way = &self.nodes[0].way;
        visitors.push(Visitor::regular(
            way,
            SLOW_STORE,
            &self.token,
            Manner::Silent,
            &self.slow,
        ));
        until("all sessions are live", || {
            live(&self.tally) == SESSIONS as u64 && live(&self.slow) == 1
        })
        .await;
        visitors
    }

    async fn round(&self, round: usize, visitors: &[Visitor]) {
        let label = format!("round {round}");
        let new = New {
            label: Some(&label),
            ..New::of(&Stores::All)
        };
        let guest_token = token::create(&self.client, &new).await.expect("a token");
        let node = |number: usize| &self.nodes[number % self.nodes.len()].way;
        let guest = |number: usize| Visitor::guest(node(number), number, guest_token.reveal(), &self.guests);
        let guests: Vec<Visitor> = (0..GUESTS).map(guest).collect();
        until("the guests are live", || live(&self.guests) == GUESTS as u64).await;
        let unreading = tokio::spawn(was_let_go(self.unreading().await));
        self.unreading.lock().expect("no panic").push(unreading);
        let writers = (0..WRITERS).map(|writer| self.write(writer));
        tokio::join!(
            futures::future::join_all(writers),
            self.write_large(),
            self.fetch(),
            stir(visitors),
        );
        let heard = (round * ORDERS * SESSIONS) as u64;
        until("every session has every order, and is live", || {
            self.tally.heard.load(Ordering::Relaxed) >= heard && live(&self.tally) == SESSIONS as u64
        })
        .await;
        let heard_large = (round * LARGE_ORDERS) as u64;
        until("so has the one with the large ones", || {
            self.slow.heard.load(Ordering::Relaxed) >= heard_large
        })
        .await;
        let revoked = token::revoke(&self.client, &Which::Label(label)).await;
        assert_eq!(revoked.expect("revoked"), 1);
        let let_go = (round * GUESTS) as u64;
        until("the guests are let go", || {
            self.guests.cut_off.load(Ordering::Relaxed) == let_go
        })
        .await;
        drop(guests);
        tokio::time::sleep(SETTLE).await;
        // The clients must have received exactly the expected number of events, and the server must have closed no
        // client that reads.
        assert_eq!(self.tally.heard.load(Ordering::Relaxed), heard);
        assert_eq!(self.tally.cut_off.load(Ordering::Relaxed), 0);
    }

    /// A client that subscribes to all events, but never reads from its socket.
    async fn unreading(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut socket = socket.connect(self.nodes[0].way.address).await.expect("a connection");
        let request = upgrade(SLOW_STORE, &self.token, "");
        socket.write_all(request.as_bytes()).await.expect("sent");
        socket.readable().await.expect("an answer");
        socket
    }

    /// Writes one writer's share of the orders of a round, each order in its own transaction.
    async fn write(&self, writer: usize) {
        let client = vestnik::infra::db::connect_as(&self.shop.url, "writer")
            .await
            .expect("a connection");
        // This bench measures memory, not the speed of a disk.
        let quickly = "set synchronous_commit = off";
        client.batch_execute(quickly).await.expect("a setting");
        let insert = client.prepare_cached(INSERT).await.expect("prepared");
        for order in (writer..ORDERS * STORES).step_by(WRITERS) {
            let (store, items) = (
                (order % STORES) as i64,
                serde_json::json!([{"name": "Пицца", "count": 2}]),
            );
            client.execute(&insert, &[&store, &items]).await.expect("an order");
        }
    }

    async fn write_large(&self) {
        let insert = self.client.prepare_cached(INSERT).await.expect("prepared");
        let items = serde_json::json!([{"name": "x".repeat(LARGE_BYTES), "count": 1}]);
        for _ in 0..LARGE_ORDERS {
            let store = SLOW_STORE as i64;
            self.client.execute(&insert, &[&store, &items]).await.expect("an order");
        }
    }

    /// Fetches lists, each over its own connection.
    async fn fetch(&self) {
        for number in 0..FETCHES {
            let way = &self.nodes[number % self.nodes.len()].way;
            let mut socket = way.connect().await.expect("a socket");
            let request = format!(
                "GET /api/partner/stores/{}/events?limit=50 HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\
                 Connection: close\r\n\r\n",
                number % STORES,
                self.token,
            );
            socket.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = Vec::new();
            // If a server closes a TLS connection without a close message, the read gives an error, but only after
            // the whole response.
            let _ = socket.read_to_end(&mut answer).await;
            assert!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
    }

    async fn memory(&self) -> Memory {
        let kb = |node: &Node| resident_kb(node.engine.0.id()).expect("it runs") as f64;
        let theirs = "select pid from pg_stat_activity where application_name like 'vestnik %' \
             and application_name not in ('vestnik bench', 'vestnik writer')";
        let rows = self.client.query(theirs, &[]).await.expect("their processes");
        let each: Vec<f64> = rows
            .iter()
            .filter_map(|row| private_kb(row.get::<_, i32>(0).unsigned_abs()))
            .map(|kb| kb as f64)
            .collect();
        Memory {
            nodes: [kb(&self.nodes[0]), kb(&self.nodes[1])],
            postgres: (each.iter().sum(), each.len()),
            deliveries: self.all(|tally| &tally.events),
            visits: self.all(|tally| &tally.visits),
        }
    }

    fn all(&self, of: fn(&Tally) -> &AtomicU64) -> u64 {
        let tallies = [&self.tally, &self.slow, &self.guests];
        tallies.into_iter().map(|tally| of(tally).load(Ordering::Relaxed)).sum()
    }
}

const INSERT: &str = "insert into orders (store_id, customer_name, total, order_type, items) \
     values ($1, 'Иван', 50000, 'delivery', $2)";

/// Makes some sessions disconnect and reconnect, one after the other.
async fn stir(visitors: &[Visitor]) {
    let first = fastrand::usize(0..SESSIONS);
    for number in 0..COMEBACKS {
        visitors[(first + number * SESSIONS / COMEBACKS) % SESSIONS].leave();
        tokio::time::sleep(COMEBACK_PAUSE).await;
    }
}

/// Leaves the socket unread for longer than the server allows. Then asserts that the server has closed the connection.
async fn was_let_go(mut unreading: TcpStream) {
    tokio::time::sleep(UNREADING_FOR).await;
    let mut buffer = vec![0; 256 * 1024];
    let ends = async { while matches!(unreading.read(&mut buffer).await, Ok(1..)) {} };
    let ended = tokio::time::timeout(PATIENCE, ends).await;
    assert!(ended.is_ok(), "a client that does not read is closed");
}

fn live(tally: &Tally) -> u64 {
    tally.live.load(Ordering::Relaxed)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "this did not happen in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn report(memory: &[Memory]) {
    let (first, second) = memory.split_at(memory.len() / 2);
    let rounds = (second.len() - 1) as f64;
    let grown = |of: fn(&Memory) -> u64| (of(&second[second.len() - 1]) - of(&second[0])) as f64 / rounds;
    let (deliveries, visits) = (grown(|memory| memory.deliveries), grown(|memory| memory.visits));
    println!(
        "behind the first {WARM_UP} rounds | MB first half  second | then bytes more per 1,000 deliveries  per visit"
    );
    let mut all_flat = true;
    for (name, of) in [
        ("plain", (|memory| memory.nodes[0]) as fn(&Memory) -> f64),
        ("TLS", |memory| memory.nodes[1]),
        ("Postgres' processes", |memory| {
            memory.postgres.0 / memory.postgres.1 as f64
        }),
    ] {
        let [first, second] = [first, second].map(|half| half.iter().map(of).collect::<Vec<f64>>());
        let growth = slope(&second) * 1024.0;
        let (before, after) = (median(first), median(second.clone()));
        println!(
            "{name:25} | {:13.2} {:7.2} | {:36.1} {:10.2}",
            before / 1024.0,
            after / 1024.0,
            growth / (deliveries / 1000.0),
            growth / visits,
        );
        all_flat &= after <= before * (1.0 + GROWTH);
    }
    assert!(all_flat, "memory grows with time");
}

fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}

/// The typical growth from one value to the next: the median of the slopes between all pairs of values (Theil-Sen
/// estimator). The median ignores single high values, which come from memory that the allocator keeps for some seconds.
fn slope(values: &[f64]) -> f64 {
    let pairs = (0..values.len()).flat_map(|to| (0..to).map(move |from| (from, to)));
    median(
        pairs
            .map(|(from, to)| (values[to] - values[from]) / (to - from) as f64)
            .collect(),
    )
}
