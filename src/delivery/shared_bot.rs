//! The state of the Telegram bot, which all nodes share in Postgres. The state says which nodes are up, which node
//! polls Telegram, and from which update the next poll continues. It also has the updates that are not handled yet, and
//! says whether Telegram accepts the token.

use std::time::Duration;

use crate::infra::db::Client;
use crate::infra::db::Pool;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::infra::backoff::Backoff;
use crate::infra::db::{self, QueryError};

/// The time between two heartbeats of a node.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time for saving a heartbeat in Postgres.
const BEAT_DEADLINE: Duration = Duration::from_secs(3);
/// Seconds without a heartbeat after which a node counts as gone, even if its connection to Postgres still exists. The
/// node may hang, or a pooler may keep its connection open.
const SILENCE_S: f64 = 8.0;
/// If a node has lost its connection to Postgres for this many seconds, other nodes repeat its sends. The wait gives
/// the node time to connect again.
const LEASE_GRACE_S: f64 = 3.0;
/// For this many seconds after a start of Postgres, a node without a connection does not count as gone, because all
/// nodes must connect again.
const START_GRACE_S: f64 = 5.0;

/// The result of an attempt to take or renew the lease. Only the node with the lease polls Telegram, for all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// This node polls.
    Ours {
        /// The id of the first update that the next poll asks Telegram for.
        next_update: i64,
        /// Whether this node has just taken the lease, and did not hold it before.
        is_new: bool,
    },
    /// Another node polls.
    Elsewhere,
    /// No node polls: the bot is stopped, because Telegram refused its token.
    Stopped,
}

/// Records once a second that this node is up. Uses its own connection to Postgres, because Postgres notices the end of
/// a connection at once, however the process ends.
pub struct Heartbeat {
    node: String,
    url: SecretString,
    beating: watch::Sender<bool>,
}

impl Heartbeat {
    /// Creates the heartbeat of the node with this id. `url` is the address of Postgres. If possible, it must be the
    /// direct address, not that of a transaction pooler.
    pub fn new(node: String, url: SecretString) -> Self {
        let beating = watch::Sender::new(false);
        Self { node, url, beating }
    }

    /// Returns a watch that becomes true when the first heartbeat of this node is saved in Postgres.
    pub fn beating(&self) -> watch::Receiver<bool> {
        self.beating.subscribe()
    }

    /// Sends heartbeats until the shutdown.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            let beat = self.beat(&mut backoff);
            tokio::select! {
                Err(error) = beat => tracing::debug!(%error, "the heartbeat of the bot could not be saved"),
                () = stop.cancelled() => {}
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_pause()) => {}
                () = stop.cancelled() => {}
            }
        }
        let leave = async {
            let client = db::connect_as(&self.url, "bot").await?;
            client
                .execute("delete from vestnik.vst_bot_node where id = $1", &[&self.node])
                .await?;
            Ok::<_, QueryError>(())
        };
        // Ignore an error: the other nodes notice the missing heartbeat.
        let _ = timeout(BEAT_DEADLINE, leave).await;
    }

    /// Sends heartbeats until one of them fails. Returns the error of the failed heartbeat.
    async fn beat(&self, backoff: &mut Backoff) -> Result<(), QueryError> {
        const BEAT: &str = "insert into vestnik.vst_bot_node (id, pid, seen_at) values ($1, pg_backend_pid(), clock_timestamp()) \
             on conflict (id) do update set pid = excluded.pid, seen_at = excluded.seen_at";
        const GONE: &str = "delete from vestnik.vst_bot_node where seen_at < clock_timestamp() - interval '1 hour'";
        let client = db::connect_as(&self.url, "bot").await?;
        let statement = client.prepare_cached(BEAT).await?;
        client.execute(GONE, &[]).await?;
        loop {
            let saved = timeout(BEAT_DEADLINE, client.execute(&statement, &[&self.node])).await;
            saved.map_err(|_| db::Unanswered)??;
            backoff.reset();
            self.beating.send_replace(true);
            tokio::time::sleep(BEAT_INTERVAL).await;
        }
    }
}

/// An SQL condition: the node is up, because its last heartbeat is recent and its connection exists. `node` is an SQL
/// expression for the node's id.
fn is_up(node: &str) -> String {
    format!(
        "exists (select from vestnik.vst_bot_node n join pg_stat_activity a on a.pid = n.pid \
             where n.id = {node} and n.seen_at > clock_timestamp() - interval '{SILENCE_S} s')"
    )
}

/// An SQL condition: the node has been gone so long that other nodes repeat its sends. `node` is an SQL expression for
/// the node's id.
pub(crate) fn has_lost_its_leases(node: &str) -> String {
    format!(
        "exists (select from vestnik.vst_bot_node n where n.id = {node} and n.seen_at < clock_timestamp() - interval '{LEASE_GRACE_S} s' \
             and not exists (select from pg_stat_activity a where a.pid = n.pid) \
             and pg_postmaster_start_time() < clock_timestamp() - interval '{START_GRACE_S} s')"
    )
}

/// Takes or renews this node's lease. Only the node with the lease may poll Telegram. The lease can be taken if the
/// node that held it is gone.
pub async fn lease(pool: &Pool, node: &str) -> Result<Lease, QueryError> {
    let take = format!(
        "with before as (select poller from vestnik.vst_bot for update) \
         update vestnik.vst_bot b set poller = $1 from before \
         where b.stopped_at is null and (b.poller is not distinct from $1 or not {}) \
         returning b.next_update, before.poller is distinct from $1",
        is_up("b.poller")
    );
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(&take).await?;
        if let Some(row) = client.query_opt(&statement, &[&node]).await? {
            return Ok(Lease::Ours {
                next_update: row.try_get(0)?,
                is_new: row.try_get(1)?,
            });
        }
        let stopped = client
            .query_one("select stopped_at is not null from vestnik.vst_bot", &[])
            .await?;
        Ok(if stopped.try_get(0)? {
            Lease::Stopped
        } else {
            Lease::Elsewhere
        })
    })
    .await
}

/// An update from Telegram: a text, a press of a button, or a change in a chat.
#[derive(Debug, Clone)]
pub struct Update {
    /// The update's id at Telegram.
    pub id: i64,
    /// The update as JSON, unchanged.
    pub body: String,
}

/// Saves the updates that a poll returned. The next poll then starts at `next_update`, so Telegram may drop all updates
/// before it. Returns whether this node still holds the lease. If not, nothing is saved, and Telegram sends the updates
/// again to the node that holds the lease.
///
/// `next_update` may be lower than before: after a week without updates, Telegram may give the next update any id.
pub async fn save_updates(pool: &Pool, node: &str, next_update: i64, updates: &[Update]) -> Result<bool, QueryError> {
    const TAKE: &str = "with ours as (update vestnik.vst_bot set next_update = $2, polled_at = clock_timestamp(), \
             error = null, error_at = null where poller = $1 returning 1), \
         taken as (insert into vestnik.vst_bot_update (id, body) \
             select id, body from unnest($3::bigint[], $4::text[]) t(id, body) where exists (select from ours) \
             on conflict (id) do nothing) \
         select count(*) from ours";
    let ids: Vec<i64> = updates.iter().map(|update| update.id).collect();
    let bodies: Vec<&str> = updates.iter().map(|update| update.body.as_str()).collect();
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(TAKE).await?;
        let row = client
            .query_one(&statement, &[&node, &next_update, &ids, &bodies])
            .await?;
        Ok(row.try_get::<_, i64>(0)? > 0)
    })
    .await
}

/// Reads the oldest saved updates that are not handled yet, at most `most`. For example, a node that stopped has left
/// them.
pub async fn left_over(pool: &Pool, most: i64) -> Result<Vec<Update>, QueryError> {
    const LEFT: &str = "select id, body from vestnik.vst_bot_update order by taken_at, id limit $1";
    db::with_timeout(async {
        let rows = pool.get().await?.query(LEFT, &[&most]).await?;
        let read = |row: &tokio_postgres::Row| {
            Ok(Update {
                id: row.try_get(0)?,
                body: row.try_get(1)?,
            })
        };
        rows.iter().map(read).collect()
    })
    .await
}

/// Deletes a saved update that was handled, or that cannot be handled.
pub async fn dealt_with(pool: &Pool, update: i64) -> Result<(), QueryError> {
    db::with_timeout(async {
        let client = pool.get().await?;
        client
            .execute("delete from vestnik.vst_bot_update where id = $1", &[&update])
            .await?;
        Ok(())
    })
    .await
}

/// Ends this node's lease, so that another node polls Telegram at once.
pub async fn release(pool: &Pool, node: &str) -> Result<(), QueryError> {
    const RELEASE: &str = "update vestnik.vst_bot set poller = null where poller = $1";
    db::with_timeout(async {
        pool.get().await?.execute(RELEASE, &[&node]).await?;
        Ok(())
    })
    .await
}

/// Records that Telegram refused this token, so that no node uses it again.
pub async fn stop_bot(pool: &Pool, token: &str, why: &str) -> Result<(), QueryError> {
    const STOP: &str = "update vestnik.vst_bot set stopped_at = clock_timestamp(), stopped_why = $2, stopped_hash = $1";
    let token: [u8; 32] = Sha256::digest(token).into();
    db::with_timeout(async {
        pool.get().await?.execute(STOP, &[&token.as_slice(), &why]).await?;
        Ok(())
    })
    .await
}

/// Records that Telegram accepts this token, and starts a stopped bot. If the token belongs to another bot than before,
/// deletes the old bot's saved updates. The id of the next update is then 0.
pub async fn start_bot(pool: &Pool, token: &str) -> Result<(), QueryError> {
    const START: &str = "with other as (select number is distinct from $1 as is_new from vestnik.vst_bot), \
         forgotten as (delete from vestnik.vst_bot_update where (select is_new from other)) \
         update vestnik.vst_bot set stopped_at = null, stopped_why = null, stopped_hash = null, number = $1, \
             next_update = case when number is distinct from $1 then 0 else next_update end \
         where stopped_at is not null or number is distinct from $1";
    let number: Option<i64> = token.split_once(':').and_then(|(number, _)| number.parse().ok());
    db::with_timeout(async {
        pool.get().await?.execute(START, &[&number]).await?;
        Ok(())
    })
    .await
}

/// Saves why this node does not reach Telegram. `error: None` means that this node reaches Telegram again.
pub async fn note(pool: &Pool, error: Option<&str>) -> Result<(), QueryError> {
    const NOTE: &str = "update vestnik.vst_bot set error = $1, error_at = case when $1::text is not null then clock_timestamp() end \
         where error is distinct from $1";
    db::with_timeout(async {
        pool.get().await?.execute(NOTE, &[&error]).await?;
        Ok(())
    })
    .await
}

/// Records that Telegram reported a conflict just now: another program polls with the same token, or the bot has a
/// webhook.
pub async fn note_conflict(pool: &Pool) -> Result<(), QueryError> {
    db::with_timeout(async {
        let client = pool.get().await?;
        client
            .execute("update vestnik.vst_bot set conflict_at = clock_timestamp()", &[])
            .await?;
        Ok(())
    })
    .await
}

/// If Telegram has answered no poll for this many seconds, operators are told that the bot gets no updates.
const POLL_IS_OLD_S: f64 = 60.0;
/// For this many seconds after a conflict (another program polls with the same token), operators are told about it.
const CONFLICT_IS_NEWS_S: f64 = 120.0;

/// The state of the bot, for operators. Ages are in seconds.
#[derive(Debug)]
pub struct State {
    /// The reason why the bot is stopped. `None`: the bot is not stopped.
    pub stopped: Option<String>,
    /// The id of the node that polls. `None`: no node polls.
    pub poller: Option<String>,
    /// The age of the newest poll that Telegram answered. `None`: Telegram has answered no poll yet.
    pub polled_s: Option<f64>,
    /// The age of the newest poll that failed with HTTP status 409 (conflict). `None`: no poll had a conflict.
    pub conflict_s: Option<f64>,
    /// The reason why a node does not reach Telegram, and the age of this error. `None`: no error is known.
    pub error: Option<(String, f64)>,
    /// The number of saved updates that are not handled yet.
    pub updates: i64,
}

impl State {
    /// Whether Telegram answered a poll in the last minute.
    pub fn is_polled(&self) -> bool {
        self.polled_s.is_some_and(|since_s| since_s <= POLL_IS_OLD_S)
    }

    /// The age of a recent conflict, seconds. `None`: no recent conflict.
    pub fn recent_conflict_s(&self) -> Option<f64> {
        self.conflict_s.filter(|since_s| *since_s < CONFLICT_IS_NEWS_S)
    }
}

/// Reads the state of the bot from Postgres.
pub async fn state(client: &Client) -> Result<State, QueryError> {
    let sql = format!(
        "select stopped_why, case when {} then poller end, {age} polled_at)::float8, {age} conflict_at)::float8, \
             error, {age} error_at)::float8, (select count(*) from vestnik.vst_bot_update) from vestnik.vst_bot b",
        is_up("b.poller"),
        age = "extract(epoch from clock_timestamp() -"
    );
    let row = client.query_one(&sql, &[]).await?;
    let (error, error_s): (Option<String>, Option<f64>) = (row.try_get(4)?, row.try_get(5)?);
    Ok(State {
        stopped: row.try_get(0)?,
        poller: row.try_get(1)?,
        polled_s: row.try_get(2)?,
        conflict_s: row.try_get(3)?,
        error: error.zip(error_s),
        updates: row.try_get(6)?,
    })
}
