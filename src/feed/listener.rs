//! LISTEN on a connection of its own: hears that something happened, and wakes. What happened is read in the journal.
//!
//! A notification is at most once and anybody may forge one, so nothing is believed that it says. A connection that is
//! half open is silent, so it is probed; a transaction pooler swallows LISTEN, so a notification to ourselves proves
//! at each connection that it works. While it does not, the feed reads at short intervals instead.

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

/// The channel that the triggers ring on.
pub const CHANNEL: &str = "vestnik";
/// The channel that says that a token may have been revoked.
pub const TOKEN_CHANNEL: &str = "vestnik_token";
/// Between two probes of the LISTEN connection.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// How long a probe may take before the connection counts as dead.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);
/// How long our own notification may take at the start of a connection.
const SELF_TEST_DEADLINE: Duration = Duration::from_secs(2);
/// Between two attempts where LISTEN is swallowed: a pooler seldom goes away.
const SWALLOWED_RETRY: Duration = Duration::from_secs(60);

/// What rings when a notification comes. Rings fold: many before one look are one.
pub struct Bell {
    /// There may be events.
    pub journal: Notify,
    /// A token may have been revoked.
    pub tokens: Notify,
    /// Another node wants to mute the bell.
    pub drain: Notify,
    /// Another node is awake because this one mutes it.
    pub company: Notify,
    /// The session that listens, while it does.
    pub ear: watch::Sender<Option<Arc<ListenSession>>>,
    /// As which this node speaks.
    pub node: NodeName,
    self_test: Mutex<Option<String>>,
    self_test_heard: Notify,
}

impl Default for Bell {
    fn default() -> Self {
        Self {
            journal: Notify::new(),
            tokens: Notify::new(),
            drain: Notify::new(),
            company: Notify::new(),
            ear: watch::Sender::new(None),
            node: NodeName::random(),
            self_test: Mutex::default(),
            self_test_heard: Notify::new(),
        }
    }
}

impl Bell {
    fn hear(&self, channel: &str, payload: &str) {
        if channel == TOKEN_CHANNEL {
            return self.tokens.notify_one();
        }
        match PeerMessage::heard(payload) {
            Some((_, node)) if node == self.node => return,
            Some((PeerMessage::Drain, _)) => return self.drain.notify_one(),
            Some((PeerMessage::Here, _)) => return self.company.notify_one(),
            Some((PeerMessage::Grew, _)) => return self.journal.notify_one(),
            None => {}
        }
        let mut expected = self.self_test.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if expected.as_deref().is_some_and(|test| payload == test) {
            *expected = None;
            self.self_test_heard.notify_one();
        } else {
            drop(expected);
            self.journal.notify_one();
        }
    }
}

/// Whether notifications reach us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// They do: proven when the connection was made, probed since.
    Listening,
    /// There is no connection at the moment, or none yet.
    Disconnected,
    /// Something between us and Postgres swallows them: a transaction pooler.
    Swallowed,
    /// They are switched off.
    Off,
}

/// Why listening ended.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] db::Error),
    /// Postgres says so, or is gone.
    #[error("{}", db::reason(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// Without a word.
    #[error("the connection ended")]
    Ended,
    /// As over a half-open connection.
    #[error("no answer to a probe within {} s", PROBE_DEADLINE.as_secs())]
    Silent,
    /// Something has taken LISTEN back.
    #[error("Postgres no longer lists our channels")]
    Unlisted,
    /// The locks die with the session, so it ends.
    #[error("a lock of its session could not be asked for, or let go of")]
    LocksUnknown,
    /// Somebody has migrated with other settings.
    #[error("the bell's locks have other keys now")]
    OtherLocks,
    /// The database is older than the bell.
    #[error("the triggers know nothing of the bell's locks: run `vestnik migrate`")]
    NotMigrated,
    /// By choice.
    #[error("the triggers do not ring: database.notify was \"off\" when `vestnik migrate` ran last")]
    Off,
    /// What a transaction pooler does.
    #[error(
        "our own notification did not come back: a transaction pooler? Set database.listen_url to a direct address"
    )]
    Swallowed,
}

/// Listens until the shutdown, coming back by itself.
pub async fn run(
    listen_url: SecretString,
    notify_url: SecretString,
    bell: &Bell,
    hearing: watch::Sender<Hearing>,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new();
    loop {
        let lost = tokio::select! {
            lost = listen(&listen_url, &notify_url, bell, &hearing, &mut backoff) => lost,
            () = shutdown.cancelled() => return,
        };
        let Err(lost) = lost;
        bell.ear.send_replace(None);
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
        tracing::warn!(error = %lost, retry_ms = pause.as_millis() as u64, "not listening; reading at short intervals instead");
        metrics::counter!("vestnik_listener_reconnects_total").increment(1);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Listens until it is proven that notifications come back, or why they do not.
pub async fn prove(listen_url: &SecretString, notify_url: &SecretString) -> Result<(), Lost> {
    let bell = Bell::default();
    let (hearing, mut heard) = watch::channel(Hearing::Disconnected);
    let mut backoff = Backoff::new();
    // The answer says all; a node that listens is worth a line in the log, a proof is not.
    let listening = listen(listen_url, notify_url, &bell, &hearing, &mut backoff);
    tokio::select! {
        lost = listening.with_subscriber(NoSubscriber::new()) => lost.map(|never| match never {}),
        _ = heard.wait_for(|hearing| *hearing == Hearing::Listening) => Ok(()),
    }
}

/// Listens until something breaks.
async fn listen(
    listen_url: &SecretString,
    notify_url: &SecretString,
    bell: &Bell,
    hearing: &watch::Sender<Hearing>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, Lost> {
    let (client, mut connection) = db::connect_raw(listen_url, "listener").await?;
    let messages = async {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(heard))) => bell.hear(heard.channel(), heard.payload()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Lost::Postgres(error),
                None => return Lost::Ended,
            }
        }
    };
    let conversation = async {
        // Behind a transaction pooler LISTEN would stay behind on a session of somebody else.
        db::needs_session(&client, listen_url).await?;
        let listen = format!("listen {CHANNEL}; listen {TOKEN_CHANNEL}");
        timeout(PROBE_DEADLINE, async {
            ListenSession::prepare(&client).await?;
            client.batch_execute(&listen).await
        })
        .await
        .map_err(|_| Lost::Silent)??;
        self_test(notify_url, bell).await?;
        let key = timeout(PROBE_DEADLINE, notify_lock_key(&client))
            .await
            .map_err(|_| Lost::Silent)??;
        let ear = Arc::new(ListenSession::new(client, CHANNEL, key));
        backoff.reset();
        bell.ear.send_replace(Some(Arc::clone(&ear)));
        hearing.send_replace(Hearing::Listening);
        tracing::info!("listening");
        // LISTEN first, then read: what was committed before we listened rang nobody.
        bell.journal.notify_one();
        bell.tokens.notify_one();
        loop {
            tokio::select! {
                () = tokio::time::sleep(PROBE_INTERVAL) => {}
                () = ear.given_up() => return Err(Lost::LocksUnknown),
            }
            timeout(PROBE_DEADLINE, probe(&ear)).await.map_err(|_| Lost::Silent)??;
        }
    };
    tokio::select! {
        lost = messages => Err(lost),
        lost = conversation => lost,
    }
}

/// Rings from another connection and waits to hear it: on the same one, a pooler would pass it.
async fn self_test(notify_url: &SecretString, bell: &Bell) -> Result<(), Lost> {
    let test = format!(r#"{{"test":"{:016x}"}}"#, fastrand::u64(..));
    *bell.self_test.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(test.clone());
    let ringer = db::connect_as(notify_url, "self-test").await?;
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&CHANNEL, &test];
    timeout(PROBE_DEADLINE, ringer.execute("select pg_notify($1, $2)", &parameters))
        .await
        .map_err(|_| Lost::Silent)??;
    timeout(SELF_TEST_DEADLINE, bell.self_test_heard.notified())
        .await
        .map_err(|_| Lost::Swallowed)
}

/// The key that the triggers ask for, if they ring at all.
async fn notify_lock_key(client: &Client) -> Result<i32, Lost> {
    let there = "select to_regprocedure('vestnik.vst_notify_lock_key()') is not null";
    if !client.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
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

async fn probe(ear: &ListenSession) -> Result<(), Lost> {
    let row = ear
        .client()
        .query_one("select array(select pg_listening_channels())", &[])
        .await?;
    let channels: Vec<String> = row.try_get(0)?;
    let both = [CHANNEL, TOKEN_CHANNEL]
        .iter()
        .all(|ours| channels.iter().any(|listed| listed == ours));
    if !both {
        return Err(Lost::Unlisted);
    }
    let key = notify_lock_key(ear.client()).await?;
    if key == ear.key() {
        Ok(())
    } else {
        Err(Lost::OtherLocks)
    }
}
