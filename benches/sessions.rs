//! What an idle session costs: resident memory of the program with 10,000 of them, over plain sockets and over TLS, beside
//! a server in a process of its own that does nothing but keep as many bare tungstenite sockets with the same buffers. And
//! whether it is given back: the same sessions come and go again and again.

#[path = "support/engine.rs"]
mod engine;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/shop.rs"]
mod shop;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use engine::{serve, start, token};
use memory::resident_kb;
use shop::{Ended, Shop};

const SESSIONS: usize = 10_000;
const STORES: usize = 500;
/// Handshakes at once.
const AT_ONCE: usize = 64;
/// Times that all of them come and go.
const TURNS: usize = 4;
/// What the last turn may take more than the second, of its memory.
const GROWTH: f64 = 0.03;
/// The floor's server is this program with this argument.
const BARE: &str = "--bare-server";

/// A client's end of a connection.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// Where to, and how.
struct Way {
    address: SocketAddr,
    token: String,
    tls: Option<TlsConnector>,
}

#[tokio::main]
async fn main() {
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, limit).expect("enough files");
    if std::env::args().any(|argument| argument == BARE) {
        return serve_bare().await;
    }
    let shop = Shop::open().await;
    let token = token(&shop).await;
    let (engine, address) = serve(&shop, &[]).await;
    let plain = Way {
        address,
        token: token.clone(),
        tls: None,
    };
    let vestnik = cost(&engine, &plain).await;
    drop(engine);
    let (bare, address) = start_bare();
    let floor = cost(&bare, &Way { address, ..plain }).await;
    println!("{SESSIONS} idle sessions: {vestnik:.1} KB each; bare tungstenite: {floor:.1} KB each");
    drop(bare);
    let (engine, address, tls) = serve_secure(&shop).await;
    let tls = Some(tls);
    let secure = Way {
        address,
        token: token.clone(),
        tls,
    };
    println!(
        "{SESSIONS} idle sessions over TLS: {:.1} KB each",
        cost(&engine, &secure).await
    );
    drop(engine);
    let (engine, address) = serve(&shop, &[]).await;
    let plain = Way {
        address,
        token,
        tls: None,
    };
    let turns = come_and_go(&engine, &plain).await;
    let megabytes: Vec<String> = turns.iter().map(|kb| format!("{:.1}", kb / 1024.0)).collect();
    println!(
        "{SESSIONS} sessions that come and go {TURNS} times, MB with all of them: {}",
        megabytes.join(", ")
    );
    let (second, last) = (turns[1], turns[TURNS - 1]);
    assert!(last <= second * (1.0 + GROWTH), "memory grows with time");
}

/// KB of resident memory for each session.
async fn cost(server: &Ended, way: &Way) -> f64 {
    // Warm: the first sockets make what all of them share.
    let warm = open(way, 200).await;
    let before = resident(server);
    let sessions = open(way, SESSIONS).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = resident(server);
    drop((warm, sessions));
    (after - before) / SESSIONS as f64
}

fn resident(server: &Ended) -> f64 {
    resident_kb(server.0.id()).expect("it runs") as f64
}

/// KB of resident memory with all sessions, each time that they have come.
async fn come_and_go(server: &Ended, way: &Way) -> Vec<f64> {
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let sessions = open(way, SESSIONS).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        turns.push(resident(server));
        drop(sessions);
    }
    turns
}

async fn open(way: &Way, count: usize) -> Vec<Box<dyn Connection>> {
    let handshakes = (0..count).map(|number| async move {
        let socket = TcpStream::connect(way.address).await.expect("a socket");
        let mut socket: Box<dyn Connection> = match &way.tls {
            None => Box::new(socket),
            Some(tls) => {
                let name = "localhost".try_into().expect("a name");
                Box::new(tls.connect(name, socket).await.expect("a TLS handshake"))
            }
        };
        let request = format!(
            "GET /api/partner/ws/partner/{} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            number % STORES,
            way.token,
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

/// The program with a certificate of its own, and who trusts it.
async fn serve_secure(shop: &Shop) -> (Ended, SocketAddr, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let directory = tempfile::tempdir().expect("a directory").keep();
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let certificate = format!("tls.certificate={}", certificate.display());
    let key = format!("tls.key={}", key.display());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = TlsConnector::from(Arc::new(config));
    let (engine, address) = start(shop, &["--set", &certificate, "--set", &key]);
    while !ready(address, &tls).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::fs::remove_dir_all(directory).expect("it was ours");
    (engine, address, tls)
}

async fn ready(address: SocketAddr, tls: &TlsConnector) -> bool {
    let Ok(socket) = TcpStream::connect(address).await else {
        return false;
    };
    let name = "localhost".try_into().expect("a name");
    let Ok(mut socket) = tls.connect(name, socket).await else {
        return false;
    };
    let (request, mut answer) = (b"GET /readyz HTTP/1.1\r\nHost: bench\r\n\r\n", [0; 1024]);
    let asked = socket.write_all(request).await.is_ok();
    let read = socket.read(&mut answer).await.unwrap_or(0);
    asked && String::from_utf8_lossy(&answer[..read]).contains("200 OK")
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
