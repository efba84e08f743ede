//! Three nodes behind HAProxy, as in `examples/cluster`. Each node has its own proxies and its own clock. The proxies
//! drop packets between the node and HAProxy, or between the node and Postgres. libfaketime moves the node's clock.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tokio::time::timeout;

use super::certificates::Authority;
use crate::cluster::{Cluster, NODES, free_ports};
use crate::support::app::{PATIENCE, exchange};
use crate::support::db::Database;
use crate::support::look_again;
use crate::support::proxy::Proxy;
use crate::support::telegram::TOKEN;

/// The interval between two heartbeats of the nodes, seconds.
pub const PING_INTERVAL_S: u64 = 2;
/// The directories in which Debian installs libfaketime, for each architecture.
const FAKETIME: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// The connections of a node on which the test can drop packets: to Postgres, or to HAProxy.
#[derive(Debug, Clone, Copy)]
pub enum Side {
    Postgres,
    Balancer,
}

/// The network and the clock of one node.
struct Surroundings {
    /// The proxies to the two Postgres servers.
    to_postgres: Vec<Proxy>,
    /// The proxies from HAProxy to the node's two ports.
    from_balancer: Vec<Proxy>,
    /// The port at which the node serves clients, without a proxy.
    http_port: u16,
    /// The port at which the node serves operators, without a proxy.
    ops_port: u16,
    /// The file with the offset of the node's clock.
    clock: PathBuf,
}

pub struct Nodes {
    pub cluster: Cluster,
    surroundings: Vec<Surroundings>,
    authority: Authority,
    /// The directory of the files with each node's environment. It is removed when this value is dropped.
    _directory: tempfile::TempDir,
}

/// The library that moves a node's clock, if it is installed.
pub fn faketime() -> Option<&'static str> {
    FAKETIME.into_iter().find(|library| Path::new(library).exists())
}

impl Nodes {
    /// Starts the nodes. `postgres` are the ports of the primary and of its standby, and `telegram` is the address of
    /// the Bot API.
    pub async fn start(database: &Database, postgres: [u16; 2], telegram: &str, random: &mut fastrand::Rng) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path());
        let port = free_ports();
        let mut surroundings = Vec::new();
        for node in 1..=NODES as u16 {
            let index = usize::from(node) - 1;
            authority.renew(index, random);
            let tls = authority.files(index);
            // The proxies listen at the ports that HAProxy knows. The node listens at two other ports.
            let (http, ops) = (port + node, port + NODES as u16 + node);
            let (http_port, ops_port) = (unused_port(), unused_port());
            let mut to_postgres = Vec::new();
            for server in postgres {
                to_postgres.push(Proxy::to(local(server)).await);
            }
            let mut from_balancer = Vec::new();
            for (front, behind) in [(http, http_port), (ops, ops_port)] {
                from_balancer.push(Proxy::at(local(front), local(behind)).await);
            }
            let clock = directory.path().join(format!("{http}.clock"));
            std::fs::write(&clock, "+0\n").unwrap();
            let url = format!(
                "postgres://postgres@{},{}/postgres?target_session_attrs=read-write",
                to_postgres[0].address, to_postgres[1].address
            );
            let mut environment = format!(
                "HTTP_PORT={http_port} OPS_PORT={ops_port}\nexport DATABASE_URL='{url}'\n\
                 export VESTNIK_TLS_CERTIFICATE='{certificate}' VESTNIK_TLS_KEY='{key}'\n\
                 export VESTNIK_SESSION_PING_INTERVAL_SECONDS={PING_INTERVAL_S}\n\
                 export VESTNIK_TELEGRAM_TOKEN='{TOKEN}' VESTNIK_TELEGRAM_API_URL='{telegram}'\n\
                 export VESTNIK_TELEGRAM_DEADLINE_SECONDS=20 VESTNIK_TELEGRAM_LEASE_SECONDS=24\n",
                certificate = tls.certificate.display(),
                key = tls.key.display(),
            );
            if let Some(library) = faketime() {
                // The monotonic clock is not moved, as on a machine whose clock an operator sets.
                let clock = clock.display();
                writeln!(
                    environment,
                    "export FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_CACHE_DURATION=1 NO_FAKE_STAT=1\n\
                     export FAKETIME_TIMESTAMP_FILE='{clock}' LD_PRELOAD='{library}'"
                )
                .unwrap();
            }
            std::fs::write(directory.path().join(http.to_string()), environment).unwrap();
            surroundings.push(Surroundings {
                to_postgres,
                from_balancer,
                http_port,
                ops_port,
                clock,
            });
        }
        let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/chaos/node");
        let balancer = authority.balancer();
        let variables = [
            ("CLUSTER_HAPROXY", balancer.to_str().unwrap()),
            ("VESTNIK", node.to_str().unwrap()),
            ("CHAOS_VESTNIK", env!("CARGO_BIN_EXE_vestnik")),
            ("CHAOS_NODES", directory.path().to_str().unwrap()),
        ];
        Self {
            cluster: Cluster::start_at(port, database, &variables),
            surroundings,
            authority,
            _directory: directory,
        }
    }

    /// Drops all packets between a node and `side`, until [`Nodes::mend`]. No connection is closed.
    pub fn drop_packets(&self, node: usize, side: Side) {
        self.proxies(node, side).iter().for_each(Proxy::cut);
    }

    /// Lets packets pass again, and closes the connections that have lost packets.
    pub fn mend(&self, node: usize, side: Side) {
        for proxy in self.proxies(node, side) {
            proxy.mend();
            proxy.close_stalled();
        }
    }

    fn proxies(&self, node: usize, side: Side) -> &[Proxy] {
        let node = &self.surroundings[node];
        match side {
            Side::Postgres => &node.to_postgres,
            Side::Balancer => &node.from_balancer,
        }
    }

    /// Sets a node's clock to the true time plus this number of seconds.
    pub fn set_clock(&self, node: usize, offset_s: i64) {
        std::fs::write(&self.surroundings[node].clock, format!("{offset_s:+}\n")).unwrap();
    }

    /// Renews a node's certificate, and waits until new connections get it. If `is_broken_first`, the node first reads
    /// a key that it cannot use, and must go on with its old certificate.
    pub async fn renew_certificate(&self, node: usize, is_broken_first: bool, random: &mut fastrand::Rng) {
        self.until_ready(node, true).await;
        let address = local(self.surroundings[node].http_port);
        let shown = || self.authority.shown_at(address);
        let name = node + 1;
        if is_broken_first {
            let old = shown().await.expect("the node has a certificate");
            let refusals = self.refused_certificates(node);
            std::fs::write(self.authority.files(node).key, "not a key").unwrap();
            let refused = timeout(PATIENCE, async {
                while self.refused_certificates(node) == refusals {
                    look_again().await;
                }
            });
            refused
                .await
                .unwrap_or_else(|_| panic!("node {name} reports the unusable key"));
            assert_eq!(shown().await, Some(old), "node {name} keeps its old certificate");
        }
        let new = self.authority.renew(node, random);
        let is_signalled = random.bool();
        if is_signalled {
            self.cluster.signal(node, Signal::HUP);
        }
        let renewed = timeout(PATIENCE, async {
            while shown().await.as_ref() != Some(&new) {
                look_again().await;
            }
        });
        renewed
            .await
            .unwrap_or_else(|_| panic!("node {name} shows its new certificate"));
    }

    /// How often a node has logged that it cannot use a new certificate.
    fn refused_certificates(&self, node: usize) -> usize {
        self.cluster
            .log(node)
            .matches("the new certificate cannot be used")
            .count()
    }

    /// Waits until a node's `/readyz` reports that the node is ready, or, if `is_ready` is false, that it is not ready.
    pub async fn until_ready(&self, node: usize, is_ready: bool) {
        let ops = local(self.surroundings[node].ops_port);
        let waited = timeout(PATIENCE, async {
            while answers_ok(ops).await != is_ready {
                look_again().await;
            }
        });
        let state = if is_ready { "ready" } else { "not ready" };
        waited.await.unwrap_or_else(|_| panic!("node {} is {state}", node + 1));
    }
}

/// Whether `/readyz` at this address responds with the status 200.
async fn answers_ok(ops: std::net::SocketAddr) -> bool {
    if tokio::net::TcpStream::connect(ops).await.is_err() {
        return false;
    }
    let request = b"GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    exchange(ops, request).await.starts_with(b"HTTP/1.1 200")
}

fn local(port: u16) -> std::net::SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// A port on which nothing listens. It is outside the range of [`free_ports`], and outside the range from which the
/// kernel assigns ports.
fn unused_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..20_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
