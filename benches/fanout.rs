//! Measures a burst of orders to many sessions of one store over real sockets, from the INSERT to the last session.
//! For comparison, a bare server without a database sends each message to each socket with tokio-tungstenite, and
//! flushes the socket. Servers and clients are separate processes, so that the bench can measure the CPU time of a
//! server alone.

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

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use child::{Child, commands, cpu_seconds};
use counting_clients::Count;
use engine::{serve, token};
use limits::allow_many_sockets;
use quantile::quantile;
use scan::Kind;
use shop::Shop;

/// For each burst: the number of sessions, and the number of orders that each session receives.
const BURSTS: [(usize, usize); 3] = [(100, 2000), (1000, 500), (5000, 200)];
const ROUNDS: usize = 5;
const WRITERS: usize = 16;
/// With the argument `CROWD`, this program runs as the clients. With `BARE`, it runs as the bare server.
const CROWD: &str = "--crowd";
const BARE: &str = "--bare-server";
const ORDER: &str = "insert into orders (store_id, customer_name, total, order_type, items) \
     select 7, 'Иван', 50000, 'delivery', '[{\"name\": \"Пицца\", \"count\": 2}]' from generate_series(1, $1::int)";
/// The message that the bare server sends. Vestnik's event for an order that `ORDER` inserts has the same length.
const MESSAGE: &str = r#"{"type":"new_order","id":"123456","cursor":"AQsT0Xh0b2dnNgDdsC4A","store_id":"7","at":"2026-11-23T20:00:00.123Z","data":{"items": [{"name": "Пицца", "count": 2}], "total": 50000, "status": "pending", "order_id": "123456", "order_ids": ["123456"], "order_type": "delivery", "customer_name": "Иван"}}"#;

/// How the shop writes the orders of a burst.
#[derive(Clone, Copy)]
enum Written {
    /// One statement writes all orders of the burst.
    AtOnce,
    /// 16 writers write the orders one by one.
    OneByOne,
}

/// The deliveries a second, and the server's CPU seconds for a million deliveries. A delivery means that one order has
/// reached one session.
struct Figures {
    rate: f64,
    cpu: f64,
}

#[tokio::main]
async fn main() {
    allow_many_sockets();
    let arguments: Vec<String> = std::env::args().collect();
    let part = |name: &str| arguments.iter().position(|argument| argument == name);
    if let Some(at) = part(CROWD) {
        return crowd(&arguments[at + 1..]).await;
    }
    if part(BARE).is_some() {
        return serve_bare().await;
    }
    let shop = Shop::open().await;
    let (engine, address) = serve(&shop, &["--set", "session.ping_interval_seconds=300"]).await;
    let token = token(&shop).await;
    let writers = writers(&shop).await;
    let mut bare = counting_clients::start(&[BARE]);
    let bare_address: SocketAddr = bare.line().parse().expect("its address");
    println!(
        "sessions  orders |  bare broadcast: deliveries/s  CPU s/M |  vestnik, written     deliveries/s  CPU s/M |  ratio   CPU"
    );
    for (sessions, orders) in BURSTS {
        let deliveries = (sessions * orders) as f64;
        let mut clients = start_crowd(bare_address, &token, sessions);
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            clients.say(&orders.to_string());
            assert_eq!(clients.line(), "waiting");
            let (begin, cpu) = (Instant::now(), cpu_seconds(bare.process.id()));
            bare.say(&orders.to_string());
            assert_eq!(clients.line(), "done");
            rounds.push((begin.elapsed().as_secs_f64(), cpu_seconds(bare.process.id()) - cpu));
        }
        drop(clients);
        let floor = figures(deliveries, rounds);
        for written in [Written::AtOnce, Written::OneByOne] {
            let mut clients = start_crowd(address, &token, sessions);
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                clients.say(&orders.to_string());
                assert_eq!(clients.line(), "waiting");
                let (begin, cpu) = (Instant::now(), cpu_seconds(engine.0.id()));
                write(&writers, written, orders).await;
                assert_eq!(clients.line(), "done");
                rounds.push((begin.elapsed().as_secs_f64(), cpu_seconds(engine.0.id()) - cpu));
            }
            drop(clients);
            let ours = figures(deliveries, rounds);
            println!(
                "{sessions:8}  {orders:6} | {:29.0} {:8.2} | {:19} {:14.0} {:8.2} | {:6.2}  {:.2}",
                floor.rate,
                floor.cpu,
                match written {
                    Written::AtOnce => "at once",
                    Written::OneByOne => "one by one",
                },
                ours.rate,
                ours.cpu,
                ours.rate / floor.rate,
                ours.cpu / floor.cpu,
            );
        }
    }
}

/// The median rate and the median CPU time of the rounds.
fn figures(deliveries: f64, rounds: Vec<(f64, f64)>) -> Figures {
    let (mut seconds, mut cpu): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
    Figures {
        rate: deliveries / quantile(&mut seconds, 0.5),
        cpu: quantile(&mut cpu, 0.5) / deliveries * 1e6,
    }
}

/// The shop's connections, each with its prepared statement.
type Writers = Vec<(vestnik::infra::db::Client, vestnik::infra::db::Statement)>;

async fn writers(shop: &Shop) -> Writers {
    let connecting = (0..WRITERS).map(|_| async {
        let client = vestnik::infra::db::connect_as(&shop.url, "writer")
            .await
            .expect("a connection");
        let insert = client.prepare_cached(ORDER).await.expect("prepared");
        (client, insert)
    });
    futures::future::join_all(connecting).await
}

async fn write(writers: &Writers, written: Written, orders: usize) {
    let (writing, by) = match written {
        Written::AtOnce => (1, orders),
        Written::OneByOne => (WRITERS, 1),
    };
    let left = AtomicUsize::new(orders / by);
    let one_more = &|| {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    };
    let writing = writers[..writing].iter().map(|(client, insert)| async move {
        while one_more() {
            client.execute(insert, &[&(by as i32)]).await.expect("an order");
        }
    });
    futures::future::join_all(writing).await;
}

fn start_crowd(address: SocketAddr, token: &str, sessions: usize) -> Child {
    let mut clients = counting_clients::start(&[CROWD, &address.to_string(), token, &sessions.to_string()]);
    assert_eq!(clients.line(), "ready");
    clients
}

/// Runs the clients: opens the sessions, and then reads numbers from standard input. After each number, waits until
/// every session has received that many events.
async fn crowd(arguments: &[String]) {
    let [address, token, sessions] = arguments else {
        panic!("--crowd ADDRESS TOKEN SESSIONS")
    };
    let (address, sessions): (SocketAddr, u64) = (address.parse().expect("one"), sessions.parse().expect("one"));
    let (live, events) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let all_live = live.expect(sessions);
    for _ in 0..sessions {
        let socket = counting_clients::open(address, 7, token, "").await.expect("a socket");
        let (live, events) = (Arc::clone(&live), Arc::clone(&events));
        tokio::spawn(async move {
            let each = |kind| match kind {
                Kind::Event => events.add(),
                Kind::Live => live.add(),
                Kind::Ping | Kind::Goodbye | Kind::Other => {}
            };
            counting_clients::listen(&socket, each).await;
            panic!("a session ended");
        });
    }
    all_live.await;
    println!("ready");
    let mut commands = commands();
    while let Some(orders) = commands.recv().await {
        let all = events.expect(sessions * orders.parse::<u64>().expect("a number"));
        println!("waiting");
        all.await;
        println!("done");
    }
}

/// Runs the bare server, which sends each message to each socket and flushes it.
async fn serve_bare() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("a port"));
    let (messages, _) = broadcast::channel::<Utf8Bytes>(4096);
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(4096)
        .max_write_buffer_size(1 << 20);
    let mut commands = commands();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted.expect("a socket");
                socket.set_nodelay(true).expect("an option");
                let mut messages = messages.subscribe();
                tokio::spawn(async move {
                    let socket = accept_async_with_config(socket, Some(config)).await.expect("a handshake");
                    let (mut sink, mut stream) = socket.split();
                    let live = Message::text(r#"{"type":"live"}"#);
                    sink.send(live).await.expect("sent");
                    loop {
                        tokio::select! {
                            message = messages.recv() => {
                                let message = message.expect("no lag");
                                if sink.send(Message::Text(message)).await.is_err() {
                                    return;
                                }
                            }
                            heard = stream.next() => {
                                let Some(Ok(_)) = heard else { return };
                            }
                        }
                    }
                });
            }
            orders = commands.recv() => {
                let Some(orders) = orders else { return };
                let message = Utf8Bytes::from_static(MESSAGE);
                for _ in 0..orders.parse().expect("a number") {
                    messages.send(message.clone()).expect("somebody listens");
                }
            }
        }
    }
}
