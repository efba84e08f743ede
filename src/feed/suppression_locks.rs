//! The two advisory locks of NOTIFY suppression, and the messages between nodes about them. `feed/suppression_state.rs`
//! decides when a node requests or releases a lock; this module executes the statements. docs/notify-suppression.md
//! describes the protocol, and why no event is lost.
//!
//! A writer is a transaction that records an event. It requests the writer lock, shared, before it notifies; if the
//! request is denied, it does not notify. A node holds the idle lock, shared, while it is idle. A node that holds both
//! locks exclusively suppresses NOTIFY.

pub mod disturbance;

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Notify;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::domain::event::Xid;
use crate::infra::db;

/// Time limit of one wait for a lock. If the Postgres session is dropped during a wait, Postgres continues the wait up
/// to this limit. Meanwhile Postgres denies other requests for the lock.
const LOCK_WAIT_LIMIT: Duration = Duration::from_millis(100);
/// SQL settings of the Postgres sessions that hold locks. If a node's machine or network fails, keepalives end the
/// session after about 8 s, which releases its locks. The timeouts are off, because a default of the database must not
/// end a waiting session.
const SESSION: &str = "set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 1; set tcp_keepalives_count = 3; \
     set idle_session_timeout = 0; set statement_timeout = 0; set default_transaction_isolation = 'read committed'";

const RELEASE_IDLE_LOCK: &str = "select pg_advisory_unlock_shared($1, 2)";

/// A message between nodes, on the NOTIFY channel of the triggers. Nodes do not rely on messages: a forged message only
/// causes additional reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerMessage {
    /// The sender is about to suppress NOTIFY. The receiver polls, and releases the idle lock, which it held while it
    /// relied on notifications.
    ReleaseRequest,
    /// The sender suppresses NOTIFY and has read new events, so the receiver must also read the journal.
    EventsRead,
    /// The sender polls, because another node suppresses NOTIFY. The suppressing node then sends `EventsRead` messages.
    PollingPeer,
}

impl PeerMessage {
    fn name(self) -> &'static str {
        match self {
            Self::ReleaseRequest => "release_request",
            Self::EventsRead => "events_read",
            Self::PollingPeer => "polling_peer",
        }
    }

    /// The NOTIFY payload of this message, sent by `node`.
    pub fn payload(self, node: NodeName) -> String {
        format!(r#"{{"{}":"{node}"}}"#, self.name())
    }

    /// Parses a NOTIFY payload into the message and its sender; `None`: the payload is not a message between nodes.
    pub fn parse(payload: &str) -> Option<(Self, NodeName)> {
        let (name, node) = payload
            .strip_prefix(r#"{""#)?
            .strip_suffix(r#""}"#)?
            .split_once(r#"":""#)?;
        let message = [Self::ReleaseRequest, Self::EventsRead, Self::PollingPeer]
            .into_iter()
            .find(|message| message.name() == name)?;
        Some((message, NodeName(u64::from_str_radix(node, 16).ok()?)))
    }
}

/// The random name of a node, by which the node recognizes its own messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeName(u64);

impl NodeName {
    /// Creates a random name.
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The Postgres session that listens for notifications, and holds the idle lock while the node is idle. When the
/// session ends, Postgres releases its locks, and the node receives no more notifications.
pub struct ListenSession {
    client: Client,
    channel: &'static str,
    key: i32,
    broken: Notify,
}

/// The result of a request for the idle lock, the advisory lock that marks a node as dependent on notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleLock {
    /// The LISTEN session holds the idle lock, shared. The value is a new transaction id. Each writer that was denied
    /// the writer lock before, and so does not notify, has a lower id.
    Shared(Xid),
    /// The lock was not granted: another node suppresses NOTIFY, or is about to.
    Refused,
}

/// A lock operation failed, so it is unknown which locks the LISTEN session holds. The session must end, and the
/// listener opens a new session.
#[derive(Debug)]
pub struct Broken;

impl ListenSession {
    /// Wraps the connection of a Postgres session that already listens on `channel`. `key` is the first of the two
    /// integers of a lock key; the triggers use the same value.
    pub fn new(client: Client, channel: &'static str, key: i32) -> Self {
        Self {
            client,
            channel,
            key,
            broken: Notify::new(),
        }
    }

    /// The connection of the session.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The first of the two integers in the keys of the idle lock and the writer lock.
    pub fn key(&self) -> i32 {
        self.key
    }

    /// Sets the keepalives and timeouts of a Postgres session. If the node fails, Postgres notices it soon, and
    /// releases the session's locks.
    pub async fn prepare(client: &Client) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(SESSION).await
    }

    /// Requests the idle lock, shared, without waiting. Then checks that the writer lock is free: when the session of a
    /// suppressing node ends, Postgres may release the idle lock before the writer lock. Last, allocates a transaction
    /// id. Every writer that was denied the writer lock has a lower id, so the node knows for which transactions it
    /// must wait. The `xmax` of a snapshot is not enough, because such a writer may have a higher id.
    pub async fn try_acquire_idle_lock(&self) -> Result<IdleLock, Broken> {
        self.request_idle_lock().await.map_err(|error| self.mark_broken(&error))
    }

    async fn request_idle_lock(&self) -> Result<IdleLock, tokio_postgres::Error> {
        const OWN_XID: &str = "select pg_current_xact_id()::text::bigint";
        if !self.query_flag("select pg_try_advisory_lock_shared($1, 2)").await? {
            return Ok(IdleLock::Refused);
        }
        if !self.query_flag("select pg_try_advisory_lock_shared($1, 1)").await? {
            self.query_flag(RELEASE_IDLE_LOCK).await?;
            return Ok(IdleLock::Refused);
        }
        self.query_flag("select pg_advisory_unlock_shared($1, 1)").await?;
        let xid: i64 = self.client.query_one(OWN_XID, &[]).await?.try_get(0)?;
        Ok(IdleLock::Shared(Xid(xid.unsigned_abs())))
    }

    /// Releases the shared idle lock, so that another node can suppress NOTIFY.
    pub async fn release_idle_lock(&self) -> Result<(), Broken> {
        let released = self.query_flag(RELEASE_IDLE_LOCK).await;
        released.map(drop).map_err(|error| self.mark_broken(&error))
    }

    /// Sends a message to all nodes. A failure is only logged.
    pub async fn send(&self, message: PeerMessage, node: NodeName) {
        let payload = message.payload(node);
        let sent = self
            .client
            .execute("select pg_notify($1, $2)", &[&self.channel, &payload])
            .await;
        if let Err(error) = sent {
            tracing::debug!(
                error = db::reason(&error),
                "could not send a message to the other nodes"
            );
        }
    }

    fn mark_broken(&self, error: &tokio_postgres::Error) -> Broken {
        tracing::debug!(
            error = db::reason(error),
            "lost track of the locks of the listening session; the listener reconnects"
        );
        self.broken.notify_one();
        Broken
    }

    /// Waits until a lock operation of this session has failed. Then the caller must end the session.
    pub async fn until_broken(&self) {
        self.broken.notified().await;
    }

    async fn query_flag(&self, sql: &str) -> Result<bool, tokio_postgres::Error> {
        self.client.query_one(sql, &[&self.key]).await?.try_get(0)
    }
}

/// The Postgres session with which a node suppresses NOTIFY. The session holds the idle lock and the writer lock
/// exclusively, or waits for them. Dropping it releases the locks.
pub struct SuppressorSession {
    client: Client,
    key: i32,
}

/// The result of a wait for a lock, which is limited to `LOCK_WAIT_LIMIT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockWait {
    /// The session now holds the lock.
    Held,
    /// Another Postgres session held the lock during the whole wait.
    TimedOut,
}

impl SuppressorSession {
    /// Opens a Postgres session that only requests locks, because a waiting request would delay other statements of the
    /// same session. `key` is the first of the two integers of a lock key.
    pub async fn connect(url: &SecretString, key: i32) -> Result<Self, db::QueryError> {
        let client = db::connect_session(url, "suppressor").await?;
        db::with_timeout(async {
            client.batch_execute(SESSION).await?;
            let lock_timeout = format!("set lock_timeout = {}", LOCK_WAIT_LIMIT.as_millis());
            client.batch_execute(&lock_timeout).await?;
            Ok::<_, db::QueryError>(())
        })
        .await?;
        Ok(Self { client, key })
    }

    /// Opens a Postgres session like [`Self::connect`], and reads the lock key of the triggers from the database.
    pub async fn connect_with_trigger_key(url: &SecretString) -> Result<Self, db::QueryError> {
        const KEY: &str = "select vestnik.vst_notify_lock_key()";
        let mut session = Self::connect(url, 0).await?;
        let key =
            db::with_timeout(async { Ok::<_, db::QueryError>(session.client.query_one(KEY, &[]).await?.try_get(0)?) });
        session.key = key.await?;
        Ok(session)
    }

    /// Waits until no node is idle, and then holds the idle lock exclusively. Waits at most for `LOCK_WAIT_LIMIT`.
    pub async fn wait_for_idle_lock(&self) -> Result<LockWait, db::QueryError> {
        self.wait("select pg_advisory_lock($1, 2)").await
    }

    /// Waits until every transaction that has notified has ended, and then holds the writer lock exclusively. Waits at
    /// most for `LOCK_WAIT_LIMIT`. No further writer notifies from the start of the wait on.
    pub async fn wait_for_writer_lock(&self) -> Result<LockWait, db::QueryError> {
        self.wait("select pg_advisory_lock($1, 1)").await
    }

    /// Whether the session has ended, so that Postgres has released its locks.
    pub fn is_lost(&self) -> bool {
        self.client.is_closed()
    }

    async fn wait(&self, sql: &str) -> Result<LockWait, db::QueryError> {
        match db::with_timeout(async { Ok(self.client.execute(sql, &[&self.key]).await?) }).await {
            Ok(_) => Ok(LockWait::Held),
            Err(db::QueryError::Postgres(error)) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                Ok(LockWait::TimedOut)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_messages_differ_from_other_notifications() {
        let node = NodeName(0xa1);
        for message in [
            PeerMessage::ReleaseRequest,
            PeerMessage::EventsRead,
            PeerMessage::PollingPeer,
        ] {
            assert_eq!(PeerMessage::parse(&message.payload(node)), Some((message, node)));
        }
        for other in [r#"{"test":"00000000000000a1"}"#, r#"{"release_request":"z"}"#, ""] {
            assert_eq!(PeerMessage::parse(other), None, "{other}");
        }
    }
}
