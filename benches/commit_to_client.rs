//! From the INSERT to the partner's socket: at 50, 500 and 2,000 orders a second, beside a bare LISTEN in this process
//! that hears the very same orders, and shows nobody anything. What the program adds is the ratio.

#[path = "support/engine.rs"]
mod engine;
#[path = "support/quantile.rs"]
mod quantile;
#[path = "support/shop.rs"]
mod shop;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tokio::task::JoinHandle;
use tokio_postgres::AsyncMessage;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use engine::{serve, token};
use quantile::quantile;
use shop::Shop;

const RATES: [u32; 3] = [50, 500, 2000];
const SECONDS: u32 = 12;
const WRITERS: u32 = 16;
const STORES: i64 = 16;
/// Orders of the first moments, which are not counted.
const WARM_UP: Duration = Duration::from_secs(2);

type Heard<T> = Arc<Mutex<Vec<(Instant, T)>>>;

#[tokio::main]
async fn main() {
    let shop = Shop::open().await;
    let (_engine, address) = serve(&shop, &[]).await;
    let token = token(&shop).await;
    let (bare, sockets): (Heard<String>, Heard<Utf8Bytes>) = Default::default();
    let mut tasks = vec![listen(&shop, Arc::clone(&bare)).await];
    for store in 0..STORES {
        let mut request = format!("ws://{address}/api/partner/ws/partner/{store}")
            .into_client_request()
            .expect("a request");
        request
            .headers_mut()
            .insert("authorization", format!("Bearer {}", token).parse().expect("a header"));
        let (mut socket, _) = connect_async(request).await.expect("a socket");
        let heard = Arc::clone(&sockets);
        tasks.push(tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                let now = Instant::now();
                if let Message::Text(text) = message {
                    heard.lock().expect("no panic").push((now, text));
                }
            }
        }));
    }
    println!("orders/s  achieved |  bare LISTEN p50    p99 |  to the socket p50    p99 |  ratio p50   p99");
    for rate in RATES {
        let sent = load(&shop, rate).await;
        measure(rate, &sent, &bare, &sockets);
    }
    tasks.into_iter().for_each(|task| task.abort());
}

/// A bare LISTEN: what any program pays that hears from Postgres.
async fn listen(shop: &Shop, heard: Heard<String>) -> JoinHandle<()> {
    let (client, mut connection) = vestnik::db::connect_raw(&shop.url, "bare").await.expect("a connection");
    let task = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            let now = Instant::now();
            if let AsyncMessage::Notification(notification) = message {
                heard
                    .lock()
                    .expect("no panic")
                    .push((now, notification.payload().to_owned()));
            }
        }
    });
    client.batch_execute("listen vestnik").await.expect("listening");
    // Its connection lasts as long as the bench.
    std::mem::forget(client);
    task
}

/// Writes orders at this rate; when each was sent, by its id.
async fn load(shop: &Shop, rate: u32) -> HashMap<String, Instant> {
    let begin = Instant::now();
    let pause = Duration::from_secs(1) * WRITERS / rate;
    let writers = (0..WRITERS).map(|writer| {
        let url = shop.url.clone();
        tokio::spawn(async move {
            let client = vestnik::db::connect_as(&url, "writer").await.expect("a connection");
            let insert = "insert into orders (store_id, customer_name, total, order_type, items) \
                 values ($1, 'Иван', 50000, 'delivery', '[{\"name\": \"Пицца\", \"count\": 2}]') returning id";
            let insert = client.prepare(insert).await.expect("prepared");
            let mut sent = Vec::new();
            let mut due = begin + pause * writer / WRITERS;
            while due < begin + Duration::from_secs(SECONDS.into()) {
                tokio::time::sleep_until(due.into()).await;
                let now = Instant::now();
                let store = i64::from(fastrand::u32(0..STORES as u32));
                let row = client.query_one(&insert, &[&store]).await.expect("an order");
                if now > begin + WARM_UP {
                    sent.push((row.get::<_, i64>(0).to_string(), now));
                }
                due += pause;
            }
            sent
        })
    });
    let mut sent = HashMap::new();
    for writer in futures::future::join_all(writers.collect::<Vec<_>>()).await {
        sent.extend(writer.expect("a writer"));
    }
    // What is still on its way comes now, or the bench says that something is missing.
    tokio::time::sleep(Duration::from_secs(1)).await;
    sent
}

fn measure(rate: u32, sent: &HashMap<String, Instant>, bare: &Heard<String>, sockets: &Heard<Utf8Bytes>) {
    let (mut to_socket, mut to_bare, mut order_of_event) = (Vec::new(), Vec::new(), HashMap::new());
    for (at, text) in sockets.lock().expect("no panic").drain(..) {
        let event: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        if let (Some(id), Some(order)) = (event["id"].as_str(), event["data"]["order_id"].as_str())
            && let Some(begin) = sent.get(order)
        {
            to_socket.push((at - *begin).as_secs_f64() * 1000.0);
            order_of_event.insert(id.to_owned(), *begin);
        }
    }
    for (at, payload) in bare.lock().expect("no panic").drain(..) {
        let notification: serde_json::Value = serde_json::from_str(&payload).unwrap_or_default();
        if let Some(begin) = notification["id"].as_str().and_then(|id| order_of_event.get(id)) {
            to_bare.push((at - *begin).as_secs_f64() * 1000.0);
        }
    }
    assert_eq!(to_socket.len(), sent.len(), "every order comes once");
    assert_eq!(to_bare.len(), sent.len(), "every order rings once");
    let achieved = sent.len() as f64 / (f64::from(SECONDS) - WARM_UP.as_secs_f64());
    let [bare_50, bare_99] = [0.5, 0.99].map(|share| quantile(&mut to_bare, share));
    let [socket_50, socket_99] = [0.5, 0.99].map(|share| quantile(&mut to_socket, share));
    println!(
        "{rate:8}  {achieved:8.0} |  {bare_50:12.2} ms {bare_99:6.2} |  {socket_50:14.2} ms {socket_99:6.2} |  {:9.2}  {:4.2}",
        socket_50 / bare_50,
        socket_99 / bare_99,
    );
}
