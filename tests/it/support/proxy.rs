//! A proxy between the engine and Postgres that can fall silent without closing, as a cable does that is pulled.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A running proxy.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections of an earlier generation pass nothing on any more.
    generation: watch::Sender<u64>,
}

impl Proxy {
    /// Passes everything on to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (generation, current) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(target).await.unwrap();
                let born = *current.borrow();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, current.clone(), born));
                tokio::spawn(pass(from_server, to_client, current.clone(), born));
            }
        });
        Self { address, generation }
    }

    /// All connections that are open now are silent from here on, and stay open.
    pub fn stall(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut current: watch::Receiver<u64>, born: u64) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            () = stalled(&mut current, born) => break,
            read = from.read(&mut buffer) => read,
        };
        match read {
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
