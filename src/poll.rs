//! Who polls Telegram for the whole fleet, how far it has come, and whether the bot is let in at all: one row.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::db::{self, Client, Failed, Pool};

/// Whether this node polls for the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It does, and goes on behind this update.
    Ours {
        /// What to ask Telegram for next.
        next_update: i64,
    },
    /// Another node does.
    Elsewhere,
    /// The bot is stopped: its token is not let in.
    Stopped,
}

/// Takes or keeps the lease of the long poll for so long.
pub async fn lease(pool: &Pool, node: &str, lease: Duration) -> Result<Lease, Failed> {
    const LEASE: &str = "update vestnik.vst_bot set poller = $1, polls_until = clock_timestamp() + make_interval(secs => $2) \
         where stopped_at is null and (poller = $1 or polls_until < clock_timestamp()) returning next_update";
    db::answered(async {
        let client = pool.get().await?;
        if let Some(row) = client.query_opt(LEASE, &[&node, &lease.as_secs_f64()]).await? {
            return Ok(Lease::Ours {
                next_update: row.try_get(0)?,
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

/// The updates before this one have been dealt with, and the lease holds for so long from now on. Whether it still is
/// this node's: where it is not, nothing is stored, and the other node deals with them again.
///
/// The number may go down: after a quiet week Telegram begins anew, anywhere.
pub async fn dealt_with(pool: &Pool, node: &str, next_update: i64, lease: Duration) -> Result<bool, Failed> {
    const DEALT: &str = "update vestnik.vst_bot set next_update = $2, polls_until = clock_timestamp() + make_interval(secs => $3) \
         where poller = $1";
    db::answered(async {
        let client = pool.get().await?;
        Ok(client
            .execute(DEALT, &[&node, &next_update, &lease.as_secs_f64()])
            .await?
            > 0)
    })
    .await
}

/// Lets another node poll.
pub async fn release(pool: &Pool, node: &str) -> Result<(), Failed> {
    const RELEASE: &str = "update vestnik.vst_bot set poller = null, polls_until = '-infinity' where poller = $1";
    db::answered(async {
        pool.get().await?.execute(RELEASE, &[&node]).await?;
        Ok(())
    })
    .await
}

/// The token is not let in: no node tries it again.
pub async fn stop_bot(pool: &Pool, token: &str, why: &str) -> Result<(), Failed> {
    const STOP: &str = "update vestnik.vst_bot set stopped_at = clock_timestamp(), stopped_why = $2, stopped_hash = $1";
    let token: [u8; 32] = Sha256::digest(token).into();
    db::answered(async {
        pool.get().await?.execute(STOP, &[&token.as_slice(), &why]).await?;
        Ok(())
    })
    .await
}

/// Telegram knows this token: whatever stopped the bot before is over. A bot of another number has updates of its own.
pub async fn start_bot(pool: &Pool, token: &str) -> Result<(), Failed> {
    const START: &str = "update vestnik.vst_bot set stopped_at = null, stopped_why = null, stopped_hash = null, number = $1, \
             next_update = case when number is distinct from $1 then 0 else next_update end \
         where stopped_at is not null or number is distinct from $1";
    let number: Option<i64> = token.split_once(':').and_then(|(number, _)| number.parse().ok());
    db::answered(async {
        pool.get().await?.execute(START, &[&number]).await?;
        Ok(())
    })
    .await
}

/// Why the bot is stopped; `None`: it is not.
pub async fn bot_state(client: &Client) -> Result<Option<String>, Failed> {
    Ok(client
        .query_one("select stopped_why from vestnik.vst_bot", &[])
        .await?
        .try_get(0)?)
}
