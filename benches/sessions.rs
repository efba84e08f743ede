//! What an idle session costs: resident memory of the program with 10,000 of them, beside a server in a process of its
//! own that does nothing but keep as many bare tungstenite sockets with the same buffers.

#[path = "support/engine.rs"]
mod engine;
#[path = "support/shop.rs"]
mod shop;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::StreamExt as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use engine::{serve, token};
use shop::{Ended, Shop};

const SESSIONS: usize = 10_000;
const STORES: usize = 500;
/// Handshakes at once.
const AT_ONCE: usize = 64;
/// The floor's server is this program with this argument.
const BARE: &str = "--bare-server";

#[tokio::main]
async fn main() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: most,
            maximum: most,
        },
    )
    .expect("enough files");
    if std::env::args().any(|argument| argument == BARE) {
        return serve_bare().await;
    }
    let shop = Shop::open().await;
    let (engine, address) = serve(&shop, &[]).await;
    let token = token(&shop).await;
    let vestnik = cost(&engine, address, &token).await;
    let (bare, address) = start_bare();
    let floor = cost(&bare, address, &token).await;
    println!("{SESSIONS} idle sessions: {vestnik:.1} KB each; bare tungstenite: {floor:.1} KB each");
}

/// KB of resident memory for each session.
async fn cost(server: &Ended, address: SocketAddr, token: &str) -> f64 {
    // Warm: the first sockets make what all of them share.
    let warm = open(address, token, 200).await;
    let before = resident_kb(server);
    let sessions = open(address, token, SESSIONS).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = resident_kb(server);
    drop((warm, sessions));
    (after - before) / SESSIONS as f64
}

async fn open(address: SocketAddr, token: &str, count: usize) -> Vec<TcpStream> {
    let handshakes = (0..count).map(|number| async move {
        let mut socket = TcpStream::connect(address).await.expect("a socket");
        let request = format!(
            "GET /api/partner/ws/partner/{} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            number % STORES
        );
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

fn resident_kb(server: &Ended) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.0.id())).expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
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
