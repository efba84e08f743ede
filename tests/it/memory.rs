//! What the program keeps of the machine's memory.

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
/// Every so many panels there is one that stays.
const STAYING: usize = 16;
/// What a rush took may be kept for some seconds, for the next one.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(40);

#[tokio::test]
async fn what_a_rush_took_is_given_back_though_some_of_its_panels_stay() {
    // Our own ends of them, and the program's, which has what we have.
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
    // The pool is open, and what is recent in memory, once the first panel is let in.
    let first = open(address, &token).await;
    let before = resident_kb(&node);
    let mut most = before;
    let come = join_all((0..PANELS).map(|_| open(address, &token)));
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let mut come = std::pin::pin!(timeout(PATIENCE, come));
    let panels = loop {
        tokio::select! {
            panels = &mut come => break panels.expect("all of them come in"),
            _ = looks.tick() => most = most.max(resident_kb(&node)),
        }
    };
    most = most.max(resident_kb(&node));
    let staying: Vec<TcpStream> = panels.into_iter().step_by(STAYING).collect();
    let deadline = Instant::now() + GIVEN_BACK_WITHIN;
    let enough = before + (most - before) / 3;
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

/// A panel that is in. Where the node is too busy, the panel comes back, as a panel does.
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
