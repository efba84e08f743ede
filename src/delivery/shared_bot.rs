//! The bot, as all nodes share it: which nodes are up, who of them polls Telegram, how far, what it took and has not dealt
//! with yet, and whether the bot is let in at all.

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

/// Between two times that a node says that it is up.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long Postgres may take to hear it.
const BEAT_DEADLINE: Duration = Duration::from_secs(3);
/// A node whose session is there, and that says nothing for so long, is gone, seconds: it hangs, or a pooler keeps the
/// session for it.
const SILENCE_S: f64 = 8.0;
/// What a node whose session has ended was sending is begun anew by another one after so long, seconds: it may only have
/// lost the session, and open another.
const LEASE_GRACE_S: f64 = 3.0;
/// Behind a start of Postgres, all sessions are new, seconds.
const START_GRACE_S: f64 = 5.0;

/// Whether this node polls for the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It does, and goes on behind this update.
    Ours {
        /// What to ask Telegram for next.
        next_update: i64,
        /// Whether another node polled before, or none did.
        is_new: bool,
    },
    /// Another node does.
    Elsewhere,
    /// The bot is stopped: its token is not let in.
    Stopped,
}

/// Says that this node is up, each second, over a session of its own: when the process ends, however it ends, Postgres
/// knows at once.
pub struct Heartbeat {
    node: String,
    url: SecretString,
    beating: watch::Sender<bool>,
}

impl Heartbeat {
    /// Of this node; `url` reaches Postgres itself rather than a transaction pooler, where there is such an address.
    pub fn new(node: String, url: SecretString) -> Self {
        let beating = watch::Sender::new(false);
        Self { node, url, beating }
    }

    /// Whether it has been heard.
    pub fn beating(&self) -> watch::Receiver<bool> {
        self.beating.subscribe()
    }

    /// Goes on until the shutdown.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            let beat = self.beat(&mut backoff);
            tokio::select! {
                Err(error) = beat => tracing::debug!(%error, "the other nodes could not be told that this one has a bot"),
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
        // It is found out by itself.
        let _ = timeout(BEAT_DEADLINE, leave).await;
    }

    /// Until it fails.
    async fn beat(&self, backoff: &mut Backoff) -> Result<(), QueryError> {
        const BEAT: &str = "insert into vestnik.vst_bot_node (id, pid, seen_at) values ($1, pg_backend_pid(), clock_timestamp()) \
             on conflict (id) do update set pid = excluded.pid, seen_at = excluded.seen_at";
        const GONE: &str = "delete from vestnik.vst_bot_node where seen_at < clock_timestamp() - interval '1 hour'";
        let client = db::connect_as(&self.url, "bot").await?;
        let statement = client.prepare_cached(BEAT).await?;
        client.execute(GONE, &[]).await?;
        loop {
            let heard = timeout(BEAT_DEADLINE, client.execute(&statement, &[&self.node])).await;
            heard.map_err(|_| db::Unanswered)??;
            backoff.reset();
            self.beating.send_replace(true);
            tokio::time::sleep(BEAT_INTERVAL).await;
        }
    }
}

/// Whether the node of this SQL expression is up: it has said so lately, and its session is there.
fn is_up(node: &str) -> String {
    format!(
        "exists (select from vestnik.vst_bot_node n join pg_stat_activity a on a.pid = n.pid \
             where n.id = {node} and n.seen_at > clock_timestamp() - interval '{SILENCE_S} s')"
    )
}

/// Whether what the node of this SQL expression was sending is begun anew by others.
pub(crate) fn has_lost_its_leases(node: &str) -> String {
    format!(
        "exists (select from vestnik.vst_bot_node n where n.id = {node} and n.seen_at < clock_timestamp() - interval '{LEASE_GRACE_S} s' \
             and not exists (select from pg_stat_activity a where a.pid = n.pid) \
             and pg_postmaster_start_time() < clock_timestamp() - interval '{START_GRACE_S} s')"
    )
}

/// Takes or keeps the long poll.
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

/// An update as Telegram sent it.
#[derive(Debug, Clone)]
pub struct Update {
    /// Its number.
    pub id: i64,
    /// JSON.
    pub body: String,
}

/// Telegram answered the poll. What came is stored, and Telegram may forget all before `next_update`. Whether the poll still
/// is this node's: where it is not, nothing is stored, and the other node gets it again.
///
/// The number may go down: after a quiet week Telegram begins anew, anywhere.
pub async fn take(pool: &Pool, node: &str, next_update: i64, updates: &[Update]) -> Result<bool, QueryError> {
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

/// What was taken by a node that is gone, and not dealt with; at most so many, the oldest first.
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

/// An update has been dealt with, or was given up.
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

/// Lets another node poll.
pub async fn release(pool: &Pool, node: &str) -> Result<(), QueryError> {
    const RELEASE: &str = "update vestnik.vst_bot set poller = null where poller = $1";
    db::with_timeout(async {
        pool.get().await?.execute(RELEASE, &[&node]).await?;
        Ok(())
    })
    .await
}

/// The token is not let in: no node tries it again.
pub async fn stop_bot(pool: &Pool, token: &str, why: &str) -> Result<(), QueryError> {
    const STOP: &str = "update vestnik.vst_bot set stopped_at = clock_timestamp(), stopped_why = $2, stopped_hash = $1";
    let token: [u8; 32] = Sha256::digest(token).into();
    db::with_timeout(async {
        pool.get().await?.execute(STOP, &[&token.as_slice(), &why]).await?;
        Ok(())
    })
    .await
}

/// Telegram knows this token: whatever stopped the bot before is over. A bot of another number has updates of its own.
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

/// Why Telegram is not reached from a node; `None`: it is again.
pub async fn note(pool: &Pool, error: Option<&str>) -> Result<(), QueryError> {
    const NOTE: &str = "update vestnik.vst_bot set error = $1, error_at = case when $1::text is not null then clock_timestamp() end \
         where error is distinct from $1";
    db::with_timeout(async {
        pool.get().await?.execute(NOTE, &[&error]).await?;
        Ok(())
    })
    .await
}

/// Another program polls, or a webhook is set.
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

/// How the bot is. Ages are in seconds.
#[derive(Debug)]
pub struct State {
    /// Why it is stopped; `None`: it is not.
    pub stopped: Option<String>,
    /// The node that polls, if it is up.
    pub poller: Option<String>,
    /// Since the newest poll that Telegram answered.
    pub polled_s: Option<f64>,
    /// Since the newest 409.
    pub conflict_s: Option<f64>,
    /// Why Telegram is not reached, and since when.
    pub error: Option<(String, f64)>,
    /// What people wrote and pressed that is not dealt with yet.
    pub updates: i64,
}

/// Reads it.
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
