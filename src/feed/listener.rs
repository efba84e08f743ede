//! LISTEN on a separate connection: a notification wakes the feed, which reads the journal.
//!
//! Postgres delivers a notification at most once and any role may forge one, so its content is not trusted. A
//! half-open connection is silent, so the listener probes it. A transaction pooler swallows LISTEN, so each
//! connection first proves by a notification to itself that it works. Without LISTEN the feed polls.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::sync::CancellationToken;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::feed::suppression_locks::{ListenSession, NodeName, PeerMessage};
use crate::infra::backoff::Backoff;
use crate::infra::db;

/// The channel that the triggers notify.
pub const CHANNEL: &str = "vestnik";
/// The channel for tokens that may have been revoked.
pub const TOKEN_CHANNEL: &str = "vestnik_token";
/// Between two probes of the LISTEN connection.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// How long a probe may take before the connection counts as dead.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);
/// How long the notification of the self-test may take.
const SELF_TEST_DEADLINE: Duration = Duration::from_secs(2);
/// Retry interval behind a pooler that does not support LISTEN: such a pooler is seldom removed.
const SWALLOWED_RETRY: Duration = Duration::from_secs(60);

/// The signals of received notifications. Notifications coalesce: many before one read cause one read.
pub struct ListenerSignals {
    /// The journal may have new events.
    pub journal: Notify,
    /// A token may have been revoked.
    pub tokens: Notify,
    /// Another node wants to suppress NOTIFY.
    pub release_request: Notify,
    /// Another node polls because this node suppresses NOTIFY.
    pub polling_peer: Notify,
    /// The session that listens; `None` while there is none.
    pub session: watch::Sender<Option<Arc<ListenSession>>>,
    /// Name of this node in messages to other nodes.
    pub node: NodeName,
    self_test: Mutex<Option<String>>,
    self_test_received: Notify,
}

impl Default for ListenerSignals {
    fn default() -> Self {
        Self {
            journal: Notify::new(),
            tokens: Notify::new(),
            release_request: Notify::new(),
            polling_peer: Notify::new(),
            session: watch::Sender::new(None),
            node: NodeName::random(),
            self_test: Mutex::default(),
            self_test_received: Notify::new(),
        }
    }
}

impl ListenerSignals {
    fn dispatch(&self, channel: &str, payload: &str) {
        if channel == TOKEN_CHANNEL {
            return self.tokens.notify_one();
        }
        match PeerMessage::parse(payload) {
            Some((_, node)) if node == self.node => return,
            Some((PeerMessage::ReleaseRequest, _)) => return self.release_request.notify_one(),
            Some((PeerMessage::PollingPeer, _)) => return self.polling_peer.notify_one(),
            Some((PeerMessage::EventsRead, _)) => return self.journal.notify_one(),
            None => {}
        }
        let mut expected = self.self_test.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if expected.as_deref().is_some_and(|test| payload == test) {
            *expected = None;
            self.self_test_received.notify_one();
        } else {
            drop(expected);
            self.journal.notify_one();
        }
    }
}

/// Whether notifications reach us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// Notifications arrive: a self-test has proven it, and probes repeat the test.
    Listening,
    /// The LISTEN connection is not open.
    Disconnected,
    /// A transaction pooler between this node and Postgres does not deliver them.
    Swallowed,
    /// The setting `database.notify` switches them off.
    Off,
}

/// Why this node receives no notifications.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] db::Error),
    /// Postgres reported an error, or the connection broke.
    #[error("{}", db::reason(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// The connection ended without an error.
    #[error("the connection ended")]
    Ended,
    /// A probe got no answer: the connection may be half open.
    #[error("no answer to a probe within {} s", PROBE_DEADLINE.as_secs())]
    Silent,
    /// LISTEN is no longer in force.
    #[error("LISTEN is no longer in force on this connection")]
    Unlisted,
    /// It is unknown which locks the session holds; its end releases them.
    #[error("a lock of the listening session could not be acquired or released")]
    LocksUnknown,
    /// `vestnik migrate` has run with another `database.notify_lock_key`.
    #[error("database.notify_lock_key has changed in the database")]
    OtherLocks,
    /// The schema is older than NOTIFY suppression.
    #[error("the triggers are older than NOTIFY suppression: run `vestnik migrate`")]
    NotMigrated,
    /// The setting `database.notify` switches notifications off.
    #[error("the triggers do not notify: database.notify was \"off\" when `vestnik migrate` ran last")]
    Off,
    /// The effect of a transaction pooler.
    #[error(
        "our own notification did not come back: a transaction pooler? Set database.listen_url to a direct address"
    )]
    Swallowed,
}

/// Listens until the shutdown, and reconnects.
pub async fn run(
    listen_url: SecretString,
    notify_url: SecretString,
    signals: &ListenerSignals,
    hearing: watch::Sender<Hearing>,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new();
    loop {
        let lost = tokio::select! {
            lost = listen(&listen_url, &notify_url, signals, &hearing, &mut backoff) => lost,
            () = shutdown.cancelled() => return,
        };
        let Err(lost) = lost;
        signals.session.send_replace(None);
        let swallowed = matches!(lost, Lost::Swallowed | Lost::Off | Lost::Connect(db::Error::Pooled));
        hearing.send_replace(if swallowed {
            Hearing::Swallowed
        } else {
            Hearing::Disconnected
        });
        let pause = if swallowed {
            SWALLOWED_RETRY
        } else {
            backoff.next_pause()
        };
        tracing::warn!(
            error = %lost,
            retry_ms = pause.as_millis() as u64,
            "not listening; polling the journal instead"
        );
        metrics::counter!("vestnik_listener_reconnects_total").increment(1);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Tests whether a notification that is sent over `notify_url` arrives on a LISTEN connection to `listen_url`. The
/// error says why it did not arrive.
pub async fn prove(listen_url: &SecretString, notify_url: &SecretString) -> Result<(), Lost> {
    let signals = ListenerSignals::default();
    let (hearing, mut state) = watch::channel(Hearing::Disconnected);
    let mut backoff = Backoff::new();
    // The result says everything; only a node that listens is worth a log line.
    let listening = listen(listen_url, notify_url, &signals, &hearing, &mut backoff);
    tokio::select! {
        lost = listening.with_subscriber(NoSubscriber::new()) => lost.map(|never| match never {}),
        _ = state.wait_for(|hearing| *hearing == Hearing::Listening) => Ok(()),
    }
}

/// Listens until the connection fails.
async fn listen(
    listen_url: &SecretString,
    notify_url: &SecretString,
    signals: &ListenerSignals,
    hearing: &watch::Sender<Hearing>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, Lost> {
    let (client, mut connection) = db::connect_raw(listen_url, "listener").await?;
    let messages = async {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(notification))) => {
                    signals.dispatch(notification.channel(), notification.payload())
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Lost::Postgres(error),
                None => return Lost::Ended,
            }
        }
    };
    let listening = async {
        // Behind a transaction pooler LISTEN would stay on a session that another client uses.
        db::needs_session(&client, listen_url).await?;
        let listen = format!("listen {CHANNEL}; listen {TOKEN_CHANNEL}");
        timeout(PROBE_DEADLINE, async {
            ListenSession::prepare(&client).await?;
            client.batch_execute(&listen).await
        })
        .await
        .map_err(|_| Lost::Silent)??;
        self_test(notify_url, signals).await?;
        let key = timeout(PROBE_DEADLINE, notify_lock_key(&client))
            .await
            .map_err(|_| Lost::Silent)??;
        let session = Arc::new(ListenSession::new(client, CHANNEL, key));
        backoff.reset();
        signals.session.send_replace(Some(Arc::clone(&session)));
        hearing.send_replace(Hearing::Listening);
        tracing::info!("listening");
        // LISTEN first, then read: commits before LISTEN notified nobody.
        signals.journal.notify_one();
        signals.tokens.notify_one();
        loop {
            tokio::select! {
                () = tokio::time::sleep(PROBE_INTERVAL) => {}
                () = session.until_broken() => return Err(Lost::LocksUnknown),
            }
            timeout(PROBE_DEADLINE, probe(&session))
                .await
                .map_err(|_| Lost::Silent)??;
        }
    };
    tokio::select! {
        lost = messages => Err(lost),
        lost = listening => lost,
    }
}

/// Notifies from another connection and waits for the notification: on the same connection, a pooler would pass it.
async fn self_test(notify_url: &SecretString, signals: &ListenerSignals) -> Result<(), Lost> {
    let test = format!(r#"{{"test":"{:016x}"}}"#, fastrand::u64(..));
    *signals
        .self_test
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(test.clone());
    let notifier = db::connect_as(notify_url, "self-test").await?;
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&CHANNEL, &test];
    timeout(
        PROBE_DEADLINE,
        notifier.execute("select pg_notify($1, $2)", &parameters),
    )
    .await
    .map_err(|_| Lost::Silent)??;
    timeout(SELF_TEST_DEADLINE, signals.self_test_received.notified())
        .await
        .map_err(|_| Lost::Swallowed)
}

/// The lock key that the triggers use, if they notify at all.
async fn notify_lock_key(client: &Client) -> Result<i32, Lost> {
    let is_migrated = "select to_regprocedure('vestnik.vst_notify_lock_key()') is not null";
    if !client.query_one(is_migrated, &[]).await?.try_get::<_, bool>(0)? {
        return Err(Lost::NotMigrated);
    }
    let row = client
        .query_one(
            "select vestnik.vst_notify_enabled(), vestnik.vst_notify_lock_key()",
            &[],
        )
        .await?;
    if row.try_get(0)? {
        Ok(row.try_get(1)?)
    } else {
        Err(Lost::Off)
    }
}

async fn probe(session: &ListenSession) -> Result<(), Lost> {
    let row = session
        .client()
        .query_one("select array(select pg_listening_channels())", &[])
        .await?;
    let channels: Vec<String> = row.try_get(0)?;
    let all_listed = [CHANNEL, TOKEN_CHANNEL]
        .iter()
        .all(|channel| channels.iter().any(|listed| listed == channel));
    if !all_listed {
        return Err(Lost::Unlisted);
    }
    let key = notify_lock_key(session.client()).await?;
    if key == session.key() {
        Ok(())
    } else {
        Err(Lost::OtherLocks)
    }
}
