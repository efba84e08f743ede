//! A client that reconnects with its newest cursor after each disconnection. The client answers pings, and counts the
//! events that it receives. A repeated event counts once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::scan::{Kind, Scanner};
use crate::secure::{Connection, Way};
use crate::upgrade::upgrade;

/// The number of bytes that the client keeps of the beginning of a message. These bytes contain the cursor.
const KEPT_BYTES: usize = 1024;
/// The client keeps this many newest event ids, to recognize a repeated event.
const KNOWN_EVENTS: usize = 256;
/// The wait before the next connection after the server refused or closed one.
const PAUSE: Duration = Duration::from_millis(100);
/// `PONG` is an empty pong frame; `GOODBYE` is a close frame with the code 1000. WebSocket clients must mask their
/// frames. The mask here has only zeros, so it does not change the bytes.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
const GOODBYE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
/// The message with which a panel reports that it can ring.
const PANEL: &[u8] = br#"{"type":"panel","rings":true}"#;

/// Counters that several clients share.
#[derive(Default)]
pub struct Tally {
    /// The number of received events. A repeated event counts once.
    pub heard: AtomicU64,
    /// The number of received events. A repeated event counts each time.
    pub events: AtomicU64,
    /// The number of connections that the server accepted.
    pub visits: AtomicU64,
    /// The number of clients that have finished the replay, and receive new events now.
    pub live: AtomicU64,
    /// The number of connections that the server closed or refused.
    pub cut_off: AtomicU64,
}

/// Whether a client reports, after it has connected, that it can ring.
#[derive(Clone, Copy)]
pub enum Manner {
    /// The client sends nothing.
    Silent,
    /// The client sends the message `PANEL`, so the server records receipts for this client.
    Rings,
}

/// A running client. Dropping the value ends the client.
pub struct Visitor {
    leave: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Visitor {
    /// Starts a client that connects again after each disconnection.
    pub fn regular(way: &Arc<Way>, store: usize, token: &str, manner: Manner, tally: &Arc<Tally>) -> Self {
        let leave = Arc::new(Notify::new());
        let mut visits = Visits::new(way, store, token, manner, tally, &leave);
        let task = tokio::spawn(async move {
            loop {
                match visits.visit().await {
                    Ok(Gone::Left) => {}
                    Ok(Gone::LetGo) | Err(_) => {
                        visits.tally.cut_off.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
        Self { leave, task }
    }

    /// Starts a client that connects once, and ends when the server closes the connection.
    pub fn guest(way: &Arc<Way>, store: usize, token: &str, tally: &Arc<Tally>) -> Self {
        let leave = Arc::new(Notify::new());
        let mut visits = Visits::new(way, store, token, Manner::Silent, tally, &leave);
        let task = tokio::spawn(async move {
            // The result may be an error: a TLS connection gives an error if the server closes it without a close
            // message.
            let gone = visits.visit().await;
            assert!(!matches!(gone, Ok(Gone::Left)), "a guest is not told to leave");
            visits.tally.cut_off.fetch_add(1, Ordering::Relaxed);
        });
        Self { leave, task }
    }

    /// Makes the client disconnect, and connect again.
    pub fn leave(&self) {
        self.leave.notify_one();
    }
}

/// Who ended a connection: the client (`Left`), or the server (`LetGo`).
enum Gone {
    Left,
    LetGo,
}

struct Visits {
    way: Arc<Way>,
    store: usize,
    token: String,
    manner: Manner,
    tally: Arc<Tally>,
    leave: Arc<Notify>,
    known: VecDeque<i64>,
    /// The beginning of the newest message that has a cursor.
    newest: Vec<u8>,
}

/// While this value exists, its client counts as live.
struct Live(Arc<Tally>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Visits {
    fn new(way: &Arc<Way>, store: usize, token: &str, manner: Manner, tally: &Arc<Tally>, leave: &Arc<Notify>) -> Self {
        Self {
            way: Arc::clone(way),
            store,
            token: token.to_owned(),
            manner,
            tally: Arc::clone(tally),
            leave: Arc::clone(leave),
            known: VecDeque::new(),
            newest: Vec::new(),
        }
    }

    async fn visit(&mut self) -> std::io::Result<Gone> {
        let mut socket = self.way.connect().await?;
        let after = field(&self.newest, "cursor").map(|cursor| format!("?after={cursor}"));
        let request = upgrade(self.store, &self.token, &after.unwrap_or_default());
        socket.write_all(request.as_bytes()).await?;
        let mut buffer = [0; 4096];
        let Some(early) = upgraded(&mut socket, &mut buffer).await? else {
            return Ok(Gone::LetGo);
        };
        self.tally.visits.fetch_add(1, Ordering::Relaxed);
        if matches!(self.manner, Manner::Rings) {
            let head = [0x81, 0x80 | PANEL.len() as u8, 0, 0, 0, 0];
            socket.write_all(&[&head, PANEL].concat()).await?;
        }
        let (leave, mut live) = (Arc::clone(&self.leave), None);
        let mut scanner = Scanner::keeping(KEPT_BYTES);
        let mut bytes = early;
        loop {
            let (mut pings, mut over) = (0, false);
            scanner.scan(&bytes, |kind, begun| match kind {
                Kind::Ping => pings += 1,
                Kind::Goodbye => over = true,
                kind => self.hear(kind, begun, &mut live),
            });
            if over {
                return Ok(Gone::LetGo);
            }
            for _ in 0..pings {
                socket.write_all(&PONG).await?;
            }
            let read = tokio::select! {
                read = socket.read(&mut buffer) => read?,
                () = leave.notified() => {
                    // Half of the clients send a close frame. The others only close the socket.
                    if fastrand::bool() {
                        socket.write_all(&GOODBYE).await?;
                    }
                    return Ok(Gone::Left);
                }
            };
            if read == 0 {
                return Ok(Gone::LetGo);
            }
            bytes.clear();
            bytes.extend_from_slice(&buffer[..read]);
        }
    }

    fn hear(&mut self, kind: Kind, begun: &[u8], live: &mut Option<Live>) {
        match kind {
            Kind::Event => {
                self.tally.events.fetch_add(1, Ordering::Relaxed);
                let id = field(begun, "id").and_then(|id| id.parse().ok()).expect("its number");
                if !self.known.contains(&id) {
                    self.tally.heard.fetch_add(1, Ordering::Relaxed);
                    if self.known.len() == KNOWN_EVENTS {
                        self.known.pop_front();
                    }
                    self.known.push_back(id);
                }
            }
            Kind::Live => {
                self.tally.live.fetch_add(1, Ordering::Relaxed);
                *live = Some(Live(Arc::clone(&self.tally)));
            }
            Kind::Ping | Kind::Goodbye | Kind::Other => {}
        }
        if field(begun, "cursor").is_some() {
            self.newest.clear();
            self.newest.extend_from_slice(begun);
        }
    }
}

/// Reads the head of the response. Returns the bytes after the head. `None`: the server refused the upgrade.
async fn upgraded(socket: &mut Box<dyn Connection>, buffer: &mut [u8]) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    loop {
        let read = socket.read(buffer).await?;
        head.extend_from_slice(&buffer[..read]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            let early = head.split_off(end + 4);
            return Ok(head.starts_with(b"HTTP/1.1 101").then_some(early));
        }
        if read == 0 {
            return Ok(None);
        }
    }
}

/// The text of a field in the beginning of a message. `None`: the field is not in these bytes.
fn field<'a>(begun: &'a [u8], name: &str) -> Option<&'a str> {
    let name = format!("\"{name}\":\"");
    let from = begun.windows(name.len()).position(|window| window == name.as_bytes())? + name.len();
    let length = begun[from..].iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&begun[from..from + length]).ok()
}
