//! Saves how tokens are used, for `vestnik token list`: the time of each token's last use, and the number of its
//! sessions on this node.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::infra::db::Pool;
use tokio_util::sync::CancellationToken;

use super::{Error, TokenId};
use crate::infra::db;
use crate::infra::periodic::Periodic;

/// The time between two checks whether the use of tokens must be saved in Postgres.
const TELL_INTERVAL: Duration = Duration::from_secs(5);
/// If a node has saved nothing for this many seconds, its sessions do not count any more.
const NODE_LIFE_S: f64 = 30.0;
/// Maximum time between two reports of a node to Postgres, even if nothing has changed.
const RENEWAL: Duration = Duration::from_secs(10);
/// The precision of the saved time of a token's last use, seconds. The time is not saved again before so many seconds
/// have passed.
const PRECISION_S: f64 = 60.0;

/// Collects the tokens that are used, until the next report to Postgres.
#[derive(Debug, Default)]
pub struct Usage {
    used: Mutex<HashSet<TokenId>>,
}

impl Usage {
    /// Records that a token was used now.
    pub fn note(&self, token: TokenId) {
        self.used().insert(token);
    }

    fn used(&self) -> std::sync::MutexGuard<'_, HashSet<TokenId>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves the use of tokens in Postgres until the shutdown, and then deletes the counts of this node. `sessions`
    /// returns the number of sessions of each token on this node.
    pub async fn run(
        self: Arc<Self>,
        pool: Pool,
        sessions: impl Fn() -> BTreeMap<TokenId, usize> + Send,
        stop: CancellationToken,
    ) {
        let node = format!("{:016x}", fastrand::u64(..));
        let (mut reported, mut reported_at) = (BTreeMap::new(), None::<Instant>);
        let mut periodic = Periodic::later(TELL_INTERVAL, &stop);
        while periodic.next_run().await {
            let now = sessions();
            let mut used = std::mem::take(&mut *self.used());
            used.extend(now.keys());
            let is_due = reported_at.is_none_or(|reported_at| reported_at.elapsed() >= RENEWAL) || now != reported;
            if !is_due && used.is_empty() {
                continue;
            }
            match report(&pool, &node, &now, &used).await {
                Ok(()) => (reported, reported_at) = (now, Some(Instant::now())),
                Err(error) => {
                    reported_at = None;
                    self.used().extend(used);
                    tracing::debug!(%error, "the use of tokens was not kept");
                }
            }
        }
        if let Err(error) = leave(&pool, &node).await {
            tracing::debug!(%error, "that this node has no sessions any more was not kept");
        }
    }
}

async fn report(
    pool: &Pool,
    node: &str,
    sessions: &BTreeMap<TokenId, usize>,
    used: &HashSet<TokenId>,
) -> Result<(), Error> {
    const SESSIONS: &str = "insert into vestnik.vst_token_use as u (node, until, tokens, sessions) \
         values ($1, clock_timestamp() + make_interval(secs => $2), $3, $4) on conflict (node) do update set \
             until = excluded.until, tokens = excluded.tokens, sessions = excluded.sessions";
    const USED: &str = "update vestnik.vst_token set used_at = clock_timestamp() where id = any ($1) \
         and coalesce(used_at < clock_timestamp() - make_interval(secs => $2), true)";
    const EXPIRED: &str = "delete from vestnik.vst_token_use where until < clock_timestamp()";
    let tokens: Vec<i64> = sessions.keys().map(|token| token.0).collect();
    let counts: Vec<i32> = sessions.values().map(|count| *count as i32).collect();
    let used: Vec<i64> = used.iter().map(|token| token.0).collect();
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(SESSIONS).await?;
        client
            .execute(&statement, &[&node, &NODE_LIFE_S, &tokens, &counts])
            .await?;
        if !used.is_empty() {
            let statement = client.prepare_cached(USED).await?;
            client.execute(&statement, &[&used, &PRECISION_S]).await?;
        }
        client.execute(EXPIRED, &[]).await?;
        Ok(())
    })
    .await
}

async fn leave(pool: &Pool, node: &str) -> Result<(), Error> {
    db::with_timeout(async {
        let client = pool.get().await?;
        let leave = "delete from vestnik.vst_token_use where node = $1";
        client.execute(leave, &[&node]).await?;
        Ok(())
    })
    .await
}
