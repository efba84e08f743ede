//! One database, served: its feed and listener, the router of its sessions, its durable sends, and the upkeep of its
//! tables. A node has one, or several side by side that know nothing of each other.

use std::sync::Arc;

use tokio::sync::{Notify as Wake, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Error, upkeep};
use crate::config::{Config, Notify};
use crate::db;
use crate::delivery::{forget, worker::Worker};
use crate::feed::{Feed, Pulse};
use crate::http::{self, Site};
use crate::listener::{self, Bell, Hearing};
use crate::presence::Presence;
use crate::reach;
use crate::router::Router;
use crate::session::Hub;
use crate::sources::derived::projector::Projector;
use crate::sources::lookup::Lookup;
use crate::sources::registry::Registry;
use crate::telegram::{self, bot::Bot};

/// What all databases of a node share.
pub(super) struct Node {
    /// Whether it is going down.
    pub drained: watch::Receiver<bool>,
    /// Where sessions run.
    pub connections: TaskTracker,
    /// Where everything else runs.
    pub background: TaskTracker,
    /// Ends what runs in the background.
    pub stop: CancellationToken,
}

impl Node {
    /// Starts every part of a database. `name` is its name among several.
    pub fn serve(&self, config: &Config, name: Option<String>) -> Result<Arc<Site>, Error> {
        let url = config.database.url.clone().ok_or(db::Error::Missing)?;
        let listen_url = config.database.listen_url.clone().unwrap_or_else(|| url.clone());
        db::parse(&listen_url, "listener")?;
        let pool = db::pool(&config.database)?;
        let bot = config.telegram.as_ref().map(telegram::Client::new).transpose()?;
        let router = Arc::new(Router::new(config.session.queue_bytes, config.session.max_per_store));
        let (bell, pulse) = (Arc::new(Bell::default()), Arc::new(Pulse::default()));
        let (hearing, heard) = watch::channel(Hearing::Disconnected);
        let (recorder, ledger) = reach::recorder();
        let (presence, news) = (Arc::new(Presence::default()), Arc::new(Wake::new()));
        let (sources, lookup) = (Arc::new(Registry::default()), Arc::new(Lookup::new(pool.clone())));
        let background = &self.background;

        let projector = Projector::new(pool.clone(), Arc::clone(&sources));
        background.spawn(projector.run(self.stop.clone()));
        background.spawn(ledger.run(pool.clone(), Arc::clone(&sources), self.stop.clone()));
        if let (Some(client), Some(settings)) = (bot, config.telegram.clone()) {
            background.spawn(Arc::clone(&presence).run(pool.clone(), self.stop.clone()));
            let (pool, news) = (pool.clone(), Arc::clone(&news));
            let ear = Bot {
                pool: pool.clone(),
                client: client.clone(),
                sources: Arc::clone(&sources),
            };
            background.spawn(ear.run(self.stop.clone()));
            let worker = Worker {
                pool,
                client,
                settings,
                news,
                database: name.clone(),
                sources: Arc::clone(&sources),
            };
            background.spawn(worker.run(self.stop.clone()));
        }
        let feed = Feed {
            database: config.database.clone(),
            bell: Arc::clone(&bell),
            hearing: heard.clone(),
            listen_url: listen_url.clone(),
            router: Arc::clone(&router),
            pulse: Arc::clone(&pulse),
            news,
            sources: Arc::clone(&sources),
            lookup: Arc::clone(&lookup),
        };
        background.spawn(feed.run(self.stop.clone()));
        background.spawn(upkeep::withdraw_tokens(
            pool.clone(),
            Arc::clone(&router),
            Arc::clone(&bell),
            heard.clone(),
            self.stop.clone(),
        ));
        match config.database.notify {
            Notify::On => {
                let stop = self.stop.clone();
                background.spawn(async move { listener::run(listen_url, url, &bell, hearing, stop).await });
            }
            Notify::Off => drop(hearing.send_replace(Hearing::Off)),
        }
        background.spawn(upkeep::trim(pool.clone(), config.journal.retention, self.stop.clone()));
        if let Some(pause) = config.journal.reconcile_interval {
            background.spawn(upkeep::reconcile(pool.clone(), name.clone(), pause, self.stop.clone()));
        }
        background.spawn(forget::run(pool.clone(), config.journal.retention, self.stop.clone()));

        let hub = Arc::new(Hub {
            router,
            pool,
            ping_interval: config.session.ping_interval,
            presence,
            recorder,
            sources,
            lookup,
        });
        Ok(Arc::new(Site {
            name,
            hub,
            pulse,
            hearing: heard,
            allowed_origins: config.http.allowed_origins.clone(),
            draining: self.drained.clone(),
            sessions: self.connections.clone(),
            bot: match config.telegram {
                Some(_) => http::Bot::On,
                None => http::Bot::Off,
            },
            step_back: config.answers.step_back,
        }))
    }
}
