//! A proxy, between the engine and Postgres or a client, that can fall silent without closing, as a cable does that is
//! pulled.

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
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections of an earlier generation pass nothing on any more.
    generation: watch::Sender<u64>,
    /// While it is cut, nobody gets through.
    cut: watch::Sender<bool>,
    trap: Arc<Trap>,
    hold: Arc<Hold>,
}

/// Keeps one answer of the server back: that to `then`, of a client that has said `first`. Once.
struct Hold {
    words: Mutex<Option<(&'static str, &'static str)>>,
    held: tokio::sync::Notify,
    released: watch::Sender<bool>,
}

/// What a connection has come to, for the hold.
#[derive(Default)]
struct Said {
    first: AtomicBool,
    then: AtomicBool,
}

impl Hold {
    /// Hears what the client says.
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

    /// Waits with an answer that is held.
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

/// The words at which one connection falls silent, once.
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
    /// Passes everything on to the cluster of this database; its address through the proxy.
    pub async fn before(database: &Database) -> (Self, String) {
        let (_, host) = database.url().split_once('@').unwrap();
        let (host, name) = host.split_once('/').unwrap();
        let proxy = Self::to(host.parse().unwrap()).await;
        let url = format!("postgres://postgres@{}/{name}", proxy.address);
        (proxy, url)
    }

    /// Passes everything on to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (generation, current) = watch::channel(0);
        let (cut, mut is_cut) = watch::channel(false);
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
                    // Silent, but open, until the line is mended.
                    tokio::spawn(async move {
                        let _ = is_cut.wait_for(|cut| !cut).await;
                        drop(client);
                    });
                    continue;
                }
                let server = TcpStream::connect(target).await.unwrap();
                let born = *current.borrow();
                let ((from_client, to_client), (from_server, to_server_half)) =
                    (client.into_split(), server.into_split());
                let to_server = Wire {
                    current: current.clone(),
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
            trap,
            hold,
        }
    }

    /// All connections that are open now are silent from here on, and stay open.
    pub fn stall(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// The cable is pulled: what is open is silent, and nobody gets through any more.
    pub fn cut(&self) {
        self.cut.send_replace(true);
        self.stall();
    }

    /// The cable is put back. What was open before stays silent.
    pub fn mend(&self) {
        self.cut.send_replace(false);
    }

    /// The next connection whose client says these words is silent from there on, and stays open.
    pub fn silence_next(&self, words: &'static str) {
        *self.trap.words.lock().unwrap() = Some(words);
    }

    /// The next answer to `then`, of a client that has said `first` from now on, is kept back.
    pub fn hold_next(&self, first: &'static str, then: &'static str) {
        *self.hold.words.lock().unwrap() = Some((first, then));
    }

    /// Waits until an answer is kept back: the server has done what it was asked for.
    pub async fn until_held(&self) {
        timeout(PATIENCE, self.hold.held.notified())
            .await
            .expect("an answer to keep back");
    }

    /// Lets it go.
    pub fn let_go(&self) {
        self.hold.released.send_replace(true);
    }

    /// Waits until that has happened.
    pub async fn until_silenced(&self) {
        timeout(PATIENCE, self.trap.sprung.notified())
            .await
            .expect("somebody says the words");
    }
}

/// One direction of a connection.
#[derive(Clone)]
struct Wire {
    current: watch::Receiver<u64>,
    born: u64,
    /// From the client only.
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
    // Silent, but open, until the proxy itself is gone.
    let _ = wire.current.wait_for(|_| false).await;
    drop((from, to));
}

async fn stalled(current: &mut watch::Receiver<u64>, born: u64) {
    let _ = current.wait_for(|generation| *generation != born).await;
}
