//! Measures how soon clients receive orders again after a fault, while the shop makes 2,000 changes a second. There
//! are three faults. The bench kills the Postgres backend that listens. It kills the engine and starts it again. Or
//! it kills one of three nodes, whose panels then connect to the other two. The figure is the longest latency from an
//! INSERT to the client's socket. For comparison, one run has the same load and no fault. No change may be lost, and
//! the changes of an order must stay in order.

#[path = "support/engine.rs"]
mod engine;
#[path = "support/quantile.rs"]
mod quantile;
#[path = "support/shop.rs"]
mod shop;
#[path = "support/spec_client.rs"]
mod spec_client;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use engine::{serve, start_at, token};
use quantile::quantile;
use shop::{Ended, Shop};
use spec_client::{Change, Panel};

/// Nodes log only errors, because this bench causes the warnings on purpose.
const QUIETLY: [&str; 2] = ["--set", "log.filter=error"];
const RATE: u32 = 2000;
const WRITERS: u32 = 16;
const STORES: i64 = 20;
const PANELS_OF_A_STORE: i64 = 2;
const RUNS: usize = 5;
/// The load runs for the time `CALM` before the fault, and for the time `AFTER` after the fault.
const CALM: Duration = Duration::from_millis(1500);
const AFTER: Duration = Duration::from_millis(3500);
/// The measurement includes changes from this long before the fault, because they may still be in transit at the fault.
const JUST_BEFORE: Duration = Duration::from_millis(50);
/// A change that has not arrived after this time counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);
const STATUSES: [&str; 4] = ["pending", "preparing", "ready", "completed"];

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Listener,
    Engine,
}

/// The running nodes, each with its address.
type Nodes = Vec<(Ended, SocketAddr)>;

/// One change that was written.
struct Written {
    change: Change,
    store: i64,
    at: Instant,
}

/// The results of one run.
struct Felt {
    /// The longest latency that each panel saw, ms.
    waits: Vec<f64>,
    changes: usize,
    lost: usize,
    out_of_order: usize,
    cut_off: usize,
}

#[tokio::main]
async fn main() {
    let shop = Shop::open().await;
    let token = token(&shop).await;
    println!(
        "{RATE} changes/s, {WRITERS} writers, {STORES} stores, {RUNS} runs each; ms of the change that waited longest"
    );
    println!("fault                      | each panel, p50   worst | panels cut off  changes  lost  out of order");
    let mut nodes: Nodes = vec![serve(&shop, &QUIETLY).await];
    for (name, fault) in [
        ("none, one node", Fault::None),
        ("LISTEN backend killed", Fault::Listener),
        ("engine killed", Fault::Engine),
    ] {
        report(name, fault, &shop, &token, &mut nodes).await;
    }
    nodes.extend([serve(&shop, &QUIETLY).await, serve(&shop, &QUIETLY).await]);
    for (name, fault) in [
        ("none, three nodes", Fault::None),
        ("node of three killed", Fault::Engine),
    ] {
        report(name, fault, &shop, &token, &mut nodes).await;
    }
}

async fn report(name: &str, fault: Fault, shop: &Shop, token: &str, nodes: &mut Nodes) {
    let mut all: Vec<Felt> = Vec::new();
    for _ in 0..RUNS {
        all.push(run(fault, shop, token, nodes).await);
    }
    let sum = |of: fn(&Felt) -> usize| all.iter().map(of).sum::<usize>();
    let mut waits: Vec<f64> = all.iter().flat_map(|felt| felt.waits.iter().copied()).collect();
    println!(
        "{name:26} | {:15.0} {:7.0} | {:14} {:8} {:5} {:13}",
        quantile(&mut waits, 0.5),
        quantile(&mut waits, 1.0),
        sum(|felt| felt.cut_off),
        sum(|felt| felt.changes),
        sum(|felt| felt.lost),
        sum(|felt| felt.out_of_order),
    );
    assert_eq!(sum(|felt| felt.lost), 0, "nothing is lost");
    assert_eq!(sum(|felt| felt.out_of_order), 0, "each order's changes come in order");
    let cut_off = sum(|felt| felt.cut_off);
    assert_eq!(
        cut_off > 0,
        fault == Fault::Engine,
        "panels lose their connection only if the engine is killed"
    );
}

async fn run(fault: Fault, shop: &Shop, token: &str, nodes: &mut Nodes) -> Felt {
    let panels = open(nodes, token).await;
    let begin = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(shop.url.clone(), writer, begin)))
        .collect();
    tokio::time::sleep_until((begin + CALM).into()).await;
    let broken = Instant::now();
    break_one(fault, shop, nodes).await;
    let mut written = Vec::new();
    for writer in writers {
        written.extend(writer.await.expect("a writer"));
    }
    let felt = judge(&panels, &written, broken - JUST_BEFORE).await;
    drop(panels);
    // The next run begins after all nodes listen again.
    for (_, address) in nodes.iter() {
        engine::until_listening(*address).await;
    }
    felt
}

/// Opens the panels, and waits until all are live. Each panel knows all nodes; the panels start with different nodes.
async fn open(nodes: &Nodes, token: &str) -> Vec<Panel> {
    let addresses: Vec<SocketAddr> = nodes.iter().map(|(_, address)| *address).collect();
    let panel = |number: i64| {
        let mut addresses = addresses.clone();
        addresses.rotate_left(number as usize % nodes.len());
        Panel::open(addresses, number % STORES, token)
    };
    let panels: Vec<Panel> = (0..STORES * PANELS_OF_A_STORE).map(panel).collect();
    for panel in &panels {
        while !panel.heard().live {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    panels
}

async fn break_one(fault: Fault, shop: &Shop, nodes: &mut Nodes) {
    match fault {
        Fault::None => {}
        Fault::Listener => {
            let client = vestnik::infra::db::connect_as(&shop.url, "fault")
                .await
                .expect("a connection");
            let kill =
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'vestnik listener'";
            assert_eq!(client.query(kill, &[]).await.expect("killed").len(), nodes.len());
        }
        Fault::Engine => {
            let (mut node, address) = nodes.remove(0);
            node.0.kill().expect("killed");
            node.0.wait().expect("ended");
            nodes.push((start_at(shop, address, &QUIETLY), address));
        }
    }
}

/// Writes one writer's share of the changes. Of four changes, one is a new order and three change the status of an
/// earlier order.
async fn write(url: secrecy::SecretString, writer: u32, begin: Instant) -> Vec<Written> {
    let client = vestnik::infra::db::connect_as(&url, "writer")
        .await
        .expect("a connection");
    let insert = "insert into orders (store_id, customer_name, total, order_type, items) \
         values ($1, 'Иван', 50000, 'pickup', '[{\"name\": \"Пицца\", \"count\": 2}]') returning id";
    let insert = client.prepare_cached(insert).await.expect("prepared");
    let update = "update orders set status = $2 where id = $1";
    let update = client.prepare_cached(update).await.expect("prepared");
    let pause = Duration::from_secs(1) * WRITERS / RATE;
    let mut due = begin + pause * writer / WRITERS;
    let (mut written, mut order) = (Vec::new(), None::<(i64, i64, usize)>);
    while due < begin + CALM + AFTER {
        tokio::time::sleep_until(due.into()).await;
        due += pause;
        let at = Instant::now();
        let (id, store, step) = match order.take() {
            None => {
                let store = fastrand::i64(0..STORES);
                let row = client.query_one(&insert, &[&store]).await.expect("an order");
                (row.get(0), store, 0)
            }
            Some((id, store, step)) => {
                let status = STATUSES[step];
                client.execute(&update, &[&id, &status]).await.expect("a change");
                (id, store, step)
            }
        };
        let change = (id, STATUSES[step].to_owned());
        written.push(Written { change, store, at });
        order = (step + 1 < STATUSES.len()).then_some((id, store, step + 1));
    }
    written
}

/// Waits until all changes have arrived, and counts the lost changes. Only changes that were written at `since` or
/// later count for the latency.
async fn judge(panels: &[Panel], written: &[Written], since: Instant) -> Felt {
    let mut felt = Felt {
        waits: Vec::new(),
        changes: written.len(),
        lost: 0,
        out_of_order: 0,
        cut_off: 0,
    };
    let deadline = Instant::now() + PATIENCE;
    for panel in panels {
        let owed: Vec<&Written> = written.iter().filter(|change| change.store == panel.store).collect();
        while panel.heard().changes.len() < owed.len() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let heard = panel.heard();
        let mut longest = Duration::ZERO;
        for change in owed {
            match heard.changes.get(&change.change) {
                None => felt.lost += 1,
                Some(at) if change.at >= since => longest = longest.max(*at - change.at),
                Some(_) => {}
            }
        }
        felt.waits.push(longest.as_secs_f64() * 1000.0);
        felt.out_of_order += heard.out_of_order;
        felt.cut_off += heard.cut_off;
    }
    felt
}
