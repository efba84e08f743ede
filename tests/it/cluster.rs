//! The example in `examples/cluster`. The test starts the example's script, which runs three nodes behind a load
//! balancer, and kills nodes at random.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;
use vestnik::token::Stores;

use crate::oracle::{Repeats, Trial, seed};
use crate::support::app::PATIENCE;
use crate::support::db::Database;
use crate::support::look_again;

pub const NODES: usize = 3;
/// The number of nodes killed in a run.
const KILLS: usize = 6;
/// The number of lines of each node's log that a failed test shows.
const SHOWN_LINES: usize = 60;
/// The number of commits between two kills.
const COMMITS_BETWEEN: usize = 60;

/// The running script of the example. The script stops the cluster when the script's standard input closes.
pub struct Cluster {
    script: Child,
    directory: PathBuf,
    pub address: SocketAddr,
}

impl Cluster {
    pub fn start(database: &Database) -> Self {
        Self::start_at(free_ports(), database, &[])
    }

    /// Starts the cluster at this port and at the ports after it. `variables` are further environment variables of the
    /// script.
    pub fn start_at(port: u16, database: &Database, variables: &[(&str, &str)]) -> Self {
        let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster/start"))
            .env("VESTNIK", env!("CARGO_BIN_EXE_vestnik"))
            .env("DATABASE_URL", database.url())
            .env("CLUSTER_PORT", port.to_string())
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(script.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        let (_, directory) = said
            .trim()
            .rsplit_once(' ')
            .unwrap_or_else(|| panic!("the cluster did not start: {said}"));
        Self {
            script,
            directory: directory.into(),
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    /// The process id of a node.
    fn pid(&self, node: usize) -> i32 {
        let file = self.directory.join(format!("node-{}.pid", node + 1));
        std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    /// Everything that a node has logged so far.
    pub fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.directory.join(format!("node-{}.log", node + 1))).unwrap()
    }

    /// Sends a signal to a node.
    pub fn signal(&self, node: usize, signal: Signal) {
        kill_process(Pid::from_raw(self.pid(node)).unwrap(), signal).unwrap();
    }

    /// Ends a node with a signal, and waits until the script has started the node again.
    pub async fn end(&self, node: usize, signal: Signal) {
        let pid = self.pid(node);
        self.signal(node, signal);
        timeout(PATIENCE, async {
            while self.pid(node) == pid {
                look_again().await;
            }
        })
        .await
        .expect("the node is started again");
    }

    /// Stops the cluster, and asserts that the script succeeds and removes its directory.
    pub fn stop(mut self) {
        drop(self.script.stdin.take());
        assert!(self.script.wait().unwrap().success());
        assert!(!self.directory.exists(), "the script removes its directory");
    }
}

impl Drop for Cluster {
    /// Prints the end of each node's log if the test has failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in 0..NODES {
                let log = self.log(node);
                let lines: Vec<&str> = log.lines().collect();
                let end = lines.len().saturating_sub(SHOWN_LINES);
                eprintln!("node {}:\n{}", node + 1, lines[end..].join("\n"));
            }
        }
    }
}

/// A free port. The ports after this port, two for each node, are free as well.
pub fn free_ports() -> u16 {
    loop {
        let first = fastrand::u16(20_000..32_000);
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (first..=first + 2 * NODES as u16).all(free) {
            return first;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_behind_a_balancer_are_killed_at_random_and_no_order_is_lost() {
    let database = Database::fresh().await;
    let token = database.token(Stores::All).await;
    let cluster = Cluster::start(&database);
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let trial = Trial::begin(database.url(), &[cluster.address], &token, seed).await;
    for _ in 0..KILLS {
        trial.commits(COMMITS_BETWEEN).await;
        cluster.end(random.usize(..NODES), Signal::KILL).await;
    }
    trial.commits(COMMITS_BETWEEN).await;
    trial.judge(Repeats::InFaults).await;
    cluster.stop();
}
