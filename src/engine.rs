//! Puts the parts together and runs them: what `vestnik serve` is, and what the tests and benches start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::{Notify as Wake, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Notify};
use crate::delivery::worker::Worker;
use crate::feed::{Feed, Pulse};
use crate::http::{self, Server, Site};
use crate::journal::{self, Trimmed};
use crate::listener::{self, Bell, Hearing};
use crate::metrics;
use crate::presence::Presence;
use crate::reach;
use crate::router::Router;
use crate::session::Hub;
use crate::telegram::{self, bot::Bot};
use crate::{db, token};

/// How long clients may take to go at a shutdown: then they are cut.
const DRAIN_DEADLINE: Duration = Duration::from_secs(15);
/// How much longer the rest may take.
const BACKGROUND_GRACE: Duration = Duration::from_secs(3);
/// Between two looks for revoked tokens, should a notification be lost.
const TOKEN_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// The same, where no notification reaches us, or the look that one asked for failed.
const TOKEN_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks for events to trim.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);
/// How long a batch may take to be trimmed: over a half-open connection it would take for ever.
const TRIM_DEADLINE: Duration = Duration::from_secs(60);
/// Between two trimmed batches, so that trimming never fills the disk's queue.
const TRIM_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at whether the feed has begun.
const FRESH_LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Between two looks at the figures of Postgres itself.
const VITALS_INTERVAL: Duration = Duration::from_secs(15);

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
    pulse: Arc<Pulse>,
    router: Arc<Router>,
    draining: watch::Sender<bool>,
    stop_accepting: CancellationToken,
    stop: CancellationToken,
    connections: TaskTracker,
    background: TaskTracker,
}

impl Engine {
    /// Binds, and starts every part. The database need not be there yet: each part keeps trying, and says so.
    pub async fn start(config: &Config) -> Result<Self, Error> {
        metrics::install();
        let url = config.database.url.clone().ok_or(db::Error::Missing)?;
        let listen_url = config.database.listen_url.clone().unwrap_or_else(|| url.clone());
        db::parse(&listen_url, "listener")?;
        let pool = db::pool(&config.database)?;
        let bot = config.telegram.as_ref().map(telegram::Client::new).transpose()?;
        let server = Server::bind(&config.http, config.tls.as_ref()).await?;
        let address = server.address().map_err(Error::Address)?;

        let router = Arc::new(Router::new(config.session.queue_bytes, config.session.max_per_store));
        let (bell, pulse) = (Arc::new(Bell::default()), Arc::new(Pulse::default()));
        let (hearing, heard) = watch::channel(Hearing::Disconnected);
        let (draining, drained) = watch::channel(false);
        let (stop, stop_accepting) = (CancellationToken::new(), CancellationToken::new());
        let (connections, background) = (TaskTracker::new(), TaskTracker::new());

        let (recorder, ledger) = reach::recorder();
        let presence = Arc::new(Presence::default());
        let news = Arc::new(Wake::new());
        background.spawn(ledger.run(pool.clone(), stop.clone()));
        if let (Some(client), Some(settings)) = (bot, config.telegram.clone()) {
            background.spawn(Arc::clone(&presence).run(pool.clone(), stop.clone()));
            let (pool, news) = (pool.clone(), Arc::clone(&news));
            let ear = Bot {
                pool: pool.clone(),
                client: client.clone(),
            };
            background.spawn(ear.run(stop.clone()));
            let worker = Worker {
                pool,
                client,
                settings,
                news,
            };
            background.spawn(worker.run(stop.clone()));
        }

        let feed = Feed {
            database: config.database.clone(),
            bell: Arc::clone(&bell),
            hearing: heard.clone(),
            listen_url: listen_url.clone(),
            router: Arc::clone(&router),
            pulse: Arc::clone(&pulse),
            news,
        };
        background.spawn(feed.run(stop.clone()));
        background.spawn(withdraw_tokens(
            pool.clone(),
            Arc::clone(&router),
            Arc::clone(&bell),
            heard.clone(),
            stop.clone(),
        ));
        match config.database.notify {
            Notify::On => {
                let (bell, stop) = (Arc::clone(&bell), stop.clone());
                background.spawn(async move { listener::run(listen_url, url, &bell, hearing, stop).await });
            }
            Notify::Off => drop(hearing.send_replace(Hearing::Off)),
        }
        background.spawn(trim(pool.clone(), config.journal.retention, stop.clone()));
        background.spawn(watch_vitals(
            pool.clone(),
            Arc::clone(&router),
            heard.clone(),
            stop.clone(),
        ));

        let hub = Arc::new(Hub {
            router: Arc::clone(&router),
            pool,
            ping_interval: config.session.ping_interval,
            presence,
            recorder,
        });
        let site = Site {
            hub,
            pulse: Arc::clone(&pulse),
            hearing: heard,
            allowed_origins: config.http.allowed_origins.clone(),
            draining: drained,
            sessions: connections.clone(),
        };
        background.spawn(server.run(Arc::new(site), connections.clone(), stop_accepting.clone()));
        Ok(Self {
            address,
            pulse,
            router,
            draining,
            stop_accepting,
            stop,
            connections,
            background,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Events that a sleeping feed found though nothing rang for them. A defect, where it is not 0.
    pub fn unrung(&self) -> u64 {
        self.pulse.unrung()
    }

    /// Resolves when the feed stands where the journal stands.
    pub async fn until_fresh(&self) {
        let mut looks = interval(FRESH_LOOK_INTERVAL);
        while !self.pulse.is_fresh() {
            looks.tick().await;
        }
    }

    /// Lets every client go with 1012, and ends within `DRAIN_DEADLINE`.
    pub async fn shut_down(self) {
        self.draining.send_replace(true);
        self.stop_accepting.cancel();
        self.router.drain();
        self.connections.close();
        let deadline = Instant::now() + DRAIN_DEADLINE;
        if timeout_at(deadline, self.connections.wait()).await.is_err() {
            let open = self.connections.len();
            tracing::warn!(open, "connections were cut at the shutdown's deadline");
        }
        self.stop.cancel();
        self.background.close();
        // Background work ends when it is told; a moment more than the deadline is for that alone.
        if timeout_at(deadline + BACKGROUND_GRACE, self.background.wait())
            .await
            .is_err()
        {
            tracing::warn!("background work was cut at the shutdown's deadline");
        }
    }
}

/// Closes the sessions of revoked and expired tokens: at once when rung, and at intervals in case the ring was lost.
async fn withdraw_tokens(
    pool: Pool,
    router: Arc<Router>,
    bell: Arc<Bell>,
    hearing: watch::Receiver<Hearing>,
    stop: CancellationToken,
) {
    let mut owed = false;
    loop {
        let listening = *hearing.borrow() == Hearing::Listening;
        let pause = if listening && !owed {
            TOKEN_CHECK_INTERVAL
        } else {
            TOKEN_POLL_INTERVAL
        };
        tokio::select! {
            () = bell.tokens.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        owed = false;
        let live = router.tokens();
        if live.is_empty() {
            continue;
        }
        match token::withdrawn(&pool, &live).await {
            Ok(withdrawn) => withdrawn
                .into_iter()
                .for_each(|(token, why)| router.withdraw(token, why)),
            Err(error) => {
                // The ring that asked for it does not come again.
                owed = true;
                tracing::warn!(%error, "the tokens of live sessions could not be checked");
            }
        }
    }
}

async fn trim(pool: Pool, retention: Duration, stop: CancellationToken) {
    let mut pause = TRIM_INTERVAL;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = TRIM_INTERVAL;
        let trimmed = timeout(TRIM_DEADLINE, journal::trim_batch(&pool, retention)).await;
        match trimmed.unwrap_or(Err(journal::Error::TimedOut)) {
            Ok(Trimmed::Batch(gone)) => {
                ::metrics::counter!("vestnik_events_trimmed_total").increment(gone);
                pause = TRIM_PAUSE;
            }
            Ok(Trimmed::Done(gone)) => ::metrics::counter!("vestnik_events_trimmed_total").increment(gone),
            Ok(Trimmed::Elsewhere) => {}
            Err(error) => tracing::warn!(%error, "old events could not be trimmed"),
        }
    }
}

async fn watch_vitals(pool: Pool, router: Arc<Router>, hearing: watch::Receiver<Hearing>, stop: CancellationToken) {
    let mut ticks = interval(VITALS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        metrics::upkeep();
        let (sessions, deepest_bytes) = router.depth();
        ::metrics::gauge!("vestnik_sessions").set(sessions as f64);
        ::metrics::gauge!("vestnik_session_queue_bytes_max").set(deepest_bytes as f64);
        let listening = *hearing.borrow() == Hearing::Listening;
        ::metrics::gauge!("vestnik_listening").set(f64::from(u8::from(listening)));
        match db::vitals(&pool).await {
            Ok(vitals) => {
                ::metrics::gauge!("vestnik_notification_queue_usage").set(vitals.notification_queue_usage);
                ::metrics::gauge!("vestnik_oldest_transaction_seconds").set(vitals.oldest_transaction_seconds);
            }
            Err(error) => tracing::debug!(%error, "the figures of Postgres could not be read"),
        }
    }
}
