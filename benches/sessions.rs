//! Measures the memory of an idle session: the resident memory of the program with 10,000 sessions, without TLS and
//! with TLS. For comparison, a separate server only keeps the same number of tungstenite sockets with buffers of the
//! same size. The bench also checks that the program releases memory when the sessions connect and disconnect several
//! times.

#[path = "support/engine.rs"]
mod engine;
#[path = "support/limits.rs"]
mod limits;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/secure.rs"]
mod secure;
#[path = "support/shop.rs"]
mod shop;
#[path = "support/upgrade.rs"]
mod upgrade;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use engine::{serve, token};
use limits::allow_many_sockets;
use memory::resident_kb;
use secure::{Connection, Way};
use shop::{Ended, Shop};
use upgrade::upgrade;

const SESSIONS: usize = 10_000;
const STORES: usize = 500;
/// The number of handshakes that run at the same time.
const AT_ONCE: usize = 64;
/// How many times all sessions connect and disconnect.
const TURNS: usize = 4;
/// The allowed growth of memory from the second turn to the last turn, as a share of the memory in the second turn.
const GROWTH: f64 = 0.03;
/// With this argument, this program runs as the bare server of the comparison.
const BARE: &str = "--bare-server";

#[tokio::main]
async fn main() {
    allow_many_sockets();
    if std::env::args().any(|argument| argument == BARE) {
        return serve_bare().await;
    }
    let shop = Shop::open().await;
    let token = token(&shop).await;
    let (engine, address) = serve(&shop, &[]).await;
    let vestnik = cost(&engine, &Way::plain(address), &token).await;
    drop(engine);
    let (bare, address) = start_bare();
    let floor = cost(&bare, &Way::plain(address), &token).await;
    println!("{SESSIONS} idle sessions: {vestnik:.1} KB each; bare tungstenite: {floor:.1} KB each");
    drop(bare);
    let (engine, secure) = secure::serve(&shop, &[]).await;
    println!(
        "{SESSIONS} idle sessions over TLS: {:.1} KB each",
        cost(&engine, &secure, &token).await
    );
    drop(engine);
    let (engine, address) = serve(&shop, &[]).await;
    let turns = come_and_go(&engine, &Way::plain(address), &token).await;
    let megabytes: Vec<String> = turns.iter().map(|kb| format!("{:.1}", kb / 1024.0)).collect();
    println!(
        "{SESSIONS} sessions that come and go {TURNS} times, MB with all of them: {}",
        megabytes.join(", ")
    );
    let (second, last) = (turns[1], turns[TURNS - 1]);
    assert!(last <= second * (1.0 + GROWTH), "memory grows with time");
}

/// Opens all sessions. Returns by how much the server's resident memory grew for each session, KB.
async fn cost(server: &Ended, way: &Way, token: &str) -> f64 {
    // The first sockets make the server allocate memory that all sockets share. This memory must not count.
    let warm = open(way, token, 200).await;
    let before = resident(server);
    let sessions = open(way, token, SESSIONS).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = resident(server);
    drop((warm, sessions));
    (after - before) / SESSIONS as f64
}

fn resident(server: &Ended) -> f64 {
    resident_kb(server.0.id()).expect("it runs") as f64
}

/// Connects and disconnects all sessions in several turns. Returns the server's resident memory in each turn, while all
/// sessions are connected, KB.
async fn come_and_go(server: &Ended, way: &Way, token: &str) -> Vec<f64> {
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let sessions = open(way, token, SESSIONS).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        turns.push(resident(server));
        drop(sessions);
    }
    turns
}

async fn open(way: &Way, token: &str, count: usize) -> Vec<Box<dyn Connection>> {
    let handshakes = (0..count).map(|number| async move {
        let mut socket = way.connect().await.expect("a socket");
        let request = upgrade(number % STORES, token, "");
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = [0; 512];
        let read = socket.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        socket
    });
    futures::stream::iter(handshakes)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

fn start_bare() -> (Ended, SocketAddr) {
    use std::io::BufRead as _;
    let this = std::env::current_exe().expect("this program");
    let mut child = Command::new(this)
        .arg(BARE)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the floor");
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().expect("its address"))
        .read_line(&mut line)
        .expect("its address");
    (Ended(child), line.trim().parse().expect("its address"))
}

async fn serve_bare() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("a port"));
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(4096)
        .max_write_buffer_size(1 << 20);
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut socket = accept_async_with_config(socket, Some(config))
                .await
                .expect("a handshake");
            while let Some(Ok(_)) = socket.next().await {}
        });
    }
}
