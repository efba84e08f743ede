//! Composition root: starts and stops every part of a node, for `vestnik serve`, the tests and the benches.

mod database;
mod maintenance;
mod notify_guard;
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
use crate::token::Issuer;
use database::Node;

/// How long connections may take to close at a shutdown: then they are cut.
const DRAIN_DEADLINE: Duration = Duration::from_secs(15);
/// How much longer background work may take.
const BACKGROUND_GRACE: Duration = Duration::from_secs(3);
/// Between two checks whether the feed has started.
const FRESH_LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Open files of the program itself: streams, timers and listening sockets.
const OWN_FILES: usize = 16;
/// Connections to a database outside its pool: two of the feed, the listener, and the self-test.
const DATABASE_FILES: usize = 6;
/// Connections that are reserved for operators.
const OPS_FILES: usize = 8;
/// Connections to Telegram, and to webhooks.
const BOT_FILES: usize = 8;

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the database is wrong.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// A socket cannot be opened.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The settings of the bot are wrong.
    #[error(transparent)]
    Telegram(#[from] telegram::Unreachable),
    /// The client of the shops' APIs cannot be made.
    #[error("the shops' APIs cannot be asked from here: {0}")]
    ShopApi(#[from] reqwest::Error),
    /// The bound address is unknown.
    #[error("cannot read the bound address: {0}")]
    Address(#[source] std::io::Error),
}

/// A running engine.
pub struct Engine {
    address: SocketAddr,
    ops_address: Option<SocketAddr>,
    read_again: Arc<Notify>,
    databases: Vec<Arc<DatabaseContext>>,
    draining: watch::Sender<bool>,
    stop_accepting: CancellationToken,
    node: Node,
}

impl Engine {
    /// Binds, and starts every part. The databases need not be available yet: each part retries, and logs it.
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
        let node = Node {
            drained,
            connections: TaskTracker::new(),
            background: TaskTracker::new(),
            stop,
            issuer: config.jwt.as_ref().map(|jwt| Arc::new(Issuer::new(jwt))),
        };
        if let Some(issuer) = &node.issuer {
            node.background.spawn(Arc::clone(issuer).run(node.stop.clone()));
        }
        let (mut databases, mut placed) = (Vec::new(), Vec::new());
        for (number, (config, shard)) in config.shards().into_iter().enumerate() {
            let (name, stores) = shard.map_or((None, None), |shard| (Some(shard.name), shard.stores));
            let database = node.serve(&config, number, name)?;
            placed.push((Arc::clone(&database), stores));
            databases.push(database);
        }
        node.background
            .spawn(maintenance::report_listening(databases.clone(), node.stop.clone()));
        node.background.spawn(maintenance::sample_gauges(
            databases.clone(),
            server.limits(),
            node.stop.clone(),
        ));
        let certificate = watch_certificate(server.certificate(), Arc::clone(&read_again), node.stop.clone());
        node.background.spawn(certificate);
        let all = Arc::new(Databases::new(
            placed,
            &config.http,
            config.tls.is_some(),
            server.proxies(),
        ));
        if let Some(ops) = ops {
            // It serves the state of the node until the end of the shutdown.
            let routes = http::routes(Arc::clone(&all), &OPS_ROUTES);
            node.background
                .spawn(ops.run(routes, node.background.clone(), node.stop.clone()));
        }
        let (connections, stopped, served) = (node.connections.clone(), stop_accepting.clone(), databases.clone());
        let (background, stop) = (node.background.clone(), node.stop.clone());
        node.background.spawn(async move {
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
            node,
        })
    }

    /// The address for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for operators, if there is one.
    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops_address
    }

    /// Reloads the certificate. Open sessions are not affected.
    pub fn read_again(&self) {
        self.read_again.notify_one();
    }

    /// Events that an idle feed found without a notification. Any number above 0 is a defect.
    pub fn missed_notifications(&self) -> u64 {
        self.databases
            .iter()
            .map(|database| database.pulse.missed_notifications())
            .sum()
    }

    /// Resolves when every feed has read its journal.
    pub async fn until_fresh(&self) {
        let mut looks = interval(FRESH_LOOK_INTERVAL);
        while !self.databases.iter().all(|database| database.pulse.is_fresh()) {
            looks.tick().await;
        }
    }

    /// Closes every client with 1012, and ends within `DRAIN_DEADLINE`.
    pub async fn shut_down(self) {
        self.draining.send_replace(true);
        self.stop_accepting.cancel();
        for database in &self.databases {
            database.hub.router.drain();
        }
        let Node {
            connections,
            background,
            stop,
            ..
        } = self.node;
        connections.close();
        let deadline = Instant::now() + DRAIN_DEADLINE;
        if timeout_at(deadline, connections.wait()).await.is_err() {
            let open = connections.len();
            tracing::warn!(open, "connections were cut at the deadline of the shutdown");
        }
        stop.cancel();
        background.close();
        // Background work stops on cancellation; the grace time is for that alone.
        if timeout_at(deadline + BACKGROUND_GRACE, background.wait())
            .await
            .is_err()
        {
            tracing::warn!("background work was cut at the deadline of the shutdown");
        }
    }
}

/// Files that the program needs besides client sockets: without them it could not reconnect to Postgres.
fn reserved_files(config: &Config) -> u64 {
    let of_databases = config.shards().iter().fold(0, |files, (config, _)| {
        let bot = if config.telegram.is_some() { BOT_FILES } else { 0 };
        files + config.database.pool_size + DATABASE_FILES + bot
    });
    (OWN_FILES + OPS_FILES + of_databases) as u64
}
