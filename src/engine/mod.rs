//! Puts the parts together and runs them: what `vestnik serve` is, and what the tests and benches start.

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

/// How long clients may take to go at a shutdown: then they are cut.
const DRAIN_DEADLINE: Duration = Duration::from_secs(15);
/// How much longer the rest may take.
const BACKGROUND_GRACE: Duration = Duration::from_secs(3);
/// Between two looks at whether the feed has begun.
const FRESH_LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Files of the program itself: its streams, timers and sockets that listen.
const OWN_FILES: usize = 16;
/// Connections to a database beside those of its pool: the feed's two, the listener's, and what proves it.
const DATABASE_FILES: usize = 6;
/// Connections of operators that there is always room for.
const OPS_FILES: usize = 8;
/// Connections to Telegram, and to webhooks.
const BOT_FILES: usize = 8;

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database's address.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// The sockets.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The bot's settings.
    #[error(transparent)]
    Telegram(#[from] telegram::Unreachable),
    /// The socket's own address cannot be told.
    #[error("cannot tell the address that was bound: {0}")]
    Address(#[source] std::io::Error),
}

/// A running engine.
pub struct Engine {
    address: SocketAddr,
    ops_address: Option<SocketAddr>,
    read_again: Arc<Notify>,
    sites: Vec<Arc<DatabaseContext>>,
    draining: watch::Sender<bool>,
    stop_accepting: CancellationToken,
    node: Node,
}

impl Engine {
    /// Binds, and starts every part. The databases need not be there yet: each part keeps trying, and says so.
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
        let (mut sites, mut placed) = (Vec::new(), Vec::new());
        for (number, (config, shard)) in config.shards().into_iter().enumerate() {
            let (name, stores) = shard.map_or((None, None), |shard| (Some(shard.name), shard.stores));
            let site = node.serve(&config, number, name)?;
            placed.push((Arc::clone(&site), stores));
            sites.push(site);
        }
        node.background.spawn(maintenance::sample_gauges(
            sites.clone(),
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
            // It says how the node is to the end: whether it goes down, too.
            let routes = http::routes(Arc::clone(&all), &OPS_ROUTES);
            node.background
                .spawn(ops.run(routes, node.background.clone(), node.stop.clone()));
        }
        let (connections, stopped, served) = (node.connections.clone(), stop_accepting.clone(), sites.clone());
        let (background, stop) = (node.background.clone(), node.stop.clone());
        node.background.spawn(async move {
            join_all(
                served
                    .into_iter()
                    .map(|site| warm_up::warm(site, &background, stop.clone())),
            )
            .await;
            server.run(http::routes(all, &ROUTES), connections, stopped).await;
        });
        Ok(Self {
            address,
            ops_address,
            read_again,
            sites,
            draining,
            stop_accepting,
            node,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for operators, if it does.
    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops_address
    }

    /// Reads again what may change while it runs: the certificate. No session notices.
    pub fn read_again(&self) {
        self.read_again.notify_one();
    }

    /// Events that a sleeping feed found though nothing rang for them. A defect, where it is not 0.
    pub fn missed_notifications(&self) -> u64 {
        self.sites.iter().map(|site| site.pulse.missed_notifications()).sum()
    }

    /// Resolves when every feed stands where its journal stands.
    pub async fn until_fresh(&self) {
        let mut looks = interval(FRESH_LOOK_INTERVAL);
        while !self.sites.iter().all(|site| site.pulse.is_fresh()) {
            looks.tick().await;
        }
    }

    /// Lets every client go with 1012, and ends within `DRAIN_DEADLINE`.
    pub async fn shut_down(self) {
        self.draining.send_replace(true);
        self.stop_accepting.cancel();
        for site in &self.sites {
            site.hub.router.drain();
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
            tracing::warn!(open, "connections were cut at the shutdown's deadline");
        }
        stop.cancel();
        background.close();
        // Background work ends when it is told; a moment more than the deadline is for that alone.
        if timeout_at(deadline + BACKGROUND_GRACE, background.wait())
            .await
            .is_err()
        {
            tracing::warn!("background work was cut at the shutdown's deadline");
        }
    }
}

/// Files that the program needs beside the sockets of its clients: without them it could not reach Postgres again.
fn reserved_files(config: &Config) -> u64 {
    let of_databases = config.shards().iter().fold(0, |files, (config, _)| {
        let bot = if config.telegram.is_some() { BOT_FILES } else { 0 };
        files + config.database.pool_size + DATABASE_FILES + bot
    });
    (OWN_FILES + OPS_FILES + of_databases) as u64
}
