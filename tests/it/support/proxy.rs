//! A proxy in front of Postgres or of the engine. The proxy can stop passing data without closing connections, as a
//! network does when a cable is pulled.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::app::PATIENCE;
use super::db::Database;

/// A running proxy.
pub struct Proxy {
    /// The address at which the proxy listens.
    pub address: SocketAddr,
    /// The generation of new connections. [`Proxy::stall`] increments this number, and connections of earlier
    /// generations pass no data.
    generation: watch::Sender<u64>,
    /// While this is true, new connections are accepted but pass no data.
    cut: watch::Sender<bool>,
    /// The proxy closes connections whose generation is lower than this number.
    closed: watch::Sender<u64>,
    trap: Arc<Trap>,
    hold: Arc<Hold>,
}

/// One response of the server that the proxy holds back. On one connection, the client sends a message with the first
/// text, and later a message with the second text. The proxy holds back the response to the later message.
struct Hold {
    words: Mutex<Option<(&'static str, &'static str)>>,
    held: tokio::sync::Notify,
    released: watch::Sender<bool>,
}

/// Whether the client of one connection has sent the first and the second text of the [`Hold`].
#[derive(Default)]
struct Said {
    first: AtomicBool,
    then: AtomicBool,
}

impl Hold {
    /// Records in `said` what the client has sent: the first text of `self.words`, or the second text after the first
    /// one.
    fn hear(&self, said: &Said, message: &[u8]) {
        let mut words = self.words.lock().unwrap();
        let Some((first, then)) = *words else { return };
        if contains(message, first) {
            said.first.store(true, Ordering::SeqCst);
        } else if said.first.load(Ordering::SeqCst) && contains(message, then) {
            said.then.store(true, Ordering::SeqCst);
            *words = None;
        }
    }

    /// If the next response must be held back, waits until the test releases it.
    async fn wait(&self, said: &Said) {
        if said.then.swap(false, Ordering::SeqCst) {
            self.held.notify_one();
            let _ = self.released.subscribe().wait_for(|released| *released).await;
        }
    }
}

fn contains(message: &[u8], words: &str) -> bool {
    message.windows(words.len()).any(|window| window == words.as_bytes())
}

/// A text that a client will send. The first connection whose client sends this text stops passing data.
#[derive(Default)]
struct Trap {
    words: Mutex<Option<&'static str>>,
    sprung: tokio::sync::Notify,
}

impl Trap {
    fn catches(&self, message: &[u8]) -> bool {
        let mut words = self.words.lock().unwrap();
        let caught = words.is_some_and(|words| contains(message, words));
        if caught {
            *words = None;
            self.sprung.notify_one();
        }
        caught
    }
}

impl Proxy {
    /// Starts a proxy in front of the Postgres that has this database. Returns the proxy, and the database's URL
    /// through the proxy.
    pub async fn before(database: &Database) -> (Self, String) {
        let (_, host) = database.url().split_once('@').unwrap();
        let (host, name) = host.split_once('/').unwrap();
        let proxy = Self::to(host.parse().unwrap()).await;
        let url = format!("postgres://postgres@{}/{name}", proxy.address);
        (proxy, url)
    }

    /// Starts a proxy that connects to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), target).await
    }

    /// Starts a proxy that listens at `address` and connects to `target`.
    pub async fn at(address: SocketAddr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (generation, current) = watch::channel(0);
        let (cut, mut is_cut) = watch::channel(false);
        let (closed, closing) = watch::channel(0);
        let trap = Arc::new(Trap::default());
        let hold = Arc::new(Hold {
            words: Mutex::new(None),
            held: tokio::sync::Notify::new(),
            released: watch::channel(false).0,
        });
        let (set, holding) = (Arc::clone(&trap), Arc::clone(&hold));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *is_cut.borrow_and_update() {
                    let mut is_cut = is_cut.clone();
                    // Keep the connection open without passing data until the test calls [`Proxy::mend`].
                    tokio::spawn(async move {
                        let _ = is_cut.wait_for(|cut| !cut).await;
                        drop(client);
                    });
                    continue;
                }
                // Where the target does not listen, the client's connection is closed at once.
                let Ok(server) = TcpStream::connect(target).await else {
                    continue;
                };
                let born = *current.borrow();
                let ((from_client, to_client), (from_server, to_server_half)) =
                    (client.into_split(), server.into_split());
                let to_server = Wire {
                    current: current.clone(),
                    closing: closing.clone(),
                    born,
                    trap: Some(Arc::clone(&set)),
                    hold: Arc::clone(&holding),
                    said: Arc::new(Said::default()),
                };
                let to_client_wire = Wire {
                    trap: None,
                    ..to_server.clone()
                };
                tokio::spawn(pass(from_client, to_server_half, to_server));
                tokio::spawn(pass(from_server, to_client, to_client_wire));
            }
        });
        Self {
            address,
            generation,
            cut,
            closed,
            trap,
            hold,
        }
    }

    /// Makes all open connections stop passing data, without closing them.
    pub fn stall(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Makes all open and all new connections stop passing data, without closing them.
    pub fn cut(&self) {
        self.cut.send_replace(true);
        self.stall();
    }

    /// Lets new connections pass data again. Connections that were open during the cut still pass no data.
    pub fn mend(&self) {
        self.cut.send_replace(false);
    }

    /// Closes the connections that [`Proxy::stall`] or [`Proxy::cut`] has stopped. Without this call, these connections
    /// stay open.
    pub fn close_stalled(&self) {
        self.closed.send_replace(*self.generation.borrow());
    }

    /// Makes the next connection whose client sends this text stop passing data. The connection stays open.
    pub fn silence_next(&self, words: &'static str) {
        *self.trap.words.lock().unwrap() = Some(words);
    }

    /// Holds back one response: the response to `then`, on a connection whose client has sent `first` after this call.
    pub fn hold_next(&self, first: &'static str, then: &'static str) {
        *self.hold.words.lock().unwrap() = Some((first, then));
    }

    /// Waits until the proxy holds a response back. The server has then executed the request.
    pub async fn until_held(&self) {
        timeout(PATIENCE, self.hold.held.notified())
            .await
            .expect("an answer to keep back");
    }

    /// Releases the response that is held back.
    pub fn let_go(&self) {
        self.hold.released.send_replace(true);
    }

    /// Waits until a client has sent the text of [`Proxy::silence_next`].
    pub async fn until_silenced(&self) {
        timeout(PATIENCE, self.trap.sprung.notified())
            .await
            .expect("a client sends the words");
    }
}

/// One direction of a connection.
#[derive(Clone)]
struct Wire {
    current: watch::Receiver<u64>,
    closing: watch::Receiver<u64>,
    born: u64,
    /// `None` for the direction from the server to the client.
    trap: Option<Arc<Trap>>,
    hold: Arc<Hold>,
    said: Arc<Said>,
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: Wire) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            () = stalled(&mut wire.current, wire.born) => break,
            read = from.read(&mut buffer) => read,
        };
        let Ok(read @ 1..) = read else { return };
        match &wire.trap {
            Some(trap) if trap.catches(&buffer[..read]) => break,
            Some(_) => wire.hold.hear(&wire.said, &buffer[..read]),
            None => wire.hold.wait(&wire.said).await,
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    // Keep both sockets open without passing data until the test closes them, or until the proxy is dropped.
    let _ = wire.closing.wait_for(|closed| *closed > wire.born).await;
    drop((from, to));
}

async fn stalled(current: &mut watch::Receiver<u64>, born: u64) {
    let _ = current.wait_for(|generation| *generation != born).await;
}
