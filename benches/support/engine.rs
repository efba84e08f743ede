//! Runs the program in a separate process, as in production. The bench itself only writes orders and receives events.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use vestnik::token::{self, New, Stores};

use crate::shop::{Ended, Shop};

/// Starts the program on this database with these additional settings, and waits until it receives notifications.
pub async fn serve(shop: &Shop, settings: &[&str]) -> (Ended, SocketAddr) {
    let (engine, address) = start(shop, settings);
    until_listening(address).await;
    (engine, address)
}

/// Waits until the program receives notifications.
pub async fn until_listening(address: SocketAddr) {
    while !ready(address).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts the program like [`serve`], but does not wait until it is ready.
pub fn start(shop: &Shop, settings: &[&str]) -> (Ended, SocketAddr) {
    let free = free_address();
    (start_at(shop, free, settings), free)
}

/// An address on this machine with a free port. The next port is free as well.
pub fn free_address() -> SocketAddr {
    loop {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let free = free.expect("a port");
        if std::net::TcpListener::bind(ops_of(free)).is_ok() {
            return free;
        }
    }
}

/// The address for operators (health and metrics) of a program whose main address is `address`.
pub fn ops_of(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + 1)
}

/// Starts the program at this address, and does not wait until it is ready.
pub fn start_at(shop: &Shop, address: SocketAddr, settings: &[&str]) -> Ended {
    let engine = Command::new(env!("CARGO_BIN_EXE_vestnik"))
        .args(["serve", "--set", "session.max_per_store=100000"])
        .args([
            "--set",
            "session.max_per_token=100000",
            "--set",
            "http.requests_per_token=1000000",
        ])
        .args(settings)
        .env("DATABASE_URL", shop.url.expose_secret())
        .env("VESTNIK_LISTEN", address.to_string())
        .env("VESTNIK_OPS_LISTEN", ops_of(address).to_string())
        .env("VESTNIK_LOG_FILTER", "warn")
        .spawn()
        .expect("the program");
    Ended(engine)
}

async fn ready(address: SocketAddr) -> bool {
    asked(address, "/readyz")
        .await
        .is_some_and(|answer| answer.contains("listening"))
}

/// The value of a metric of the engine, or `None` if the metric is missing.
#[expect(clippy::allow_attributes, reason = "not every bench asks")]
#[allow(dead_code)]
pub async fn figure(address: SocketAddr, name: &str) -> Option<f64> {
    let figures = asked(address, "/metrics").await?;
    let of = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
    figures.lines().find_map(of)
}

async fn asked(address: SocketAddr, path: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(ops_of(address)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    socket.write_all(request.as_bytes()).await.ok()?;
    socket.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// Creates a token for every store.
#[expect(clippy::allow_attributes, reason = "not every bench asks")]
#[allow(dead_code)]
pub async fn token(shop: &Shop) -> String {
    let client = vestnik::infra::db::connect_as(&shop.url, "bench")
        .await
        .expect("a connection");
    let token = token::create(&client, &New::of(&Stores::All)).await.expect("a token");
    token.reveal().to_owned()
}
