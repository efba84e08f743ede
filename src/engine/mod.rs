//! Puts the parts together and runs them: what `vestnik serve` is, and what the tests and benches start.

mod shard;
mod upkeep;
mod warm;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::db;
use crate::http::{self, Server, Site, Sites};
use crate::metrics;
use crate::telegram;
use shard::Node;

/// How long clients may take to go at a shutdown: then they are cut.
const DRAIN_DEADLINE: Duration = Duration::from_secs(15);
/// How much longer the rest may take.
const BACKGROUND_GRACE: Duration = Duration::from_secs(3);
/// Between two looks at whether the feed has begun.
const FRESH_LOOK_INTERVAL: Duration = Duration::from_millis(10);

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
    sites: Vec<Arc<Site>>,
    draining: watch::Sender<bool>,
    stop_accepting: CancellationToken,
    node: Node,
}

impl Engine {
    /// Binds, and starts every part. The databases need not be there yet: each part keeps trying, and says so.
    pub async fn start(config: &Config) -> Result<Self, Error> {
        metrics::install();
        let server = Server::bind(&config.http, config.tls.as_ref()).await?;
        let address = server.address().map_err(Error::Address)?;
        let (draining, drained) = watch::channel(false);
        let (stop, stop_accepting) = (CancellationToken::new(), CancellationToken::new());
        let node = Node {
            drained,
            connections: TaskTracker::new(),
            background: TaskTracker::new(),
            stop,
        };
        let (mut sites, mut placed) = (Vec::new(), Vec::new());
        for (config, shard) in config.shards() {
            let (name, stores) = shard.map_or((None, None), |shard| (Some(shard.name), shard.stores));
            let site = node.serve(&config, name)?;
            placed.push((Arc::clone(&site), stores));
            sites.push(site);
        }
        node.background
            .spawn(upkeep::watch_vitals(sites.clone(), node.stop.clone()));
        let (connections, stopped, served) = (node.connections.clone(), stop_accepting.clone(), sites.clone());
        node.background.spawn(async move {
            join_all(served.iter().map(|site| warm::warm(site))).await;
            server.run(Arc::new(Sites::new(placed)), connections, stopped).await;
        });
        Ok(Self {
            address,
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

    /// Events that a sleeping feed found though nothing rang for them. A defect, where it is not 0.
    pub fn unrung(&self) -> u64 {
        self.sites.iter().map(|site| site.pulse.unrung()).sum()
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
