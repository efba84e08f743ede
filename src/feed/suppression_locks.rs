//! The bell's two advisory locks, and what nodes tell each other about them. docs/notify-suppression.md has the protocol, and why it
//! loses nothing; `feed/wakeup_state.rs` decides, and this carries it out.
//!
//! K is what a writer asks for, shared, before it rings. R is what a node holds, shared, while it sleeps. Whoever holds
//! both exclusively has muted the bell.

pub mod disturbance;

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Notify;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::domain::event::Xid;
use crate::infra::db;

/// How long one wait for a lock may take: a session that is dropped while it waits in Postgres goes on waiting, and
/// nobody else gets on meanwhile.
const TURN: Duration = Duration::from_millis(100);
/// A node that is gone without a word, with its machine or its network, must not keep its locks: what its session's
/// own keepalives make of that, about 8 s. And no time-out of the database's own may end a session that only waits.
const SESSION: &str = "set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 1; set tcp_keepalives_count = 3; \
     set idle_session_timeout = 0; set statement_timeout = 0; set default_transaction_isolation = 'read committed'";

const LET_GO: &str = "select pg_advisory_unlock_shared($1, 2)";

/// What a node says to the others, on the same channel as the triggers ring. Nothing of it is believed: whoever forges
/// one makes nodes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerMessage {
    /// One is about to mute the bell: let go of R, and be awake.
    Drain,
    /// One that has muted it has read events.
    Grew,
    /// There is a node that does not sleep because another one mutes.
    Here,
}

impl PeerMessage {
    fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Grew => "grew",
            Self::Here => "here",
        }
    }

    /// As this node says it.
    pub fn payload(self, node: NodeName) -> String {
        format!(r#"{{"{}":"{node}"}}"#, self.name())
    }

    /// The word and who said it; `None`: the bell itself.
    pub fn heard(payload: &str) -> Option<(Self, NodeName)> {
        let (name, node) = payload
            .strip_prefix(r#"{""#)?
            .strip_suffix(r#""}"#)?
            .split_once(r#"":""#)?;
        let word = [Self::Drain, Self::Grew, Self::Here]
            .into_iter()
            .find(|word| word.name() == name)?;
        Some((word, NodeName(u64::from_str_radix(node, 16).ok()?)))
    }
}

/// By which a node knows its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeName(u64);

impl NodeName {
    /// A new one.
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The LISTEN session's part: what it holds dies with it, and so does what it hears.
pub struct ListenSession {
    client: Client,
    channel: &'static str,
    key: i32,
    broken: Notify,
}

/// The answer to a node that wants to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleLock {
    /// It holds R, shared. Whoever was refused K before has a transaction number below this one.
    Shared(Xid),
    /// Another one mutes, or is about to.
    Refused,
}

/// What the LISTEN session holds is no longer known: it ends, and another one is made.
#[derive(Debug)]
pub struct Broken;

impl ListenSession {
    /// Of a session that listens on `channel` already. `key` is what the triggers know.
    pub fn new(client: Client, channel: &'static str, key: i32) -> Self {
        Self {
            client,
            channel,
            key,
            broken: Notify::new(),
        }
    }

    /// Its session.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The first half of the locks' keys.
    pub fn key(&self) -> i32 {
        self.key
    }

    /// Makes the session's locks die soon after its node.
    pub async fn prepare(client: &Client) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(SESSION).await
    }

    /// Asks for R, shared, without waiting. When a session ends, Postgres lets go of its locks one by one in no certain
    /// order: R may be free while K is still held. So a look at K, too. The number is taken last, and it is a real one: the
    /// `xmax` of a snapshot would leave out transactions that have begun since the last one ended.
    pub async fn ask(&self) -> Result<IdleLock, Broken> {
        self.try_ask().await.map_err(|error| self.give_up(&error))
    }

    async fn try_ask(&self) -> Result<IdleLock, tokio_postgres::Error> {
        const NUMBER: &str = "select pg_current_xact_id()::text::bigint";
        if !self.flag("select pg_try_advisory_lock_shared($1, 2)").await? {
            return Ok(IdleLock::Refused);
        }
        if !self.flag("select pg_try_advisory_lock_shared($1, 1)").await? {
            self.flag(LET_GO).await?;
            return Ok(IdleLock::Refused);
        }
        self.flag("select pg_advisory_unlock_shared($1, 1)").await?;
        let number: i64 = self.client.query_one(NUMBER, &[]).await?.try_get(0)?;
        Ok(IdleLock::Shared(Xid(number.unsigned_abs())))
    }

    /// Lets go of R.
    pub async fn let_go(&self) -> Result<(), Broken> {
        let gone = self.flag(LET_GO).await;
        gone.map(drop).map_err(|error| self.give_up(&error))
    }

    /// Says a word to all nodes.
    pub async fn say(&self, word: PeerMessage, node: NodeName) {
        let payload = word.payload(node);
        let said = self
            .client
            .execute("select pg_notify($1, $2)", &[&self.channel, &payload])
            .await;
        if let Err(error) = said {
            tracing::debug!(error = db::reason(&error), "a word to the other nodes was not said");
        }
    }

    fn give_up(&self, error: &tokio_postgres::Error) -> Broken {
        tracing::debug!(error = db::reason(error), "the locks of the listening session");
        self.broken.notify_one();
        Broken
    }

    /// Resolves when the session must end.
    pub async fn given_up(&self) {
        self.broken.notified().await;
    }

    async fn flag(&self, sql: &str) -> Result<bool, tokio_postgres::Error> {
        self.client.query_one(sql, &[&self.key]).await?.try_get(0)
    }
}

/// The session that mutes. Dropping it lets go of everything.
pub struct SuppressorSession {
    client: Client,
    key: i32,
}

/// What came of a turn of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockWait {
    /// It is held.
    Held,
    /// Somebody else still holds it.
    TimedOut,
}

impl SuppressorSession {
    /// A session of its own, for it waits.
    pub async fn connect(url: &SecretString, key: i32) -> Result<Self, db::QueryError> {
        let client = db::connect_session(url, "bell").await?;
        db::with_timeout(async {
            client.batch_execute(SESSION).await?;
            let turn = format!("set lock_timeout = {}", TURN.as_millis());
            client.batch_execute(&turn).await?;
            Ok::<_, db::QueryError>(())
        })
        .await?;
        Ok(Self { client, key })
    }

    /// The same with the key that the triggers know.
    pub async fn connect_of_triggers(url: &SecretString) -> Result<Self, db::QueryError> {
        const KEY: &str = "select vestnik.vst_notify_lock_key()";
        let mut gate = Self::connect(url, 0).await?;
        let key =
            db::with_timeout(async { Ok::<_, db::QueryError>(gate.client.query_one(KEY, &[]).await?.try_get(0)?) });
        gate.key = key.await?;
        Ok(gate)
    }

    /// Waits a turn for R, exclusively: until nobody sleeps.
    pub async fn gather(&self) -> Result<LockWait, db::QueryError> {
        self.wait("select pg_advisory_lock($1, 2)").await
    }

    /// Waits a turn for K, exclusively: until everybody who has rung has ended. From the moment it waits, nobody rings.
    pub async fn close(&self) -> Result<LockWait, db::QueryError> {
        self.wait("select pg_advisory_lock($1, 1)").await
    }

    /// Whether the session has ended, and with it what it held.
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
    fn a_word_is_known_from_a_ring() {
        let node = NodeName(0xa1);
        for word in [PeerMessage::Drain, PeerMessage::Grew, PeerMessage::Here] {
            assert_eq!(PeerMessage::heard(&word.payload(node)), Some((word, node)));
        }
        for ring in [r#"{"test":"00000000000000a1"}"#, r#"{"drain":"z"}"#, ""] {
            assert_eq!(PeerMessage::heard(ring), None, "{ring}");
        }
    }
}
