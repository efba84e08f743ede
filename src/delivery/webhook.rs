//! The last rung: a POST to the store's own address, signed, so that the receiver knows whose it is.
//!
//! `Vestnik-Signature: t=1790000000,v1=HEX` is the HMAC-SHA-256 of `TIME.BODY` under the store's secret.

use std::time::Duration;

use deadpool_postgres::Pool;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::retry;
use crate::db::{self, Failed};

/// How long the receiver may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a post belongs to its node, seconds: more than the deadline.
const LEASE_S: f64 = 30.0;
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
    loop {
        let posted = match claim(pool).await {
            Ok(Some(post)) => {
                let result = send(&http, &post).await;
                settle(pool, &post, result).await.map(|()| true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        let again = posted.unwrap_or_else(|error| {
            tracing::warn!(%error, "webhooks wait: Postgres is away");
            false
        });
        if stop.is_cancelled() {
            return;
        }
        if !again {
            tokio::select! {
                () = tokio::time::sleep(IDLE) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

async fn claim(pool: &Pool) -> Result<Option<Post>, Failed> {
    const CLAIM: &str = "with due as (select event_id from vestnik.webhook \
             where state in ('pending', 'sending', 'retrying') and due_at <= clock_timestamp() and leased_until <= clock_timestamp() \
             order by due_at limit 1 for update skip locked) \
         update vestnik.webhook w set state = 'sending', attempts = w.attempts + 1, fence = w.fence + 1, \
             leased_until = clock_timestamp() + make_interval(secs => $1) \
         from due, vestnik.store s, vestnik.event e \
         where w.event_id = due.event_id and s.id = w.store_id and e.id = w.event_id and s.webhook_url is not null \
         returning w.event_id, w.fence, w.attempts, s.webhook_url, s.webhook_secret, \
             json_build_object('type', 'order_unanswered', 'event_id', e.id::text, 'store_id', e.store_id, \
                 'order_id', e.data ->> 'order_id', 'at', e.at)::text";
    db::answered(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(CLAIM).await?;
        let Some(row) = client.query_opt(&statement, &[&LEASE_S]).await? else {
            return Ok(None);
        };
        Ok(Some(Post {
            event: row.try_get(0)?,
            fence: row.try_get(1)?,
            attempts: row.try_get(2)?,
            url: row.try_get(3)?,
            secret: row.try_get(4)?,
            body: row.try_get(5)?,
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

async fn settle(pool: &Pool, post: &Post, result: Result<(), String>) -> Result<(), Failed> {
    const SETTLE: &str = "with settled as (update vestnik.webhook w set leased_until = '-infinity', reason = $3, \
             due_at = clock_timestamp() + make_interval(secs => $4), settled_at = clock_timestamp(), \
             state = case when $3::text is null then 'sent' \
                          when (select at from vestnik.event e where e.id = w.event_id) < now() - make_interval(secs => $5) then 'dead' \
                          else 'retrying' end \
             where event_id = $1 and fence = $2 returning event_id, store_id, state) \
         insert into vestnik.reach (event_id, way, recipient, sent_at) \
         select event_id, 'webhook', store_id, clock_timestamp() from settled where state = 'sent' on conflict do nothing";
    let pause = retry::pause(post.attempts.unsigned_abs(), fastrand::f64()).as_secs_f64();
    let reason = result.err();
    db::answered(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(SETTLE).await?;
        client
            .execute(&statement, &[&post.event, &post.fence, &reason, &pause, &GIVE_UP_S])
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
