//! Causes random faults, one after the other, in a cluster of three nodes behind HAProxy. Writers, clients and a fake
//! Bot API run at the same time. The oracle checks that no event is lost. `scripts/chaos` runs this test for minutes;
//! the test suite causes only a few faults.

mod certificates;
mod disk;
mod fault;
mod nodes;
mod told;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vestnik::token::Stores;

use crate::cluster::NODES;
use crate::oracle::{Repeats, Setup, Trial, seed, tables};
use crate::support::db::{Database, Server};
use crate::support::minutes_of_chaos;
use fault::{COMMITS_BETWEEN, Chaos, Fault};
use nodes::{Nodes, PING_INTERVAL_S};
use told::Told;

/// The number of faults when the test suite runs this test.
const STEPS: usize = 8;
/// A client that receives no message during three heartbeat intervals reconnects, see docs/protocol.md.
const SILENCE: Duration = Duration::from_secs(3 * PING_INTERVAL_S);

/// The faults that this machine can cause. Prints a line for each fault that it cannot cause.
fn faults(has_disk: bool) -> Vec<Fault> {
    let mut faults = Fault::ALL.to_vec();
    if !has_disk {
        eprintln!("no fault FullDisk: only scripts/chaos, run as root, mounts a small disk for Postgres");
        faults.retain(|fault| *fault != Fault::FullDisk);
    }
    if nodes::faketime().is_none() {
        eprintln!("no fault MoveClock: libfaketime is not installed: sudo apt-get install faketime");
        faults.retain(|fault| *fault != Fault::MoveClock);
    }
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_at_random_no_order_is_lost_doubled_or_another_stores() {
    let has_disk = minutes_of_chaos().is_some() && disk::can_mount();
    let faults = faults(has_disk);
    let mut server = Server::start(if has_disk { &disk::SMALL } else { &[] });
    let database = Database::on(&server).await;
    tables::attach(&database).await;
    let told = Told::begin(&database).await;
    // The URL names both servers, and the clients connect to the server that accepts writes.
    let (one, other) = (server.port().to_owned(), server.spare_port());
    let url = format!("postgres://postgres@127.0.0.1:{one},127.0.0.1:{other}/postgres?target_session_attrs=read-write");
    let database = Database::at(url.clone().into());
    let token = database.token(Stores::All).await;
    let postgres = [one, other].map(|port| port.parse().unwrap());
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let nodes = Nodes::start(&database, postgres, &told.telegram.url(), &mut random).await;
    let setup = Setup {
        is_whole: true,
        silence: SILENCE,
    };
    let trial = Trial::begin_with(&url, &[nodes.cluster.address], &token, seed, setup).await;
    let mut chaos = Chaos {
        server,
        database,
        nodes,
        trial,
        told,
        random,
    };
    let (began, mut counts) = (Instant::now(), BTreeMap::<Fault, usize>::new());
    let is_over = |steps: usize| match minutes_of_chaos() {
        Some(minutes) => began.elapsed() >= minutes,
        None => steps >= STEPS,
    };
    let mut steps = 0;
    while !is_over(steps) {
        let fault = faults[chaos.random.usize(..faults.len())];
        eprintln!("{:>6.1} s  {fault:?}", began.elapsed().as_secs_f64());
        chaos.strike(fault).await;
        chaos.trial.commits(COMMITS_BETWEEN).await;
        chaos.told.write(&chaos.trial, 1).await;
        *counts.entry(fault).or_default() += 1;
        steps += 1;
    }
    for node in 0..NODES {
        chaos.nodes.until_ready(node, true).await;
    }
    let told = chaos.told.judge(&chaos.trial, steps).await;
    let judged = chaos.trial.judge(Repeats::InFaults).await;
    chaos.nodes.cluster.stop();
    eprintln!(
        "seed {seed}, {:.0} s, {steps} faults: {counts:?}; {judged}; {told}",
        began.elapsed().as_secs_f64()
    );
}
