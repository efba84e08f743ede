//! One database, served: its feed and listener, the router of its sessions, its durable sends, and the upkeep of its
//! tables. A node has one, or several side by side that know nothing of each other.

use std::sync::Arc;

use tokio::sync::{Notify as WakeReason, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::notify_guard::NotifyGuard;
use super::{Error, maintenance};
use crate::delivery::shared_bot::Heartbeat;
use crate::delivery::{cleanup, worker::Worker};
use crate::fanout::router::Router;
use crate::fanout::session::Hub;
use crate::feed::listener::{self, Bell, Hearing};
use crate::feed::{Feed, FeedHealth};
use crate::http::{self, DatabaseContext};
use crate::infra::config::{Config, Notify};
use crate::infra::db::{self, Turns, WAITING_PRESSES};
use crate::receipts::writer;
use crate::sources::derived::projector::Projector;
use crate::sources::lookup::Lookup;
use crate::sources::registry::Registry;
use crate::store::presence::Presence;
use crate::telegram::{self, update_poller::Bot};
use crate::token::{Issuer, Tokens, Usage};

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
    /// Whose JWTs are believed.
    pub issuer: Option<Arc<Issuer>>,
}

impl Node {
    /// Starts every part of a database. `number` is its place among several, `name` its name.
    pub fn serve(&self, config: &Config, number: usize, name: Option<String>) -> Result<Arc<DatabaseContext>, Error> {
        let url = config.database.url.clone().ok_or(db::Error::Missing)?;
        let listen_url = config.database.listen_url.clone().unwrap_or_else(|| url.clone());
        db::introduce(&url, name.as_deref())?;
        db::parse(&listen_url, "listener")?;
        let (pool, token_pool) = (db::pool(&config.database)?, db::token_pool(&config.database)?);
        let bot = config.telegram.as_ref().map(telegram::Client::new).transpose()?;
        let session = &config.session;
        let router = Arc::new(Router::new(
            session.queue_bytes,
            session.max_per_store,
            session.max_per_token,
        ));
        let (bell, pulse) = (Arc::new(Bell::default()), Arc::new(FeedHealth::default()));
        let (hearing, heard) = watch::channel(Hearing::Disconnected);
        let (recorder, ledger) = writer::recorder();
        let notified = heard.clone();
        let usage = Arc::new(Usage::default());
        let is_notified = move || *notified.borrow() == Hearing::Listening;
        let (tokens, look_ups) = Tokens::new(token_pool.clone(), is_notified, Arc::clone(&usage), self.issuer.clone());
        let tokens = Arc::new(tokens);
        let (presence, news) = (Arc::new(Presence::default()), Arc::new(WakeReason::new()));
        let (sources, lookup) = (Arc::new(Registry::default()), Arc::new(Lookup::new(pool.clone())));
        let background = &self.background;

        let projector = Projector::new(pool.clone(), Arc::clone(&sources));
        background.spawn(projector.run(self.stop.clone()));
        background.spawn(ledger.run(pool.clone(), Arc::clone(&sources), self.stop.clone()));
        background.spawn(look_ups.run(self.stop.clone()));
        let by_token = Arc::clone(&router);
        background.spawn(usage.run(pool.clone(), move || by_token.sessions_by_token(), self.stop.clone()));
        if let (Some(client), Some(settings)) = (bot, config.telegram.clone()) {
            background.spawn(Arc::clone(&presence).run(pool.clone(), self.stop.clone()));
            let (pool, news, planned) = (pool.clone(), Arc::clone(&news), Arc::new(WakeReason::new()));
            let node = format!("{:016x}", fastrand::u64(..));
            let heartbeat = Heartbeat::new(node.clone(), listen_url.clone());
            let bot = Bot::new(
                pool.clone(),
                client.clone(),
                Arc::clone(&sources),
                node.clone(),
                Arc::clone(&planned),
            );
            background.spawn(bot.run(heartbeat.beating(), self.stop.clone()));
            background.spawn(heartbeat.run(self.stop.clone()));
            let worker = Worker {
                pool,
                client,
                settings,
                webhook: config.webhook,
                node,
                news,
                planned,
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
        background.spawn(maintenance::watch_pulse(
            Arc::clone(&pulse),
            Arc::clone(&router),
            self.stop.clone(),
        ));
        background.spawn(maintenance::withdraw_tokens(
            token_pool.clone(),
            Arc::clone(&router),
            Arc::clone(&tokens),
            Arc::clone(&bell),
            heard.clone(),
            self.stop.clone(),
        ));
        match config.database.notify {
            Notify::On => {
                let guard = NotifyGuard {
                    pool: pool.clone(),
                    url: listen_url.clone(),
                    bell: Arc::clone(&bell),
                    limit: config.database.notify_queue_limit,
                    database: name.clone(),
                };
                background.spawn(guard.run(self.stop.clone()));
                let stop = self.stop.clone();
                background.spawn(async move { listener::run(listen_url, url, &bell, hearing, stop).await });
            }
            Notify::Off => drop(hearing.send_replace(Hearing::Off)),
        }
        background.spawn(maintenance::trim(
            pool.clone(),
            config.journal.retention,
            self.stop.clone(),
        ));
        background.spawn(maintenance::end_pauses(pool.clone(), self.stop.clone()));
        if let Some(pause) = config.journal.reconcile_interval {
            background.spawn(maintenance::reconcile(
                pool.clone(),
                name.clone(),
                pause,
                self.stop.clone(),
            ));
        }
        background.spawn(cleanup::run(pool.clone(), config.journal.retention, self.stop.clone()));

        let hub = Arc::new(Hub {
            router,
            pool,
            token_pool,
            reads: db::reads(&config.database)?,
            changes: Turns::new(config.database.pool_size / 2, WAITING_PRESSES),
            tokens,
            ping_interval: config.session.ping_interval,
            presence,
            recorder,
            sources,
            lookup,
        });
        Ok(Arc::new(DatabaseContext {
            number,
            name,
            hub,
            pulse,
            hearing: heard,
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
