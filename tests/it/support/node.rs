//! A node that runs as in production: a separate process, whose whole log the test reads.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::app::PATIENCE;
use super::db::Database;
use super::look_again;
use super::telegram::{SECRET, TOKEN};

/// The name of every customer in tests that start nodes. No log line may contain it.
pub const CUSTOMER: &str = "Кузьма Скороходов";
/// Strings that no log line may contain. They are parts of tokens, of customers' names, and of the names of people who
/// write to the bot.
const NEVER_LOGGED: [&str; 5] = [SECRET, "vst_", "Кузьма", "Скороходов", "Person1"];

/// A running `vestnik serve`. Dropping this value kills the process, and asserts that its log contains no secret.
pub struct Node {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    changed: watch::Receiver<usize>,
}

impl Node {
    /// Starts a node on a database, with the Bot API at `api_url`. `settings` are environment variables; their names
    /// are given without the prefix `VESTNIK_`.
    pub fn start(database_url: &str, api_url: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
        command
            .arg("serve")
            .env("DATABASE_URL", database_url)
            .env("VESTNIK_LISTEN", "127.0.0.1:0")
            .env("VESTNIK_OPS_LISTEN", "127.0.0.1:0")
            // Switch the canary off: it writes synthetic orders, and tests count the rows of the journal.
            .env("VESTNIK_OPS_CANARY_INTERVAL_SECONDS", "0")
            .env("VESTNIK_TELEGRAM_TOKEN", TOKEN)
            .env("VESTNIK_TELEGRAM_API_URL", api_url)
            .env("VESTNIK_LOG_FILTER", "info,vestnik=trace")
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for (name, value) in settings {
            command.env(format!("VESTNIK_{name}"), value);
        }
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (changing, changed) = watch::channel(0);
        let lines = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
                changing.send_modify(|count| *count += 1);
            }
        });
        Self { child, said, changed }
    }

    /// Starts a node, and waits until it serves requests.
    pub async fn serving(database: &Database, api_url: &str, settings: &[(&str, &str)]) -> Self {
        let node = Self::start(database.url(), api_url, settings);
        node.until_said("serving").await;
        node
    }

    /// The id of the node's process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The lines that the node has logged.
    pub fn log(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Waits until a log line contains `words`, and returns that line.
    pub async fn until_said(&self, words: &str) -> String {
        self.until_said_within(PATIENCE, words).await
    }

    /// Like [`Node::until_said`], but waits for at most `patience`.
    pub async fn until_said_within(&self, patience: Duration, words: &str) -> String {
        let mut changed = self.changed.clone();
        let waited = timeout(patience, async {
            loop {
                changed.borrow_and_update();
                if let Some(line) = self.log().into_iter().find(|line| line.contains(words)) {
                    return line;
                }
                if changed.changed().await.is_err() {
                    panic!("the node ended without logging {words:?}: {:#?}", self.log());
                }
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("the node did not log {words:?}: {:#?}", self.log()))
    }

    /// The address at which the node serves clients.
    pub async fn address(&self) -> SocketAddr {
        self.said_address("address=").await
    }

    /// The address at which the node serves operators.
    pub async fn ops_address(&self) -> SocketAddr {
        self.said_address("ops=").await
    }

    async fn said_address(&self, field: &str) -> SocketAddr {
        let line = self.until_said("serving").await;
        let (_, rest) = line.split_once(field).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The value of a metric in the node's `/metrics`, or `None` if the metric is missing.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.metrics().await;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.trim().parse().unwrap())
    }

    /// The whole text of the node's `/metrics`.
    pub async fn metrics(&self) -> String {
        let mut socket = TcpStream::connect(self.ops_address().await).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        socket.write_all(request).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Waits until `is_so` returns true for the value of the metric.
    pub async fn until_metric(&self, name: &str, is_so: impl Fn(f64) -> bool) {
        let waited = timeout(PATIENCE, async {
            while !self.metric(name).await.is_some_and(&is_so) {
                look_again().await;
            }
        });
        if waited.await.is_err() {
            panic!(
                "the metric {name} did not reach the expected value: {}",
                self.metrics().await
            );
        }
    }

    /// Sends a signal to the node's process.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Stops the process with SIGSTOP until the test sends `Signal::CONT`. When this function returns, no thread of the
    /// process runs.
    pub async fn stop(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.pid().as_raw_nonzero());
        let is_stopped = |thread: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            // In `/proc`, the thread's state follows its name, which is in parentheses.
            stat.rsplit_once(") ").unwrap().1.starts_with('T')
        };
        let stopped = timeout(PATIENCE, async {
            while !std::fs::read_dir(&threads).unwrap().all(is_stopped) {
                look_again().await;
            }
        });
        stopped.await.expect("the process stops");
    }

    /// Kills the process without a shutdown, as a crash would. Does nothing if the process has ended.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the process has ended by itself or by a signal.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        timeout(PATIENCE, async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                look_again().await;
            }
        })
        .await
        .expect("the process ends")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            return;
        }
        for line in self.log() {
            for secret in NEVER_LOGGED {
                assert!(!line.contains(secret), "a log line shows {secret:?}: {line}");
            }
        }
    }
}
