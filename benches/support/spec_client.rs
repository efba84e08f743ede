//! A client that reconnects as docs/protocol.md requires. It connects to the next node, with its newest cursor. It
//! first waits for a random part of the jitter that the server states, then for random pauses that double.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The longest pause between the first failed attempt and the second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A change of an order: the order's number, and its new status.
pub type Change = (i64, String);

/// The changes that a client has received, and the numbers of its errors and disconnections.
#[derive(Default)]
pub struct Heard {
    /// The moment when each change first arrived.
    pub changes: HashMap<Change, Instant>,
    /// The number of changes that arrived before an earlier change of their order.
    pub out_of_order: usize,
    /// The number of times that the client lost its socket.
    pub cut_off: usize,
    /// Whether the client has received the message `live`, which ends the replay.
    pub live: bool,
    statuses: HashMap<i64, String>,
}

/// A running client. Dropping the value ends the client.
pub struct Panel {
    /// The client's store.
    pub store: i64,
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

impl Drop for Panel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Deserialize)]
struct Said {
    #[serde(rename = "type")]
    kind: String,
    cursor: Option<String>,
    reconnect_jitter_ms: Option<u64>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    order_id: String,
    status: String,
    previous_status: Option<String>,
}

impl Panel {
    /// Connects a client to the first of these nodes that accepts it.
    pub fn open(nodes: Vec<SocketAddr>, store: i64, token: &str) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let state = State {
            store,
            token: token.to_owned(),
            cursor: None,
            jitter: Duration::ZERO,
            heard: Arc::clone(&heard),
        };
        let task = tokio::spawn(state.stay(nodes));
        Self { store, heard, task }
    }

    /// What the client has received.
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("no panic")
    }
}

struct State {
    store: i64,
    token: String,
    cursor: Option<String>,
    jitter: Duration,
    heard: Arc<Mutex<Heard>>,
}

impl State {
    async fn stay(mut self, nodes: Vec<SocketAddr>) {
        let mut nodes = nodes.iter().cycle();
        let mut pause = FIRST_PAUSE;
        loop {
            let node = *nodes.next().expect("a node");
            if let Some(socket) = self.connect(node).await {
                let was_live = self.listen(socket).await;
                self.heard.lock().expect("no panic").cut_off += 1;
                if was_live {
                    pause = FIRST_PAUSE;
                    tokio::time::sleep(self.jitter.mul_f64(fastrand::f64())).await;
                    continue;
                }
            }
            tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&self, node: SocketAddr) -> Option<WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>> {
        let after = self
            .cursor
            .as_ref()
            .map(|cursor| format!("?after={cursor}"))
            .unwrap_or_default();
        let mut request = format!("ws://{node}/api/partner/ws/partner/{}{after}", self.store)
            .into_client_request()
            .expect("a request");
        let bearer = format!("Bearer {}", self.token).parse().expect("a header");
        request.headers_mut().insert("authorization", bearer);
        connect_async(request).await.ok().map(|(socket, _)| socket)
    }

    /// Receives messages until the socket ends. Returns whether the message `live` has arrived.
    async fn listen(&mut self, mut socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>) -> bool {
        let mut live = false;
        while let Some(Ok(message)) = socket.next().await {
            let now = Instant::now();
            let Message::Text(text) = message else { continue };
            let said: Said = serde_json::from_str(&text).expect("a message");
            if said.kind == "live" {
                live = true;
                self.heard.lock().expect("no panic").live = true;
            }
            assert_ne!(said.kind, "resync_required", "{text}");
            if let Some(jitter) = said.reconnect_jitter_ms {
                self.jitter = Duration::from_millis(jitter);
            }
            if let Some(data) = said.data {
                self.heard.lock().expect("no panic").hear(data, now);
            }
            self.cursor = said.cursor.or(self.cursor.take());
        }
        live
    }
}

impl Heard {
    fn hear(&mut self, data: Data, now: Instant) {
        let order = data.order_id.parse().expect("a number");
        let change = (order, data.status.clone());
        // A repeated event was counted before.
        if self.changes.contains_key(&change) {
            return;
        }
        self.changes.insert(change, now);
        let before = self.statuses.insert(order, data.status);
        self.out_of_order += usize::from(before != data.previous_status);
    }
}
