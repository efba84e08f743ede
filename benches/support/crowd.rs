//! Many clients in a process of their own, which do as little as can be: they skip through frames and count.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::child::Child;

/// Bytes of a message by which it is known: `{"type":"new_`.
const HEAD_BYTES: usize = 13;

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An event.
    Event,
    /// The replay is over.
    Live,
    /// Another one.
    Other,
}

/// Skips through the frames of one socket.
#[derive(Default)]
pub struct Scanner {
    head: Vec<u8>,
    left: usize,
    begun: Vec<u8>,
}

impl Scanner {
    /// Each message, where it ends.
    pub fn scan(&mut self, mut bytes: &[u8], mut each: impl FnMut(Kind)) {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
                let Some(length) = payload(&self.head) else { continue };
                self.left = length;
                self.head.clear();
                self.begun.clear();
                continue;
            }
            let take = self.left.min(bytes.len());
            let wanted = HEAD_BYTES.saturating_sub(self.begun.len()).min(take);
            self.begun.extend_from_slice(&bytes[..wanted]);
            self.left -= take;
            bytes = &bytes[take..];
            if self.left == 0 {
                each(match &self.begun[..] {
                    br#"{"type":"new_"# => Kind::Event,
                    br#"{"type":"live"# => Kind::Live,
                    _ => Kind::Other,
                });
            }
        }
    }
}

fn payload(head: &[u8]) -> Option<usize> {
    match (head.get(1)?, head.len()) {
        (126, 4) => Some(u16::from_be_bytes([head[2], head[3]]).into()),
        (127, 10) => Some(u64::from_be_bytes(head[2..10].try_into().ok()?) as usize),
        (length, 2) if *length < 126 => Some((*length).into()),
        _ => None,
    }
}

/// Opens a socket and asks for the upgrade; what comes behind the answer's head stays for the reader.
pub async fn open(address: SocketAddr, store: usize, token: &str, after: &str) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let request = format!(
        "GET /api/partner/ws/partner/{store}{after} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    Ok(socket)
}

/// Reads the answer's head, and then messages until the end. Whether it was an upgrade.
pub async fn listen(socket: &TcpStream, mut each: impl FnMut(Kind)) -> bool {
    let (mut head, mut scanner, mut upgraded) = (Vec::new(), Scanner::default(), false);
    // Shared by all, for nothing stays in it.
    thread_local!(static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 256 * 1024]));
    while socket.readable().await.is_ok() {
        let ended = BUFFER.with_borrow_mut(|buffer| match socket.try_read(buffer) {
            Ok(0) => true,
            Ok(read) if upgraded => {
                scanner.scan(&buffer[..read], &mut each);
                false
            }
            Ok(read) => {
                head.extend_from_slice(&buffer[..read]);
                let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
                    return false;
                };
                upgraded = head.starts_with(b"HTTP/1.1 101");
                scanner.scan(&head.split_off(end + 4), &mut each);
                !upgraded
            }
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        });
        if ended {
            break;
        }
    }
    upgraded
}

/// As many sockets as the system gives.
pub fn allow_many_sockets() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("enough files");
}

/// A running process of this program, told what to do by its arguments.
pub fn start(arguments: &[&str]) -> Child {
    let this = std::env::current_exe().expect("this program");
    Child::new(
        Command::new(this)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process"),
    )
}

/// Counts, and tells when a number is reached.
#[derive(Default)]
pub struct Count {
    now: AtomicU64,
    target: AtomicU64,
    reached: tokio::sync::Notify,
}

impl Count {
    /// One more.
    pub fn add(&self) {
        if self.now.fetch_add(1, Ordering::Relaxed) + 1 == self.target.load(Ordering::Relaxed) {
            self.reached.notify_one();
        }
    }

    /// Waits for so many more; call it before they can come.
    pub fn expect(self: &Arc<Self>, more: u64) -> impl Future<Output = ()> + use<> {
        self.now.store(0, Ordering::Relaxed);
        self.target.store(more, Ordering::Relaxed);
        let count = Arc::clone(self);
        async move { count.reached.notified().await }
    }
}
