//! The memory of a node after many panels have connected and most of them have disconnected.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use vestnik::token::Stores;

use crate::support::app::PATIENCE;
use crate::support::db::Database;
use crate::support::node::Node;

#[path = "../../benches/support/limits.rs"]
mod limits;
#[path = "../../benches/support/memory.rs"]
mod of_process;
#[path = "../../benches/support/upgrade.rs"]
mod upgrade;

const PANELS: usize = 1500;
/// The number of panels that are connected before the rush.
const FIRST: usize = 100;
/// One of every 16 panels stays connected.
const STAYING: usize = 16;
/// Within this time after most panels have disconnected, the node must return most of their memory to the system.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(40);

#[tokio::test]
async fn what_a_rush_took_is_given_back_though_some_of_its_panels_stay() {
    // The test and the node need one socket each for every panel. The node inherits the test's limit of open files.
    limits::allow_many_sockets();
    let database = Database::fresh().await;
    let token = database.token(Stores::All).await;
    let settings = [
        ("TELEGRAM_TOKEN", ""),
        ("LOG_FILTER", "info"),
        ("SESSION_MAX_PER_STORE", "10000"),
    ];
    let node = Node::serving(&database, "", &settings).await;
    let address = node.address().await;
    // The first panels make the node allocate the connection pool and the event cache, and load the code that serves a
    // panel.
    let first = join_all((0..FIRST).map(|_| open(address, &token))).await;
    let before = resident_kb(&node);
    let mut most = before;
    let come = join_all((0..PANELS).map(|_| open(address, &token)));
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let mut come = std::pin::pin!(timeout(PATIENCE, come));
    let panels = loop {
        tokio::select! {
            panels = &mut come => break panels.expect("all panels connect"),
            _ = looks.tick() => most = most.max(resident_kb(&node)),
        }
    };
    most = most.max(resident_kb(&node));
    let staying: Vec<TcpStream> = panels.into_iter().step_by(STAYING).collect();
    let deadline = Instant::now() + GIVEN_BACK_WITHIN;
    // The allocator of the C library keeps more than half.
    let enough = before + (most - before) / 2;
    while resident_kb(&node) > enough {
        let now = resident_kb(&node);
        assert!(
            Instant::now() < deadline,
            "{before} KB before, {most} at most, {now} now"
        );
        looks.tick().await;
    }
    drop((first, staying));
}

/// Connects a panel. If the node is too busy, the function tries again, as a real panel does.
async fn open(address: SocketAddr, token: &str) -> TcpStream {
    loop {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = upgrade::upgrade(7, token, "");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 512];
        let read = socket.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        if answer.starts_with("HTTP/1.1 101") {
            return socket;
        }
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        crate::support::look_again().await;
    }
}

fn resident_kb(node: &Node) -> u64 {
    of_process::resident_kb(node.pid().as_raw_nonzero().get().unsigned_abs()).expect("it runs")
}
