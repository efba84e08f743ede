//! A receiver of a store's webhook: an HTTP server that records the requests, and gives the responses that the test has
//! set.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use vestnik::infra::db::Client;

use super::app::PATIENCE;

/// The receiver's response to one POST.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    Status(u16),
    /// A response with this status and this body.
    Says(u16, &'static str),
    /// A status with the header `Retry-After`.
    RetryAfter(u16, &'static str),
    /// No response is ever sent.
    Silence,
}

/// A POST that the receiver has recorded.
#[derive(Debug, Clone)]
pub struct Post {
    pub path: String,
    /// The header `webhook-id`. The next two fields are the headers `webhook-timestamp` and `webhook-signature`.
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub body: String,
}

/// A running receiver.
pub struct Hook {
    address: SocketAddr,
    posts: watch::Receiver<Vec<Post>>,
}

impl Hook {
    /// Starts a receiver that gives these responses in order. Later requests get 204.
    pub async fn start(answers: &[Answer]) -> Self {
        Self::begin(answers, None).await
    }

    /// Starts a receiver that acts as a shop's API: it executes `sql` before each response with a status of success
    /// (2xx).
    pub async fn that_writes(answers: &[Answer], client: Client, sql: &str) -> Self {
        Self::begin(answers, Some(Arc::new((client, sql.to_owned())))).await
    }

    async fn begin(answers: &[Answer], writes: Option<Arc<(Client, String)>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(answers.iter().copied().rev().collect::<Vec<_>>()));
        let (came, posts) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (answers, came, writes) = (Arc::clone(&answers), came.clone(), writes.clone());
                tokio::spawn(async move { take(socket, &answers, &came, writes.as_deref()).await });
            }
        });
        Self { address, posts }
    }

    /// The receiver's address, for the webhook column of `vestnik.vst_store`.
    pub fn url(&self) -> String {
        format!("http://{}/hook?shop=7", self.address)
    }

    /// Waits until `count` POSTs have arrived, and returns all of them.
    pub async fn until(&mut self, count: usize) -> Vec<Post> {
        let waited = timeout(PATIENCE, self.posts.wait_for(|posts| posts.len() >= count));
        waited.await.expect("a post in time").unwrap().clone()
    }

    /// The POSTs that have arrived.
    pub fn posts(&self) -> Vec<Post> {
        self.posts.borrow().clone()
    }
}

async fn take(
    mut socket: TcpStream,
    answers: &Mutex<Vec<Answer>>,
    came: &watch::Sender<Vec<Post>>,
    writes: Option<&(Client, String)>,
) {
    let mut read = Vec::new();
    let (head, length) = loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let head = head.to_owned();
            let length: usize = header(&head, "content-length").parse().unwrap();
            if read.len() >= head.len() + 4 + length {
                break (head, length);
            }
        }
        if socket.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let body = String::from_utf8(read[head.len() + 4..head.len() + 4 + length].to_vec()).unwrap();
    let post = Post {
        path: head.split(' ').nth(1).unwrap().to_owned(),
        id: header(&head, "webhook-id"),
        timestamp: header(&head, "webhook-timestamp"),
        signature: header(&head, "webhook-signature"),
        body,
    };
    let answer = answers.lock().unwrap().pop().unwrap_or(Answer::Status(204));
    came.send_modify(|posts| posts.push(post));
    let (status, headers, body) = match answer {
        Answer::Status(status) => (status, String::new(), ""),
        Answer::Says(status, body) => (status, String::new(), body),
        Answer::RetryAfter(status, pause) => (status, format!("retry-after: {pause}\r\n"), ""),
        Answer::Silence => std::future::pending().await,
    };
    if let Some((client, sql)) = writes.filter(|_| status < 300) {
        client.batch_execute(sql).await.unwrap();
    }
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let _ = socket.write_all(answer.as_bytes()).await;
}

fn header(head: &str, name: &str) -> String {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}
