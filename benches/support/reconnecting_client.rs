//! A panel that stays, goes when it is told to, and comes back with its newest cursor. It answers pings, and counts
//! what it hears: each event once, however often it comes.

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

/// Bytes of a message in which its cursor stands.
const KEPT_BYTES: usize = 1024;
/// Events by which one that comes again is known.
const KNOWN_EVENTS: usize = 256;
/// Before it tries again where it was not let in.
const PAUSE: Duration = Duration::from_millis(100);
/// A client's frames are masked; this key leaves them as they are.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
const GOODBYE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
/// It is a page, with its sound on.
const PANEL: &[u8] = br#"{"type":"panel","rings":true}"#;

/// What all of some visitors have seen.
#[derive(Default)]
pub struct Tally {
    /// Different events.
    pub heard: AtomicU64,
    /// All that came, repeats among them.
    pub events: AtomicU64,
    /// Times that one came in.
    pub visits: AtomicU64,
    /// How many are live now.
    pub live: AtomicU64,
    /// Times that one was let go, and had not wanted to.
    pub cut_off: AtomicU64,
}

/// What it does when it is in.
#[derive(Clone, Copy)]
pub enum Manner {
    /// Listens.
    Silent,
    /// Says that it is a page that rings: what it is sent is proven.
    Rings,
}

/// A visitor, until it is dropped.
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
    /// Comes, and comes back.
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

    /// Comes once, until it is let go.
    pub fn guest(way: &Arc<Way>, store: usize, token: &str, tally: &Arc<Tally>) -> Self {
        let leave = Arc::new(Notify::new());
        let mut visits = Visits::new(way, store, token, Manner::Silent, tally, &leave);
        let task = tokio::spawn(async move {
            // Over TLS a socket that is closed without a word is an error.
            let gone = visits.visit().await;
            assert!(!matches!(gone, Ok(Gone::Left)), "nobody tells it to go");
            visits.tally.cut_off.fetch_add(1, Ordering::Relaxed);
        });
        Self { leave, task }
    }

    /// Tells it to go, and to come back.
    pub fn leave(&self) {
        self.leave.notify_one();
    }
}

/// How a visit ended.
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

/// Counted as live while this lives.
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
                    // Some say goodbye, and some are just gone.
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

/// Reads the answer's head; what came behind it. `None`: it was not let in.
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

/// The text of a field of a message that has been read as far as there.
fn field<'a>(begun: &'a [u8], name: &str) -> Option<&'a str> {
    let name = format!("\"{name}\":\"");
    let from = begun.windows(name.len()).position(|window| window == name.as_bytes())? + name.len();
    let length = begun[from..].iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&begun[from..from + length]).ok()
}
