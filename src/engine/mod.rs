//! Starts and stops every part of a node, for `vestnik serve`, the tests and the benches.

mod canary;
mod database;
mod maintenance;
mod notify_guard;
mod revoked_tokens;
mod warm_up;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::{self, DatabaseContext, Databases, OPS_ROUTES, ROUTES, Server, watch_certificate};
use crate::infra::config::Config;
use crate::infra::db;
use crate::infra::metrics;
use crate::telegram;
use crate::token::{self, Issuer};
use database::SharedParts;

/// How long connections may take to close when the node stops. Connections that are still open after this time are cut.
const DRAIN_DEADLINE: Duration = Duration::from_secs(15);
/// When the node stops, background tasks must end within this time after `DRAIN_DEADLINE`.
const BACKGROUND_GRACE: Duration = Duration::from_secs(3);
/// Interval at which a starting node checks whether each feed has read its journal.
const FRESH_LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Number of open files that are reserved for the node itself: standard streams, timers and listening sockets.
const OWN_FILES: usize = 16;
/// Number of open files that are reserved for each database besides its main pool. For example, the feed, the listener
/// and the self-test have connections of their own.
const DATABASE_FILES: usize = 6;
/// Number of open files that are reserved for operators' connections.
const OPS_FILES: usize = 8;
/// Number of open files that are reserved for each database with a bot: for connections to Telegram and to webhooks.
const BOT_FILES: usize = 8;

/// The reason why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A database's URL is missing or invalid, or a pool could not be created.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// An HTTP server could not be started, for example because its port is in use.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The settings of the Telegram bot are invalid.
    #[error(transparent)]
    Telegram(#[from] telegram::Unreachable),
    /// The HTTP client for shops' own APIs could not be created.
    #[error("the HTTP client for the shops' APIs cannot be built: {0}")]
    ShopApi(#[from] reqwest::Error),
    /// The token that the canary (self-test) uses could not be created.
    #[error(transparent)]
    Token(#[from] token::Error),
    /// The operating system does not return the address on which the server listens.
    #[error("cannot read the bound address: {0}")]
    Address(#[source] std::io::Error),
}

/// All running parts of a node.
pub struct Engine {
    address: SocketAddr,
    ops_address: Option<SocketAddr>,
    read_again: Arc<Notify>,
    databases: Vec<Arc<DatabaseContext>>,
    draining: watch::Sender<bool>,
    stop_accepting: CancellationToken,
    shared: SharedParts,
}

impl Engine {
    /// Opens the sockets, and starts all parts of the node. The databases need not be available yet, because each part
    /// retries and logs its failures.
    pub async fn start(config: &Config) -> Result<Self, Error> {
        metrics::install();
        let server = Server::bind(&config.http, config.tls.as_ref(), reserved_files(config))?;
        let address = server.address().map_err(Error::Address)?;
        let ops = config.ops.listen.map(Server::bind_ops).transpose()?;
        let ops_address = ops.as_ref().map(Server::address).transpose();
        let ops_address = ops_address.map_err(Error::Address)?;
        let read_again = Arc::new(Notify::new());
        let (draining, drained) = watch::channel(false);
        let (stop, stop_accepting) = (CancellationToken::new(), CancellationToken::new());
        let shared = SharedParts {
            drained,
            connections: TaskTracker::new(),
            background: TaskTracker::new(),
            stop,
            loopback: server.loopback(&config.http.hosts).map_err(Error::Address)?,
            issuer: config.jwt.as_ref().map(|jwt| Arc::new(Issuer::new(jwt))),
        };
        if let Some(issuer) = &shared.issuer {
            shared.background.spawn(Arc::clone(issuer).run(shared.stop.clone()));
        }
        let (mut databases, mut placed) = (Vec::new(), Vec::new());
        for (number, (config, served)) in config.each_database().into_iter().enumerate() {
            let (name, stores) = served.map_or((None, None), |served| (Some(served.name), served.stores));
            let database = shared.serve(&config, number, name)?;
            placed.push((Arc::clone(&database), stores));
            databases.push(database);
        }
        shared
            .background
            .spawn(maintenance::report_listening(databases.clone(), shared.stop.clone()));
        shared.background.spawn(maintenance::sample_gauges(
            databases.clone(),
            server.limits(),
            shared.stop.clone(),
        ));
        let certificate = watch_certificate(server.certificate(), Arc::clone(&read_again), shared.stop.clone());
        shared.background.spawn(certificate);
        let all = Arc::new(Databases::new(
            placed,
            &config.http,
            config.tls.is_some(),
            server.proxies(),
        ));
        if let Some(ops) = ops {
            // The operators' server runs until the end of the shutdown, so that it can report the state of the node.
            let routes = http::routes(Arc::clone(&all), &OPS_ROUTES);
            shared
                .background
                .spawn(ops.run(routes, shared.background.clone(), shared.stop.clone()));
        }
        let (connections, stopped, served) = (shared.connections.clone(), stop_accepting.clone(), databases.clone());
        let (background, stop) = (shared.background.clone(), shared.stop.clone());
        shared.background.spawn(async move {
            join_all(
                served
                    .into_iter()
                    .map(|database| warm_up::warm(database, &background, stop.clone())),
            )
            .await;
            server.run(http::routes(all, &ROUTES), connections, stopped).await;
        });
        Ok(Self {
            address,
            ops_address,
            read_again,
            databases,
            draining,
            stop_accepting,
            shared,
        })
    }

    /// The address of the HTTP server for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the HTTP server for operators. `None`: this server is off.
    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops_address
    }

    /// Reloads the TLS certificate. Open sessions keep their connections.
    pub fn read_again(&self) {
        self.read_again.notify_one();
    }

    /// Number of events that idle feeds found only by a fallback read, because no notification had arrived. A number
    /// above 0 indicates a defect.
    pub fn missed_notifications(&self) -> u64 {
        self.databases
            .iter()
            .map(|database| database.feed_health.missed_notifications())
            .sum()
    }

    /// Waits until each feed has read its journal.
    pub async fn until_fresh(&self) {
        let mut looks = interval(FRESH_LOOK_INTERVAL);
        while !self.databases.iter().all(|database| database.feed_health.is_fresh()) {
            looks.tick().await;
        }
    }

    /// Stops the node. Closes each client's session with the code 1012, which tells the client to reconnect. After
    /// `DRAIN_DEADLINE`, cuts the connections that are still open.
    pub async fn shut_down(self) {
        self.draining.send_replace(true);
        self.stop_accepting.cancel();
        for database in &self.databases {
            database.hub.router.drain();
        }
        let SharedParts {
            connections,
            background,
            stop,
            ..
        } = self.shared;
        connections.close();
        let deadline = Instant::now() + DRAIN_DEADLINE;
        if timeout_at(deadline, connections.wait()).await.is_err() {
            let open = connections.len();
            tracing::warn!(open, "connections were cut at the deadline of the shutdown");
        }
        stop.cancel();
        background.close();
        // Background tasks stop soon after they are cancelled. The grace period is the time for this.
        if timeout_at(deadline + BACKGROUND_GRACE, background.wait())
            .await
            .is_err()
        {
            tracing::warn!("background work was cut at the deadline of the shutdown");
        }
    }
}

/// Number of files that a node needs besides its clients' sockets. These files are reserved, so that the node can
/// always reconnect to Postgres.
fn reserved_files(config: &Config) -> u64 {
    let of_databases = config.each_database().iter().fold(0, |files, (config, _)| {
        let bot = if config.telegram.is_some() { BOT_FILES } else { 0 };
        files + config.database.pool_size + DATABASE_FILES + bot
    });
    (OWN_FILES + OPS_FILES + of_databases) as u64
}
