//! WebSocket clients, one for each store. They record when each order arrives.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tokio::task::JoinHandle;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// How long to wait for orders that are still in transit after the last order was written.
const PATIENCE: Duration = Duration::from_secs(20);

/// A group of connected clients.
pub struct Panels {
    /// The number of new orders that have arrived.
    pub count: Arc<AtomicU64>,
    /// The messages about new orders as text, with the time at which each arrived. Empty if [`Panels::open`] was called
    /// without `keep`.
    #[expect(clippy::allow_attributes, reason = "not every bench reads it")]
    #[allow(dead_code)]
    pub heard: Arc<Mutex<Vec<(Instant, Utf8Bytes)>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Panels {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Panels {
    /// Connects one client to each of the first `stores` stores. With `keep`, the clients keep the text of each new
    /// order in `heard`; otherwise they only count the orders.
    pub async fn open(address: SocketAddr, token: &str, stores: i64, keep: bool) -> Self {
        Self::of(address, token, 0..stores, keep).await
    }

    /// Connects one client to each of these stores.
    pub async fn of(address: SocketAddr, token: &str, stores: std::ops::Range<i64>, keep: bool) -> Self {
        let (count, heard) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = Vec::new();
        for store in stores {
            let mut request = format!("ws://{address}/api/partner/ws/partner/{store}")
                .into_client_request()
                .expect("a request");
            request
                .headers_mut()
                .insert("authorization", format!("Bearer {token}").parse().expect("a header"));
            let (mut socket, _) = connect_async(request).await.expect("a socket");
            let (count, heard) = (Arc::clone(&count), Arc::clone(&heard));
            tasks.push(tokio::spawn(async move {
                while let Some(Ok(message)) = socket.next().await {
                    let now = Instant::now();
                    if let Message::Text(text) = message
                        && text.contains(r#""new_order""#)
                    {
                        if keep {
                            heard.lock().expect("no panic").push((now, text));
                        }
                        // Count the order after its text is saved, because a reader waits for the count and then reads
                        // the texts.
                        count.fetch_add(1, Ordering::Release);
                    }
                }
            }));
        }
        Self { count, heard, tasks }
    }

    /// The latency of each order in `sent`, ms: from its time in `sent` until the order arrived. Asserts that each of
    /// these orders arrived exactly once. Ignores all other orders.
    #[expect(clippy::allow_attributes, reason = "not every bench asks")]
    #[allow(dead_code)]
    pub fn ways(&self, sent: &HashMap<String, Instant>) -> Vec<f64> {
        let mut ways = Vec::new();
        for (at, text) in self.heard.lock().expect("no panic").drain(..) {
            let event: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            if let Some(begin) = event["data"]["order_id"].as_str().and_then(|order| sent.get(order)) {
                ways.push((at - *begin).as_secs_f64() * 1000.0);
            }
        }
        assert_eq!(ways.len(), sent.len(), "every order comes once");
        ways
    }

    /// Waits until `orders` new orders have arrived since the count `before`, or `PATIENCE` is over. Returns the number
    /// that arrived.
    pub async fn until(&self, before: u64, orders: u64) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let come = self.count.load(Ordering::Acquire) - before;
            if come >= orders || Instant::now() > deadline {
                return come;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
