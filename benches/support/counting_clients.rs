//! Many clients in a separate process. To use little CPU, the clients do not parse messages: they only find the
//! frames and count them.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::child::Child;
use crate::scan::{Kind, Scanner};
use crate::upgrade::upgrade;

/// Opens a socket, and sends the request that opens a WebSocket on it. The caller reads the response.
pub async fn open(address: SocketAddr, store: usize, token: &str, after: &str) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    socket.write_all(upgrade(store, token, after).as_bytes()).await?;
    Ok(socket)
}

/// Reads the response's head, and then messages until the socket ends. Calls `each` with the kind of each message.
/// Returns whether the server accepted the upgrade.
pub async fn listen(socket: &TcpStream, mut each: impl FnMut(Kind)) -> bool {
    let (mut head, mut scanner, mut upgraded) = (Vec::new(), Scanner::default(), false);
    // All clients share the buffer, because no data stays in it between two reads.
    thread_local!(static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 256 * 1024]));
    while socket.readable().await.is_ok() {
        let ended = BUFFER.with_borrow_mut(|buffer| match socket.try_read(buffer) {
            Ok(0) => true,
            Ok(read) if upgraded => {
                scanner.scan(&buffer[..read], |kind, _| each(kind));
                false
            }
            Ok(read) => {
                head.extend_from_slice(&buffer[..read]);
                let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
                    return false;
                };
                upgraded = head.starts_with(b"HTTP/1.1 101");
                scanner.scan(&head.split_off(end + 4), |kind, _| each(kind));
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

/// Starts this program again as a child process with these arguments.
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

/// A counter. A task can wait until it reaches a number, see [`Count::expect`].
#[derive(Default)]
pub struct Count {
    now: AtomicU64,
    target: AtomicU64,
    reached: tokio::sync::Notify,
}

impl Count {
    /// Adds one to the counter.
    pub fn add(&self) {
        if self.now.fetch_add(1, Ordering::Relaxed) + 1 == self.target.load(Ordering::Relaxed) {
            self.reached.notify_one();
        }
    }

    /// Sets the counter to zero. The returned future ends when the counter reaches `more`. Call this function before
    /// any client can add to the counter.
    pub fn expect(self: &Arc<Self>, more: u64) -> impl Future<Output = ()> + use<> {
        self.now.store(0, Ordering::Relaxed);
        self.target.store(more, Ordering::Relaxed);
        let count = Arc::clone(self);
        async move { count.reached.notified().await }
    }
}
