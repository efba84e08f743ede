//! A proxy, between the engine and Postgres or a client, that can fall silent without closing, as a cable does that is pulled.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::app::PATIENCE;

/// A running proxy.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections of an earlier generation pass nothing on any more.
    generation: watch::Sender<u64>,
    /// While it is cut, nobody gets through.
    cut: watch::Sender<bool>,
    trap: Arc<Trap>,
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
        let caught = words.is_some_and(|words| message.windows(words.len()).any(|window| window == words.as_bytes()));
        if caught {
            *words = None;
            self.sprung.notify_one();
        }
        caught
    }
}

impl Proxy {
    /// Passes everything on to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (generation, current) = watch::channel(0);
        let (cut, mut is_cut) = watch::channel(false);
        let trap = Arc::new(Trap::default());
        let set = Arc::clone(&trap);
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
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(
                    from_client,
                    to_server,
                    current.clone(),
                    born,
                    Some(Arc::clone(&set)),
                ));
                tokio::spawn(pass(from_server, to_client, current.clone(), born, None));
            }
        });
        Self {
            address,
            generation,
            cut,
            trap,
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

    /// Waits until that has happened.
    pub async fn until_silenced(&self) {
        timeout(PATIENCE, self.trap.sprung.notified())
            .await
            .expect("somebody says the words");
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut current: watch::Receiver<u64>,
    born: u64,
    trap: Option<Arc<Trap>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            () = stalled(&mut current, born) => break,
            read = from.read(&mut buffer) => read,
        };
        match read {
            Ok(read) if trap.as_ref().is_some_and(|trap| trap.catches(&buffer[..read])) => break,
            Ok(read) if read > 0 && to.write_all(&buffer[..read]).await.is_ok() => {}
            _ => return,
        }
    }
    // Silent, but open, until the proxy itself is gone.
    let _ = current.wait_for(|_| false).await;
    drop((from, to));
}

async fn stalled(current: &mut watch::Receiver<u64>, born: u64) {
    let _ = current.wait_for(|generation| *generation != born).await;
}
