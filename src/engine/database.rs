//! Starts the parts of a node that serve one database: feed and listener, router, durable sends, and maintenance. A
//! node serves one or several databases, which do not depend on each other.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::canary::CanaryTask;
use super::notify_guard::NotifyGuard;
use super::{Error, maintenance, revoked_tokens};
use crate::delivery::shared_bot::Heartbeat;
use crate::delivery::webhook_endpoint::run::Endpoints;
use crate::delivery::{cleanup, worker::Worker};
use crate::domain::event::StoreId;
use crate::fanout::router::Router;
use crate::fanout::session::Hub;
use crate::feed::listener::{self, ListenState, ListenerSignals};
use crate::feed::repeated_lookups::RepeatedLookups;
use crate::feed::{Feed, FeedHealth};
use crate::http::{self, Canary, CanaryReport, DatabaseContext, Loopback};
use crate::infra::config::{Config, Notify};
use crate::infra::db::{self, Turns, WAITING_PRESSES};
use crate::receipts::writer;
use crate::sources::derived::projector::Projector;
use crate::sources::lookup::Lookup;
use crate::sources::registry::Registry;
use crate::sources::status_change::ShopApi;
use crate::store::presence::Presence;
use crate::telegram::{self, Bot};
use crate::token::{Issuer, Token, Tokens, Usage};

/// The parts of a node that serve all its databases.
pub(super) struct SharedParts {
    /// Whether the node is shutting down.
    pub drained: watch::Receiver<bool>,
    /// Tracks the tasks of sessions and other client connections.
    pub connections: TaskTracker,
    /// Tracks the background tasks: all tasks except the tasks of client connections.
    pub background: TaskTracker,
    /// Cancelled when background tasks must stop.
    pub stop: CancellationToken,
    /// How the canary (self-test) connects to the node's own server.
    pub loopback: Loopback,
    /// The trusted issuer of JWTs. `None`: no JWT is accepted.
    pub issuer: Option<Arc<Issuer>>,
}

impl SharedParts {
    /// Starts all parts that serve a database. `number` is the index of the database among the databases of the node,
    /// from 0. `name` is the database's name in the settings, if it has a name.
    pub fn serve(&self, config: &Config, number: usize, name: Option<String>) -> Result<Arc<DatabaseContext>, Error> {
        let url = config.database.url.clone().ok_or(db::Error::Missing)?;
        let listen_url = config.database.listen_url.clone().unwrap_or_else(|| url.clone());
        db::introduce(&url, name.as_deref())?;
        db::parse(&listen_url, "listener")?;
        let (pool, token_pool) = (db::pool(&config.database)?, db::token_pool(&config.database)?);
        let bot = config.telegram.as_ref().map(telegram::Client::new).transpose()?;
        let session = &config.session;
        let router = Router::new(session.send_queue_bytes, session.max_per_store, session.max_per_token);
        let router = Arc::new(router.with_max_event_bytes(session.max_event_bytes));
        let (signals, health) = (Arc::new(ListenerSignals::default()), Arc::new(FeedHealth::default()));
        let (listen_state, listening) = watch::channel(ListenState::Disconnected);
        let (recorder, receipt_writer) = writer::recorder();
        let listener_state = listening.clone();
        let usage = Arc::new(Usage::default());
        let is_listening = move || *listener_state.borrow() == ListenState::Listening;
        let (tokens, token_lookups) = Tokens::new(
            token_pool.clone(),
            is_listening,
            Arc::clone(&usage),
            self.issuer.clone(),
        );
        let canary = config.ops.canary_interval.map(|interval| {
            let store = StoreId::of_canary(&format!("{:016x}", fastrand::u64(..)));
            Token::generate().map(|token| (interval, store, token))
        });
        let canary = canary.transpose()?;
        let tokens = Arc::new(match &canary {
            Some((_, store, token)) => tokens.with_canary(token, store),
            None => tokens,
        });
        let presence = Arc::new(Presence::default());
        let (new_events, news) = watch::channel(());
        let (sources, lookup) = (Arc::new(Registry::default()), Arc::new(Lookup::new(pool.clone())));
        let shop_api = Arc::new(ShopApi::new(config.webhook, &config.answers)?);
        let background = &self.background;

        let projector = Projector::new(pool.clone(), Arc::clone(&sources));
        background.spawn(projector.run(self.stop.clone()));
        background.spawn(receipt_writer.run(pool.clone(), Arc::clone(&sources), self.stop.clone()));
        background.spawn(token_lookups.run(self.stop.clone()));
        let by_token = Arc::clone(&router);
        background.spawn(usage.run(pool.clone(), move || by_token.sessions_by_token(), self.stop.clone()));
        background.spawn(Arc::clone(&presence).run(pool.clone(), self.stop.clone()));
        if let (Some(client), Some(settings)) = (bot, config.telegram.clone()) {
            let (pool, enqueued) = (pool.clone(), Arc::new(tokio::sync::Notify::new()));
            let node = format!("{:016x}", fastrand::u64(..));
            let heartbeat = Heartbeat::new(node.clone(), listen_url.clone());
            let bot = Bot::new(
                pool.clone(),
                client.clone(),
                Arc::clone(&sources),
                node.clone(),
                Arc::clone(&enqueued),
                Arc::clone(&shop_api),
            );
            background.spawn(bot.run(heartbeat.beating(), self.stop.clone()));
            background.spawn(heartbeat.run(self.stop.clone()));
            let worker = Worker {
                pool,
                client,
                settings,
                webhook: config.webhook,
                node,
                news: news.clone(),
                enqueued,
                database: name.clone(),
                sources: Arc::clone(&sources),
            };
            background.spawn(worker.run(self.stop.clone()));
        }
        let endpoints = Endpoints {
            pool: pool.clone(),
            webhook: config.webhook,
            max_event_bytes: session.max_event_bytes,
            news,
            sources: Arc::clone(&sources),
            lookup: Arc::clone(&lookup),
            recorder: recorder.clone(),
            database: name.clone(),
        };
        background.spawn(endpoints.run(self.stop.clone()));
        let feed = Feed {
            database: config.database.clone(),
            signals: Arc::clone(&signals),
            listen_state: listening.clone(),
            listen_url: listen_url.clone(),
            router: Arc::clone(&router),
            health: Arc::clone(&health),
            new_events,
            sources: Arc::clone(&sources),
            lookup: Arc::clone(&lookup),
        };
        background.spawn(feed.run(self.stop.clone()));
        let repeated_lookups = RepeatedLookups {
            sources: Arc::clone(&sources),
            lookup: Arc::clone(&lookup),
            router: Arc::clone(&router),
        };
        background.spawn(repeated_lookups.run(self.stop.clone()));
        background.spawn(maintenance::watch_health(
            Arc::clone(&health),
            Arc::clone(&router),
            self.stop.clone(),
        ));
        background.spawn(revoked_tokens::close_sessions(
            token_pool.clone(),
            Arc::clone(&router),
            Arc::clone(&tokens),
            Arc::clone(&signals),
            listening.clone(),
            self.stop.clone(),
        ));
        match config.database.notify {
            Notify::On => {
                let guard = NotifyGuard {
                    pool: pool.clone(),
                    url: listen_url.clone(),
                    signals: Arc::clone(&signals),
                    limit: config.database.notify_queue_limit,
                    database: name.clone(),
                };
                background.spawn(guard.run(self.stop.clone()));
                let stop = self.stop.clone();
                background.spawn(async move { listener::run(listen_url, url, &signals, listen_state, stop).await });
            }
            Notify::Off => drop(listen_state.send_replace(ListenState::Off)),
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
            shop_api,
            changes: Turns::new(config.database.pool_size / 2, WAITING_PRESSES),
            tokens,
            ping_interval: config.session.ping_interval,
            presence,
            panel_streams: Arc::default(),
            recorder,
            sources,
            lookup,
        });
        let first = canary.as_ref().map_or(Canary::Off, |_| Canary::Waiting);
        let (canary_now, canary_seen) = watch::channel(first);
        let database = Arc::new(DatabaseContext {
            number,
            name,
            hub,
            feed_health: health,
            listen_state: listening,
            draining: self.drained.clone(),
            sessions: self.connections.clone(),
            canary: CanaryReport {
                store: canary.as_ref().map(|(_, store, _)| store.clone()),
                now: canary_seen,
            },
            bot: match config.telegram {
                Some(_) => http::Bot::On,
                None => http::Bot::Off,
            },
            step_back: config.answers.step_back,
        });
        if let Some((interval, store, token)) = canary {
            let canary = CanaryTask {
                database: Arc::clone(&database),
                loopback: self.loopback.clone(),
                store,
                token,
                interval,
                now: canary_now,
            };
            background.spawn(canary.run(self.stop.clone()));
        }
        Ok(database)
    }
}
