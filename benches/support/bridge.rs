//! A small server for comparison. It listens for the notifications of a trigger, and sends them to WebSocket clients.
//! The server runs in its own process, and has no journal. A notification contains the whole order. The server sends
//! the order to each socket of its store, and flushes the socket. The server loses notifications while it does not
//! listen, so a shop cannot use it. No system that learns of orders by NOTIFY can be faster.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use futures::{SinkExt as _, StreamExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_postgres::AsyncMessage;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::shop::{Ended, Shop};

/// With this argument, this program runs as the bridge.
const BRIDGE: &str = "--bare-bridge";
const URL: &str = "BRIDGE_DATABASE_URL";

/// Two copies of the table of orders: one without a trigger, and one whose trigger notifies the bridge.
pub const TABLES: &str = "create table bare_orders (like orders including all); \
     create table floor_orders (like orders including all); \
     create function floor_notify() returns trigger language plpgsql as $$ begin \
         perform pg_notify('floor', json_build_object('type', 'new_order', 'store', new.store_id::text, 'data', json_build_object( \
             'order_id', new.id::text, 'customer_name', new.customer_name, 'total', new.total, 'order_type', new.order_type, \
             'items', new.items))::text); \
         return null; \
     end $$; \
     create trigger floor after insert on floor_orders for each row execute function floor_notify()";

type Sockets = Arc<Mutex<HashMap<String, Vec<mpsc::UnboundedSender<Utf8Bytes>>>>>;

/// Runs the bridge if this process was started as the bridge. Returns whether it was.
pub async fn was_bridge() -> bool {
    let is_bridge = std::env::args().any(|argument| argument == BRIDGE);
    if is_bridge {
        run(std::env::var(URL).expect("its database").into()).await;
    }
    is_bridge
}

/// Starts the bridge as a child process, and returns it with its address.
pub fn start(shop: &Shop) -> (Ended, SocketAddr) {
    let this = std::env::current_exe().expect("this program");
    let mut child = Command::new(this)
        .arg(BRIDGE)
        .env(URL, shop.url.expose_secret())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the bridge");
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().expect("its address"))
        .read_line(&mut line)
        .expect("its address");
    (Ended(child), line.trim().parse().expect("its address"))
}

async fn run(url: SecretString) {
    let sockets = Sockets::default();
    let (client, mut connection) = vestnik::infra::db::connect_raw(&url, "bridge")
        .await
        .expect("a connection");
    let heard = Arc::clone(&sockets);
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            let AsyncMessage::Notification(notification) = message else {
                continue;
            };
            let order: serde_json::Value = serde_json::from_str(notification.payload()).expect("JSON");
            let text = Utf8Bytes::from(notification.payload().to_owned());
            let sockets = heard.lock().expect("no panic");
            for socket in sockets
                .get(order["store"].as_str().unwrap_or_default())
                .into_iter()
                .flatten()
            {
                let _ = socket.send(text.clone());
            }
        }
    });
    client.batch_execute("listen floor").await.expect("listening");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("a port"));
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("a socket");
        let (sender, mut orders) = mpsc::unbounded_channel();
        let mut store = String::new();
        #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
        let note = |request: &Request, response: Response| {
            store = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(stream, note)
            .await
            .expect("a handshake");
        sockets.lock().expect("no panic").entry(store).or_default().push(sender);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(text) = orders.recv() => {
                        if socket.send(Message::Text(text)).await.is_err() {
                            return;
                        }
                    }
                    message = socket.next() => if !matches!(message, Some(Ok(_))) { return },
                }
            }
        });
    }
}
