//! A client of Server-Sent Events.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::app::{App, PATIENCE};

/// One open stream, and the text that was received from it.
pub struct Sse {
    socket: TcpStream,
    /// Received bytes of an HTTP chunk (`Transfer-Encoding: chunked`) that is not complete yet.
    encoded: Vec<u8>,
    /// Bytes of the body that [`Sse::message`] has not returned.
    body: Vec<u8>,
}

impl Sse {
    /// Opens the stream at a path with the app's token. `last` is the cursor in the header `Last-Event-ID`.
    pub async fn open(app: &App, path: &str, last: Option<&str>) -> Self {
        let opened = Self::connect(app.engine.address(), path, last, &app.token).await;
        opened.expect("a stream")
    }

    /// Opens the stream at a path of a server. Returns an error if the server refuses the request.
    pub async fn connect(server: SocketAddr, path: &str, last: Option<&str>, token: &str) -> Result<Self> {
        let mut socket = TcpStream::connect(server).await?;
        let last = last
            .map(|last| format!("Last-Event-ID: {last}\r\n"))
            .unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{last}\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut sse = Self {
            socket,
            encoded: Vec::new(),
            body: Vec::new(),
        };
        let head = loop {
            if let Some(head) = take(&mut sse.encoded, b"\r\n\r\n") {
                break String::from_utf8(head).unwrap().to_lowercase();
            }
            sse.read().await?;
        };
        if !head.starts_with("http/1.1 200") {
            return Err(Error::other(head));
        }
        for expected in ["text/event-stream", "transfer-encoding: chunked"] {
            assert!(head.contains(expected), "{expected}: {head}");
        }
        Ok(sse)
    }

    /// The id and the data of the next message.
    pub async fn message(&mut self) -> (Option<String>, Value) {
        self.try_message().await.expect("the stream goes on")
    }

    /// The id and the data of the next message. Returns an error if the stream has ended.
    pub async fn try_message(&mut self) -> Result<(Option<String>, Value)> {
        let message = loop {
            self.decode();
            if let Some(message) = take(&mut self.body, b"\n\n") {
                break String::from_utf8(message).unwrap();
            }
            self.read().await?;
        };
        let line = |name: &str| {
            message
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::to_owned)
        };
        Ok((line("id: "), serde_json::from_str(&line("data: ").unwrap()).unwrap()))
    }

    async fn read(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        let read = timeout(PATIENCE, self.socket.read(&mut buffer))
            .await
            .expect("in time")?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.encoded.extend_from_slice(&buffer[..read]);
        Ok(())
    }

    /// Moves the content of all complete chunks to the body. A proxy may end a chunk anywhere, also within a message.
    fn decode(&mut self) {
        while let Some(at) = position(&self.encoded, b"\r\n") {
            let size = std::str::from_utf8(&self.encoded[..at]).unwrap();
            let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
            let (begin, end) = (at + 2, at + 2 + size);
            if self.encoded.len() < end + 2 {
                return;
            }
            self.body.extend_from_slice(&self.encoded[begin..end]);
            self.encoded.drain(..end + 2);
        }
    }
}

/// Removes everything up to and including `end` from the buffer, and returns it.
fn take(buffer: &mut Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    let at = position(buffer, end)? + end.len();
    Some(buffer.drain(..at).collect())
}

fn position(buffer: &[u8], words: &[u8]) -> Option<usize> {
    buffer.windows(words.len()).position(|window| window == words)
}
