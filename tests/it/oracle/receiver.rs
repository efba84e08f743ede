//! The clients of a [`Trial`](super::Trial): panels with a WebSocket of one store, and a client with one stream of
//! Server-Sent Events for all stores.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::app::{PATIENCE, Panel};
use crate::support::look_again;
use crate::support::sse::Sse;

/// The path of the stream of all stores.
const ALL_STORES: &str = "/api/partner/stream?stores=*";

/// The events that a client has received.
#[derive(Default)]
pub struct Received {
    pub events: Vec<Value>,
    pub resyncs: Vec<Resync>,
}

/// A message `resync_required`, with which the server tells the client to load its lists again.
#[derive(Debug)]
pub struct Resync {
    /// The number of events that the client had received before.
    pub events_before: usize,
    pub at: Instant,
    pub reason: String,
}

/// A client, with the events that the client has received.
pub struct Receiver {
    /// The client's store; `None` is all stores.
    pub store: Option<i64>,
    pub received: Arc<Mutex<Received>>,
    pub receiving: JoinHandle<()>,
}

/// The engines to which a client connects, and the settings of its connections.
#[derive(Clone)]
pub struct Address {
    pub engines: Vec<SocketAddr>,
    pub store: Option<i64>,
    pub token: String,
    /// A client that receives nothing for this time reconnects, as docs/protocol.md demands.
    pub silence: Duration,
}

enum Client {
    Panel(Box<Panel>),
    Stream { stream: Sse, cursor: Option<String> },
}

impl Client {
    /// Connects with a cursor. Returns `None` if the server refuses, or sends nothing.
    async fn connect(engine: SocketAddr, address: &Address, after: Option<&str>) -> Option<Self> {
        let token = &address.token;
        let connecting = async {
            match address.store {
                Some(store) => {
                    let panel = Panel::connect(engine, &store.to_string(), after, token).await.ok()?;
                    Some(Self::Panel(Box::new(panel)))
                }
                None => {
                    let stream = Sse::connect(engine, ALL_STORES, after, token).await.ok()?;
                    let cursor = after.map(str::to_owned);
                    Some(Self::Stream { stream, cursor })
                }
            }
        };
        timeout(address.silence, connecting).await.ok().flatten()
    }

    /// The next message, or `None` if the session has ended.
    async fn message(&mut self) -> Option<Value> {
        match self {
            Self::Panel(panel) => panel.message().await.ok(),
            Self::Stream { stream, cursor } => {
                let (id, message) = stream.try_message().await.ok()?;
                *cursor = id.or(cursor.take());
                Some(message)
            }
        }
    }

    fn cursor(&self) -> Option<&str> {
        match self {
            Self::Panel(panel) => Some(&panel.cursor),
            Self::Stream { cursor, .. } => cursor.as_deref(),
        }
    }
}

impl Receiver {
    /// Connects a client to the first engine, waits until the client is live, and receives events from then on.
    pub async fn begin(address: Address, broken: watch::Receiver<u64>) -> Self {
        let connecting = timeout(PATIENCE, async {
            loop {
                match Client::connect(address.engines[0], &address, None).await {
                    Some(client) => return client,
                    None => look_again().await,
                }
            }
        });
        let mut client = connecting.await.expect("a session");
        while client.message().await.expect("live")["type"] != "live" {}
        let received = Arc::default();
        Self {
            store: address.store,
            received: Arc::clone(&received),
            receiving: tokio::spawn(receive(client, address, received, broken)),
        }
    }
}

/// Receives events. After each disconnection, the client reconnects to the next engine with its newest cursor.
async fn receive(
    mut client: Client,
    address: Address,
    received: Arc<Mutex<Received>>,
    mut broken: watch::Receiver<u64>,
) {
    let mut engines = address.engines.iter().cycle().skip(1);
    loop {
        let message = tokio::select! {
            message = timeout(address.silence, client.message()) => message.ok().flatten(),
            _ = broken.changed() => None,
        };
        match message {
            Some(message) if message.get("data").is_some() => received.lock().unwrap().events.push(message),
            Some(message) if message["type"] == "resync_required" => {
                let mut received = received.lock().unwrap();
                let events_before = received.events.len();
                received.resyncs.push(Resync {
                    events_before,
                    at: Instant::now(),
                    reason: message["reason"].as_str().unwrap().to_owned(),
                });
            }
            Some(_) => {}
            None => {
                let cursor = client.cursor().map(str::to_owned);
                client = loop {
                    let engine = engines.next().unwrap();
                    match Client::connect(*engine, &address, cursor.as_deref()).await {
                        Some(client) => break client,
                        None => look_again().await,
                    }
                };
            }
        }
    }
}
