//! A client of Server-Sent Events.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::app::{App, PATIENCE};

/// One open stream, and the text that was received from it.
pub struct Sse {
    socket: TcpStream,
    text: String,
}

impl Sse {
    /// Opens the stream at a path with the app's token. `last` is the cursor in the header `Last-Event-ID`.
    pub async fn open(app: &App, path: &str, last: Option<&str>) -> Self {
        let mut socket = TcpStream::connect(app.engine.address()).await.unwrap();
        let last = last
            .map(|last| format!("Last-Event-ID: {last}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{last}\r\n",
            app.token
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut sse = Self {
            socket,
            text: String::new(),
        };
        let head = sse.until("\r\n\r\n").await;
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"),
            "{head}"
        );
        sse
    }

    pub async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return std::mem::replace(&mut self.text, rest);
            }
            let mut buffer = [0; 4096];
            let read = timeout(PATIENCE, self.socket.read(&mut buffer))
                .await
                .expect("in time")
                .unwrap();
            assert!(read > 0, "the stream ended");
            self.text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }

    /// The id and the data of the next message.
    pub async fn message(&mut self) -> (Option<String>, serde_json::Value) {
        let message = self.until("\n\n").await;
        let line = |name: &str| {
            message
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::to_owned)
        };
        (line("id: "), serde_json::from_str(&line("data: ").unwrap()).unwrap())
    }
}
