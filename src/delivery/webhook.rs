//! The last rung: a POST to the store's own address, signed, so that the receiver knows whose it is.
//!
//! `Vestnik-Signature: t=1790000000,v1=HEX` is the HMAC-SHA-256 of `TIME.BODY` under the store's secret.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::retry;
use crate::db::{self, Failed, Pool};

/// How long the receiver may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a post belongs to its node, seconds: more than the deadline.
const LEASE_S: f64 = 30.0;
/// Posts of this node at once, one a store: a receiver that hangs holds up its own only.
const POSTS_AT_ONCE: usize = 8;
/// Whether the order of event `e` has its answer.
const ANSWERED: &str = "(exists (select from vestnik.vst_acknowledgement a where a.event_id = e.id) \
     or exists (select from vestnik.vst_escalation l where l.event_id = e.id and l.outcome in ('answered', 'removed')))";
/// Posts that are given up at once.
const BATCH_OVER: i64 = 100;
/// Between two looks for posts.
const IDLE: Duration = Duration::from_secs(1);
/// After this long nobody is helped by it any more, seconds.
const GIVE_UP_S: f64 = 24.0 * 60.0 * 60.0;

/// A post that this node makes.
struct Post {
    event: i64,
    fence: i64,
    attempts: i32,
    url: String,
    secret: String,
    body: String,
    /// The order has its answer: nobody need be called any more.
    answered: bool,
}

/// Why a post did not arrive.
enum Failure {
    /// It may the next time.
    Passing(String),
    /// Nobody wants it any more.
    Over(&'static str),
}

/// Posts what is due, until the shutdown.
pub async fn run(pool: &Pool, stop: &CancellationToken) {
    let http = match reqwest::Client::builder()
        .timeout(DEADLINE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
    {
        Ok(http) => http,
        Err(error) => return tracing::error!(%error, "webhooks cannot be posted from here"),
    };
    let mut posts = JoinSet::new();
    while !stop.is_cancelled() {
        while posts.len() < POSTS_AT_ONCE {
            match claim(pool).await {
                Ok(Some(post)) => posts.spawn(carry(pool.clone(), http.clone(), post)),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "webhooks wait");
                    break;
                }
            };
        }
        tokio::select! {
            () = tokio::time::sleep(IDLE) => {}
            Some(_) = posts.join_next() => {}
            () = stop.cancelled() => {}
        }
    }
    while posts.join_next().await.is_some() {}
}

async fn carry(pool: Pool, http: reqwest::Client, post: Post) {
    let result = match post.answered {
        true => Err(Failure::Over("answered meanwhile")),
        false => send(&http, &post).await.map_err(Failure::Passing),
    };
    if let Err(error) = settle(&pool, &post, result).await {
        tracing::warn!(%error, event = post.event, "a webhook was not settled: it is posted again");
    }
}

async fn claim(pool: &Pool) -> Result<Option<Post>, Failed> {
    const DUE: &str = "w.state in ('pending', 'sending', 'retrying') and w.due_at <= clock_timestamp() and w.leased_until <= clock_timestamp()";
    let over = format!(
        "with over as (select w.event_id from vestnik.vst_webhook w where {DUE} and not exists ( \
                 select from vestnik.vst_store s where s.id = w.store_id and s.webhook_url is not null) \
             order by w.due_at limit $1 for update skip locked) \
         update vestnik.vst_webhook w set state = 'dead', settled_at = clock_timestamp(), \
             reason = 'the store has no address any more' from over where w.event_id = over.event_id"
    );
    let claim = format!(
        "with due as (select w.event_id from vestnik.vst_webhook w join vestnik.vst_store s on s.id = w.store_id \
             where {DUE} and s.webhook_url is not null and not exists ( \
                 select from vestnik.vst_webhook o where o.store_id = w.store_id and o.state = 'sending' and o.leased_until > clock_timestamp()) \
             order by w.due_at limit 1 for update of w skip locked) \
         update vestnik.vst_webhook w set attempts = w.attempts + 1, fence = w.fence + 1, state = 'sending', \
             leased_until = clock_timestamp() + make_interval(secs => $1) \
         from due, vestnik.vst_store s, vestnik.vst_event e \
         where w.event_id = due.event_id and s.id = w.store_id and e.id = w.event_id \
         returning w.event_id, w.fence, w.attempts, s.webhook_url, s.webhook_secret, \
             json_build_object('type', 'order_unanswered', 'event_id', e.id::text, 'store_id', e.store_id, \
                 'order_id', e.key, 'source', (select o.name from vestnik.vst_source o where o.id = e.source), 'at', e.at)::text, {ANSWERED}"
    );
    db::answered(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::bound_silence(&transaction).await?;
        db::read_by_index(&transaction).await?;
        let statement = transaction.prepare_cached(&over).await?;
        transaction.execute(&statement, &[&BATCH_OVER]).await?;
        let statement = transaction.prepare_cached(&claim).await?;
        let row = transaction.query_opt(&statement, &[&LEASE_S]).await?;
        transaction.commit().await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Post {
            event: row.try_get(0)?,
            fence: row.try_get(1)?,
            attempts: row.try_get(2)?,
            url: row.try_get(3)?,
            secret: row.try_get(4)?,
            body: row.try_get(5)?,
            answered: row.try_get(6)?,
        }))
    })
    .await
}

/// What the receiver checks.
pub fn signature(secret: &str, time: i64, body: &str) -> String {
    // A key of any length is one.
    let mut mac = match Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        Ok(mac) => mac,
        Err(_) => return String::new(),
    };
    mac.update(format!("{time}.{body}").as_bytes());
    let hex: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={time},v1={hex}")
}

async fn send(http: &reqwest::Client, post: &Post) -> Result<(), String> {
    let signature = signature(&post.secret, OffsetDateTime::now_utc().unix_timestamp(), &post.body);
    let request = http
        .post(&post.url)
        .header("content-type", "application/json")
        .header("vestnik-signature", signature)
        .body(post.body.clone());
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("answered {}", answer.status().as_u16())),
        // Its address may hold a secret of the store's.
        Err(error) => Err(error.without_url().to_string()),
    }
}

async fn settle(pool: &Pool, post: &Post, result: Result<(), Failure>) -> Result<(), Failed> {
    const SETTLE: &str = "with settled as (update vestnik.vst_webhook w set leased_until = '-infinity', reason = $3, \
             due_at = clock_timestamp() + make_interval(secs => $4), settled_at = clock_timestamp(), \
             state = case when $3::text is null then 'sent' \
                          when $6 or (select at from vestnik.vst_event e where e.id = w.event_id) < now() - make_interval(secs => $5) then 'dead' \
                          else 'retrying' end \
             where event_id = $1 and fence = $2 returning event_id, store_id, state) \
         insert into vestnik.vst_receipt (event_id, way, recipient, sent_at) \
         select event_id, 'webhook', store_id, clock_timestamp() from settled where state = 'sent' on conflict do nothing";
    let pause = retry::pause(post.attempts.unsigned_abs(), fastrand::f64()).as_secs_f64();
    let (reason, over) = match result {
        Ok(()) => (None, false),
        Err(Failure::Passing(reason)) => (Some(reason), false),
        Err(Failure::Over(why)) => (Some(why.to_owned()), true),
    };
    db::answered(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(SETTLE).await?;
        client
            .execute(
                &statement,
                &[&post.event, &post.fence, &reason, &pause, &GIVE_UP_S, &over],
            )
            .await?;
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_hmac_of_time_and_body() {
        // From: printf '1790000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let expected = "t=1790000000,v1=3d02334942fff50e279f641c1b104ff5f49380d94ff307bb92b1e03f5aee6ff0";
        assert_eq!(signature("0123456789abcdef", 1_790_000_000, "{}"), expected);
    }
}
