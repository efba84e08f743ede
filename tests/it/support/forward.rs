//! An HTTP or SOCKS5 forward proxy with a password, between a node and Telegram. The proxy connects every host name to
//! the test's Bot API. If a request to a host that does not exist succeeds, the node has used the proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// The credentials that the proxy accepts: `USER` is `user:password`, and `BASIC` is the header value with `USER` in
/// base64.
pub const USER: &str = "cook:secret";
const BASIC: &str = "Basic Y29vazpzZWNyZXQ=";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Http,
    Socks,
}

/// A running proxy.
pub struct Forward {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    /// Starts a proxy that connects every host name to `target`, and records the host names. The proxy answers an HTTP
    /// CONNECT with 502, and only records its host name.
    pub async fn start(kind: Kind, target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let _ = match kind {
                        Kind::Http => http(socket, target, &noted).await,
                        Kind::Socks => socks(socket, target, &noted).await,
                    };
                });
            }
        });
        Self { address, asked }
    }

    /// The host names that clients have requested.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn http(mut client: TcpStream, target: SocketAddr, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut read = Vec::new();
    while !read.windows(4).any(|four| four == b"\r\n\r\n") {
        if client.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&read).into_owned();
    let to = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let is_let_in = head
        .lines()
        .any(|line| line.to_ascii_lowercase().starts_with("proxy-authorization") && line.ends_with(BASIC));
    if !is_let_in {
        return client.write_all(b"HTTP/1.1 407 x\r\ncontent-length: 0\r\n\r\n").await;
    }
    let host = to
        .trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    asked.lock().unwrap().push(host);
    if head.starts_with("CONNECT ") {
        return client.write_all(b"HTTP/1.1 502 x\r\ncontent-length: 0\r\n\r\n").await;
    }
    let mut server = TcpStream::connect(target).await?;
    server.write_all(&read).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

async fn socks(mut client: TcpStream, target: SocketAddr, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    // The client sends its version and its methods. The proxy chooses the method with user and password.
    let (_, methods) = (client.read_u8().await?, client.read_u8().await?);
    client.read_exact(&mut vec![0; methods.into()]).await?;
    client.write_all(&[5, 2]).await?;
    client.read_u8().await?;
    let user = text(&mut client).await?;
    let password = text(&mut client).await?;
    if format!("{user}:{password}") != USER {
        return client.write_all(&[1, 1]).await;
    }
    client.write_all(&[1, 0]).await?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let host = match request[3] {
        3 => text(&mut client).await?,
        length => {
            let mut address = vec![0; if length == 1 { 4 } else { 16 }];
            client.read_exact(&mut address).await?;
            format!("{address:?}")
        }
    };
    let port = client.read_u16().await?;
    asked.lock().unwrap().push(format!("{host}:{port}"));
    let mut server = TcpStream::connect(target).await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Reads a text. The byte before the text is the text's length in bytes.
async fn text(client: &mut TcpStream) -> std::io::Result<String> {
    let mut text = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
