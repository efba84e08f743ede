//! Listens for notifications of Postgres on a separate connection. Each notification wakes the feed, which then reads
//! the journal.
//!
//! Postgres delivers a notification at most once, and any role may forge a notification, so the listener does not trust
//! the content. A half-open connection is silent, so the listener probes it regularly. Behind a transaction pooler,
//! LISTEN succeeds but notifications do not arrive, so each new connection first tests itself with a notification. If
//! notifications do not arrive, the feed polls.

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

/// The NOTIFY channel of the triggers and of the nodes' messages to each other.
pub const CHANNEL: &str = "vestnik";
/// The NOTIFY channel that reports changes of tokens, such as a revocation.
pub const TOKEN_CHANNEL: &str = "vestnik_token";
/// Time between two probes of the LISTEN connection.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// A connection whose probe takes longer than this counts as lost.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);
/// Maximum time for the notification of the self-test to arrive.
const SELF_TEST_DEADLINE: Duration = Duration::from_secs(2);
/// Time between two attempts to listen if notifications do not arrive, for example because of a pooler. A pooler is
/// seldom removed, so the time is long.
const SWALLOWED_RETRY: Duration = Duration::from_secs(60);

/// The listener's signals to other tasks. Several notifications before a task reacts count as one signal.
pub struct ListenerSignals {
    /// Signals that the journal may have new events, so the feed must read.
    pub journal: Notify,
    /// Signals that a token may have been revoked, so this node must check the tokens of its sessions.
    pub tokens: Notify,
    /// Signals that another node wants to suppress NOTIFY. This node must then release the idle lock, which a node
    /// holds while it relies on notifications.
    pub release_request: Notify,
    /// Signals that another node polls because NOTIFY is suppressed. If this node suppresses NOTIFY, it must then send
    /// [`PeerMessage::EventsRead`] after each read that found events.
    pub polling_peer: Notify,
    /// The Postgres session that listens; `None`: no session listens now.
    pub session: watch::Sender<Option<Arc<ListenSession>>>,
    /// The name of this node in its messages to other nodes.
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

/// Whether notifications of Postgres reach this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenState {
    /// Notifications arrive: a self-test has received one, and regular probes check the connection.
    Listening,
    /// The LISTEN connection is not open, or not tested yet.
    Disconnected,
    /// Notifications do not arrive, because a transaction pooler swallows them or the triggers do not notify.
    Swallowed,
    /// Notifications are turned off in the settings.
    Off,
}

/// The reason why listening for notifications ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The LISTEN connection could not be opened.
    #[error(transparent)]
    Connect(#[from] db::Error),
    /// Postgres or the connection reported an error.
    #[error("{}", db::reason(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// Postgres ended the connection without an error.
    #[error("the connection ended")]
    Ended,
    /// A probe got no response in time, so the connection may be half open.
    #[error("no answer to a probe within {} s", PROBE_DEADLINE.as_secs())]
    Silent,
    /// The connection no longer listens on both NOTIFY channels.
    #[error("LISTEN is no longer in force on this connection")]
    Unlisted,
    /// A lock operation failed, so it is unknown which locks the LISTEN session holds. The node ends the session, which
    /// releases them.
    #[error("a lock of the listening session could not be acquired or released")]
    LocksUnknown,
    /// `vestnik migrate` has changed `database.notify_lock_key`, so the triggers use other locks than the LISTEN
    /// session.
    #[error("database.notify_lock_key has changed in the database")]
    OtherLocks,
    /// The database's schema is older than NOTIFY suppression.
    #[error("the triggers are older than NOTIFY suppression: run `vestnik migrate`")]
    NotMigrated,
    /// The triggers do not notify, because the setting `database.notify` was off at the last migration.
    #[error("the triggers do not notify: database.notify was \"off\" when `vestnik migrate` ran last")]
    Off,
    /// The notification of the self-test did not arrive: probably a transaction pooler swallowed it.
    #[error(
        "our own notification did not come back: a transaction pooler? Set database.listen_url to a direct address"
    )]
    Swallowed,
}

/// Listens until the shutdown, and reconnects after each failure. `listen_state` reports to other tasks whether
/// notifications arrive.
pub async fn run(
    listen_url: SecretString,
    notify_url: SecretString,
    signals: &ListenerSignals,
    listen_state: watch::Sender<ListenState>,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new();
    loop {
        let lost = tokio::select! {
            lost = listen(&listen_url, &notify_url, signals, &listen_state, &mut backoff) => lost,
            () = shutdown.cancelled() => return,
        };
        let Err(lost) = lost;
        signals.session.send_replace(None);
        let swallowed = matches!(lost, Lost::Swallowed | Lost::Off | Lost::Connect(db::Error::Pooled));
        listen_state.send_replace(if swallowed {
            ListenState::Swallowed
        } else {
            ListenState::Disconnected
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

/// Tests once whether notifications reach this machine, for `vestnik doctor`. The error is the reason why they do not.
pub async fn check_notifications(listen_url: &SecretString, notify_url: &SecretString) -> Result<(), Lost> {
    let signals = ListenerSignals::default();
    let (listen_state, mut state) = watch::channel(ListenState::Disconnected);
    let mut backoff = Backoff::new();
    // The caller reports the result, so the log lines of a listening node are suppressed here.
    let listening = listen(listen_url, notify_url, &signals, &listen_state, &mut backoff);
    tokio::select! {
        lost = listening.with_subscriber(NoSubscriber::new()) => lost.map(|never| match never {}),
        _ = state.wait_for(|listen_state| *listen_state == ListenState::Listening) => Ok(()),
    }
}

/// Connects, tests whether notifications arrive, and listens until the connection fails. Returns the reason of the
/// failure.
async fn listen(
    listen_url: &SecretString,
    notify_url: &SecretString,
    signals: &ListenerSignals,
    listen_state: &watch::Sender<ListenState>,
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
        // A transaction pooler assigns the backend to other clients after LISTEN, so notifications would not arrive
        // here.
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
        listen_state.send_replace(ListenState::Listening);
        tracing::info!("listening");
        // The feed reads once after LISTEN, because commits before LISTEN sent no notification to this node.
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

/// Tests whether a notification arrives. Another connection sends the notification: if the listening connection sent
/// it, a pooler would return it, and the test would prove nothing.
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

/// Reads the first of the two integers that form the key of each advisory lock of the triggers. Fails if the triggers
/// do not notify.
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
