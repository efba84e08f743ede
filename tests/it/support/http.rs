//! HTTP requests of any method, and responses with their status and headers.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::app::{App, PATIENCE};

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The names and values of the headers. The names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads a response from the socket until the server closes it.
    pub async fn read(mut socket: TcpStream) -> Self {
        let mut raw = Vec::new();
        let read = timeout(PATIENCE, socket.read_to_end(&mut raw)).await;
        read.expect("an answer").unwrap();
        answer(&raw)
    }

    /// The value of the header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The field `error.code` of the body.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().expect("an error").to_owned()
    }
}

impl App {
    /// Sends a request with these headers and the default headers (`Host`, `Connection`), and returns the response.
    pub async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        call(self.engine.address(), method, path, headers, body).await
    }

    /// Sends a POST of JSON with the app's token.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(&self.token, path, body).await
    }

    /// Sends a POST of JSON with another token.
    pub async fn post_as(&self, token: &str, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        self.call("POST", path, &headers, Some(&body.to_string())).await
    }

    /// Sends a GET with the app's token, and returns the response, whatever its status is.
    pub async fn ask(&self, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        self.call("GET", path, &[("Authorization", &bearer)], None).await
    }
}

/// Sends a request to a server, and returns the response.
pub async fn call(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Answer {
    Answer::read(begin(server, method, path, headers, body).await).await
}

/// Sends a GET, reads only the head of the response, and returns it with the open socket.
pub async fn head(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (Answer, TcpStream) {
    let mut socket = begin(server, "GET", path, headers, None).await;
    let mut raw = Vec::new();
    while !raw.ends_with(b"\r\n\r\n") {
        raw.push(socket.read_u8().await.unwrap());
    }
    (answer(&raw), socket)
}

/// Sends a request, and returns the socket before the response is read.
pub async fn begin(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> TcpStream {
    let given = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in [("Connection", "close"), ("Host", "test")] {
        if !given(name) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(body.unwrap_or_default());
    let mut socket = TcpStream::connect(server).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

/// Parses the bytes of a response.
pub fn answer(raw: &[u8]) -> Answer {
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = std::str::from_utf8(&raw[..end]).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Answer {
        status,
        headers: lines.map(header).collect(),
        body: raw[end + 4..].to_vec(),
    }
}
