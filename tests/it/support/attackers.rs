//! Clients that misuse a server, as an attacker or a defective program does. Each client repeats its attack until
//! [`Attackers`] is dropped. A client that the server disconnects connects again after a pause.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// The behaviour of the clients in one attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Each client opens a socket and sends nothing.
    SayNothing,
    /// Each client speaks HTTP/2, and opens as many streams as the server allows.
    SpeakHttp2,
    /// Each client sends the head of a request at one byte per second.
    DripHeads,
    /// Each client has a valid token, and sends the body of a request at one byte per second.
    DripBodies,
    /// Each client sends one request after the other, and reads no response.
    ReadNothing,
    /// 200 clients together send `count` requests per second (see [`Attackers::begin`]). Each request has an invalid
    /// token.
    TryTokens,
    /// Each client has a valid token, and sends empty pings without a pause.
    FloodPings,
}

/// The pause before a disconnected client connects again. Without this pause, the clients would use all the CPU time of
/// the machine, and the server would get too little.
const PAUSE: Duration = Duration::from_secs(5);
/// The number of clients of [`Attack::TryTokens`].
const TRYING: usize = 200;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// An HTTP/2 HEADERS frame of stream 1 with the request `GET / http`, encoded with HPACK's static table.
const HEADERS: [u8; 12] = [0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84];
/// An empty ping frame with its mask.
const PING: [u8; 6] = [0x89, 0x80, 0, 0, 0, 0];

/// The running clients of one attack. Dropping this value ends the clients.
pub struct Attackers {
    _tasks: JoinSet<()>,
}

impl Attackers {
    /// Starts `count` clients. For [`Attack::TryTokens`], `count` is the number of requests per second. Attacks that
    /// need a valid token use `token`.
    pub fn begin(attack: Attack, server: SocketAddr, token: &str, count: usize) -> Self {
        let mut tasks = JoinSet::new();
        let (clients, each_per_second) = match attack {
            Attack::TryTokens => (TRYING, count as f64 / TRYING as f64),
            _ => (count, 1.0),
        };
        let token: Arc<str> = token.into();
        for number in 0..clients {
            let token = Arc::clone(&token);
            tasks.spawn(async move {
                loop {
                    // If the server disconnects the client, the client starts the attack again.
                    let _ = once(attack, server, &token, number, each_per_second).await;
                    sleep(PAUSE).await;
                }
            });
        }
        Self { _tasks: tasks }
    }
}

async fn once(attack: Attack, server: SocketAddr, token: &str, number: usize, per_second: f64) -> std::io::Result<()> {
    let mut socket = TcpStream::connect(server).await?;
    let authorized = format!("Host: x\r\nAuthorization: Bearer {token}\r\n");
    match attack {
        Attack::SayNothing => until_closed(&mut socket).await,
        Attack::SpeakHttp2 => {
            socket.write_all(PREFACE).await?;
            for stream in 0..200_u32 {
                let mut headers = HEADERS;
                headers[5..9].copy_from_slice(&(2 * stream + 1).to_be_bytes());
                socket.write_all(&headers).await?;
            }
            until_closed(&mut socket).await
        }
        Attack::DripHeads => drip(&mut socket, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await,
        Attack::DripBodies => {
            let head =
                format!("POST /api/partner/stores/7/receipts HTTP/1.1\r\n{authorized}Content-Length: 4000\r\n\r\n");
            drip(&mut socket, &head).await
        }
        Attack::ReadNothing => {
            let requests = b"GET /panel/panel.css HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
            loop {
                socket.write_all(&requests).await?;
            }
        }
        Attack::TryTokens => {
            let mut ticks = interval(Duration::from_secs_f64(1.0 / per_second));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let mut answer = [0; 4096];
            for attempt in 0_u64.. {
                ticks.tick().await;
                let made_up = format!("vst_{number:021}{attempt:021}A");
                let request = format!(
                    "GET /api/partner/session/7 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {made_up}\r\n\r\n"
                );
                socket.write_all(request.as_bytes()).await?;
                if socket.read(&mut answer).await? == 0 {
                    break;
                }
            }
            Ok(())
        }
        Attack::FloodPings => {
            let upgrade = format!(
                "GET /api/partner/ws/partner/7 HTTP/1.1\r\n{authorized}Connection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            );
            socket.write_all(upgrade.as_bytes()).await?;
            let flood = PING.repeat(1000);
            let (mut reading, mut writing) = socket.split();
            let flooding = async {
                loop {
                    writing.write_all(&flood).await?;
                }
            };
            tokio::select! {
                flooded = flooding => flooded,
                closed = until_ended(&mut reading) => closed,
            }
        }
    }
}

async fn until_closed(socket: &mut TcpStream) -> std::io::Result<()> {
    until_ended(socket).await
}

async fn until_ended(reading: &mut (impl tokio::io::AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut came = [0; 4096];
    while reading.read(&mut came).await? > 0 {}
    Ok(())
}

async fn drip(socket: &mut TcpStream, beginning: &str) -> std::io::Result<()> {
    socket.write_all(beginning.as_bytes()).await?;
    loop {
        sleep(Duration::from_secs(1)).await;
        socket.write_all(b"x").await?;
    }
}
