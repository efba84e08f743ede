//! The load of the bench: connections that write orders as applications do, and panels that receive the events.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::infra::db;
use anyhow::Context as _;
use futures::StreamExt as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::WARM_UP;
use super::ground::{Ground, Table, stores};

/// How long the bench waits for the panels after the last write. An order that arrives later counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Interval of the checks whether all orders have reached the panels.
const LOOK: Duration = Duration::from_millis(1);

/// The panels of the bench: one WebSocket connection for each store.
pub struct Panels {
    /// The numbers of the received orders, each with its arrival time.
    heard: Arc<Mutex<Vec<(u64, Instant)>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Panels {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Panels {
    /// Opens one connection for each store to the server at `address`.
    pub async fn open(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for store in stores() {
            let mut request = format!("ws://{address}/api/partner/ws/partner/{store}").into_client_request()?;
            request
                .headers_mut()
                .insert("authorization", format!("Bearer {token}").parse()?);
            let (mut socket, _) = connect_async(request).await.context("no socket")?;
            let heard = Arc::clone(&heard);
            tasks.push(tokio::spawn(async move {
                while let Some(Ok(message)) = socket.next().await {
                    let now = Instant::now();
                    if let Message::Text(text) = message
                        && let Some(number) = number(&text)
                    {
                        heard.lock().unwrap_or_else(PoisonError::into_inner).push((number, now));
                    }
                }
            }));
        }
        Ok(Self { heard, tasks })
    }

    fn take(&self) -> Vec<(u64, Instant)> {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self) -> usize {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Finds an order's number in its event. The bench writes this number as the customer's name.
fn number(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(r#""customer_name":"#)?;
    let rest = rest.trim_start().strip_prefix('"')?;
    rest.split('"').next()?.parse().ok()
}

/// One measurement: the table to which orders are written, and the load.
pub struct Measurement {
    /// The table to which the orders are written.
    pub table: Table,
    /// Number of connections that write at the same time.
    pub writers: usize,
    /// The orders per second of all writers together. `None`: each writer writes as fast as it can.
    pub rate: Option<u32>,
    /// The duration of the measurement after the warm-up.
    pub length: Duration,
}

/// The result of one measurement.
pub struct MeasurementResult {
    /// Written orders per second. For the table with Vestnik's triggers, the measured time ends when the last order has
    /// reached a panel.
    pub rate: f64,
    /// Number of orders that were committed, but did not reach a panel in time.
    pub lost: usize,
    /// The time from the start of each order's INSERT until a panel receives the order, milliseconds.
    ways: Vec<f64>,
}

impl MeasurementResult {
    /// Returns the latency, milliseconds, that the given share (0 to 1) of the orders does not exceed. NaN: no order
    /// arrived.
    pub fn quantile(&mut self, share: f64) -> f64 {
        self.ways.sort_by(f64::total_cmp);
        let index = ((self.ways.len() as f64 - 1.0) * share).round() as usize;
        self.ways.get(index).copied().unwrap_or(f64::NAN)
    }
}

impl Measurement {
    /// Runs the measurement: a warm-up, the writes, and the wait until the panels have received the orders.
    pub async fn run(&self, ground: &Ground, panels: &Panels) -> anyhow::Result<MeasurementResult> {
        ground.empty().await?;
        panels.take();
        let begin = Instant::now() + WARM_UP;
        let mut writing = Vec::new();
        for writer in 0..self.writers {
            let client = db::connect_as(&ground.url, "bench").await.with_context(|| {
                format!(
                    "{} writers need as many connections; see max_connections of Postgres",
                    self.writers
                )
            })?;
            writing.push(tokio::spawn(write(
                client,
                self.table,
                writer as u64,
                begin + self.length,
                self.pause(),
            )));
        }
        let mut written = Vec::new();
        for writer in futures::future::join_all(writing).await {
            written.extend(writer??);
        }
        let lost = match self.table {
            Table::Watched => until_delivered(panels, written.len()).await,
            Table::Bare | Table::Notifying => 0,
        };
        let took = begin.elapsed().as_secs_f64();
        written.sort_unstable_by_key(|(number, _)| *number);
        let counted = written.iter().filter(|(_, at)| *at >= begin).count();
        let way = |(number, at): (u64, Instant)| {
            let found = written.binary_search_by_key(&number, |(number, _)| *number).ok()?;
            let sent = written[found].1;
            (sent >= begin).then(|| (at - sent).as_secs_f64() * 1e3)
        };
        Ok(MeasurementResult {
            rate: counted as f64 / took,
            lost,
            ways: panels.take().into_iter().filter_map(way).collect(),
        })
    }

    /// Interval between two orders of one writer. Zero: the rate has no limit.
    fn pause(&self) -> Duration {
        let each = |rate: u32| Duration::from_secs_f64(self.writers as f64 / f64::from(rate));
        self.rate.map(each).unwrap_or_default()
    }
}

/// Writes orders on one connection until the time `until`. Returns the number of each order, and the time just before
/// its INSERT.
async fn write(
    client: db::Client,
    table: Table,
    writer: u64,
    until: Instant,
    pause: Duration,
) -> anyhow::Result<Vec<(u64, Instant)>> {
    let insert = format!(
        "insert into {} (store_id, customer_name, total, order_type, items) \
         values ($1, $2, 50000, 'delivery', '[{{\"name\": \"Пицца\", \"quantity\": 2}}]')",
        table.name()
    );
    let (insert, stores) = (client.prepare_cached(&insert).await?, stores());
    let mut written = Vec::new();
    let mut next = Instant::now() + pause.mul_f64(fastrand::f64());
    while Instant::now() < until {
        if !pause.is_zero() {
            sleep_until(next).await;
            next += pause;
        }
        let number = (writer << 40) + written.len() as u64;
        let store = &stores[fastrand::usize(..stores.len())];
        written.push((number, Instant::now()));
        client.execute(&insert, &[store, &number.to_string()]).await?;
    }
    Ok(written)
}

/// Waits until the panels have received all orders. Returns the number of orders that did not arrive in time.
async fn until_delivered(panels: &Panels, orders: usize) -> usize {
    let deadline = Instant::now() + PATIENCE;
    while panels.count() < orders && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    orders.saturating_sub(panels.count())
}
