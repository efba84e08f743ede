//! The last escalation step: a POST request to the store's webhook. The request is signed as Standard Webhooks
//! specifies, so that the receiver can verify the sender.

use std::time::Duration;

use crate::infra::db::Client;
use crate::infra::db::Pool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use super::retry::Pauses;
use super::webhook_test_message::{self, TestError};
use crate::infra::config::Webhook;
use crate::infra::db::{self, QueryError};
use crate::infra::standard_webhook::{DEADLINE, Letter, Poster};

/// Seconds that a node's lease of a post lasts. The lease is longer than the deadline of the request.
const LEASE_S: f64 = 30.0;
/// The most posts that this node sends at the same time. At most one of them goes to each store, so a slow receiver
/// delays only its own posts.
const POSTS_AT_ONCE: usize = 8;
/// An SQL condition: the order of the event with table alias `e` was answered or removed.
const ANSWERED: &str =
    "exists (select from vestnik.vst_escalation l where l.event_id = e.id and l.outcome in ('answered', 'removed'))";
/// Maximum number of posts that one statement marks as dead, because their store has no webhook any more.
const BATCH_OVER: i64 = 100;
/// The time between two searches for due posts.
const IDLE: Duration = Duration::from_secs(1);
/// The shortest and the longest pause between two attempts to send a post.
const PAUSES: Pauses = Pauses {
    first: Duration::from_secs(5),
    longest: Duration::from_secs(60 * 60),
};
/// If a post fails and its event is older than this many seconds, the post becomes dead. By then, the escalation of the
/// order is useless.
const GIVE_UP_S: f64 = 24.0 * 60.0 * 60.0;

/// A message to a store's webhook. This node has claimed the message, and only this node may send it.
pub struct Post {
    event: i64,
    fence: i64,
    attempts: i32,
    letter: Letter,
    /// Whether the order is already answered or removed. If so, nothing is posted.
    answered: bool,
}

/// The reason why a post failed.
pub enum Failure {
    /// A temporary failure: the next attempt may succeed. The field is the reason of the failure.
    Passing(String),
    /// A permanent failure: the post is not tried again. The field is the reason of the failure.
    Over(&'static str),
}

impl Channel for Poster {
    type Message = Post;
    type Outcome = Result<(), Failure>;

    async fn send(&self, post: &Post, deadline: Duration) -> Result<(), Failure> {
        let posted = self.post(&post.letter, deadline).await;
        match posted.map(|answer| answer.status().as_u16()) {
            Ok(200..300) => Ok(()),
            // In the Standard Webhooks specification, status 410 means that the receiver is gone for good.
            Ok(410) => Err(Failure::Over("answered 410: the receiver is gone")),
            Ok(status) => Err(Failure::Passing(format!("answered {status}"))),
            Err(error) => Err(Failure::Passing(error.to_string())),
        }
    }
}

/// Sends all due webhook posts, until the shutdown.
pub async fn run(pool: &Pool, settings: &Webhook, stop: &CancellationToken) {
    let poster = match Poster::new(*settings) {
        Ok(poster) => poster,
        Err(error) => return tracing::error!(%error, "webhooks cannot be posted from here"),
    };
    let mut posts = JoinSet::new();
    while !stop.is_cancelled() {
        while posts.len() < POSTS_AT_ONCE {
            match claim(pool).await {
                Ok(Some(post)) => posts.spawn(carry(pool.clone(), poster.clone(), post)),
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

async fn carry(pool: Pool, poster: Poster, post: Post) {
    let result = match post.answered {
        true => Err(Failure::Over("answered meanwhile")),
        false => poster.send(&post, DEADLINE).await,
    };
    if let Err(error) = complete(&pool, &post, result).await {
        tracing::warn!(%error, event = post.event, "the outcome of a webhook was not saved: it is posted again");
    }
}

/// Posts a test message to a store's webhook. Returns the HTTP status of the response. `None`: the store has no
/// webhook.
pub async fn test(client: &Client, store: &str, settings: &Webhook) -> Result<Option<u16>, TestError> {
    const STORE: &str = "select webhook_url, array_remove(array[webhook_secret, webhook_secret_old], null), \
             extract(epoch from clock_timestamp())::bigint, json_build_object('type', 'test', 'store_id', id, 'at', clock_timestamp())::text \
         from vestnik.vst_store where id = $1 and webhook_url is not null";
    webhook_test_message::post(client, STORE, &store, settings).await
}

async fn claim(pool: &Pool) -> Result<Option<Post>, QueryError> {
    const DUE: &str = "w.state in ('pending', 'sending', 'retrying') and w.due_at <= clock_timestamp() and w.leased_until <= clock_timestamp()";
    let over = format!(
        "with over as (select w.event_id from vestnik.vst_webhook w where {DUE} and not exists ( \
                 select from vestnik.vst_store s where s.id = w.store_id and s.webhook_url is not null) \
             order by w.due_at limit $1 for update skip locked) \
         update vestnik.vst_webhook w set state = 'dead', completed_at = clock_timestamp(), \
             reason = 'the store has no address any more' from over where w.event_id = over.event_id"
    );
    let claim = format!(
        "with due as (select w.event_id from vestnik.vst_webhook w join vestnik.vst_store s on s.id = w.store_id \
             where {DUE} and s.webhook_url is not null and not exists ( \
                 select from vestnik.vst_webhook o where o.store_id = w.store_id and o.state = 'sending' and o.leased_until > clock_timestamp()) \
             order by w.due_at limit 1 for update of w skip locked) \
         update vestnik.vst_webhook w set attempts = w.attempts + 1, fence = w.fence + 1, state = 'sending', \
             leased_until = clock_timestamp() + make_interval(secs => $1) \
         from due, vestnik.vst_store s, vestnik.vst_event e left join vestnik.vst_source o on o.id = e.source \
         where w.event_id = due.event_id and s.id = w.store_id and e.id = w.event_id \
         returning w.event_id, w.fence, w.attempts, s.webhook_url, \
             array_remove(array[s.webhook_secret, s.webhook_secret_old], null), extract(epoch from clock_timestamp())::bigint, \
             json_build_object('type', coalesce(o.kind, 'order') || '_unanswered', 'event_id', e.id::text, 'store_id', e.store_id, \
                 coalesce(o.kind, 'order') || '_id', e.key, 'source', o.name, 'at', e.at)::text, {ANSWERED}"
    );
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        db::read_by_index(&transaction).await?;
        let statement = transaction.prepare_cached(&over).await?;
        transaction.execute(&statement, &[&BATCH_OVER]).await?;
        let statement = transaction.prepare_cached(&claim).await?;
        let row = transaction.query_opt(&statement, &[&LEASE_S]).await?;
        transaction.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let event: i64 = row.try_get(0)?;
        Ok(Some(Post {
            event,
            fence: row.try_get(1)?,
            attempts: row.try_get(2)?,
            letter: Letter {
                id: format!("evt_{event}"),
                url: row.try_get(3)?,
                secrets: row.try_get(4)?,
                time: row.try_get(5)?,
                body: row.try_get(6)?,
            },
            answered: row.try_get(7)?,
        }))
    })
    .await
}

async fn complete(pool: &Pool, post: &Post, result: Result<(), Failure>) -> Result<(), QueryError> {
    const COMPLETE: &str = "with completed as (update vestnik.vst_webhook w set leased_until = '-infinity', reason = $3, \
             due_at = clock_timestamp() + make_interval(secs => $4), completed_at = clock_timestamp(), \
             state = case when $3::text is null then 'sent' \
                          when $6 or (select at from vestnik.vst_event e where e.id = w.event_id) < now() - make_interval(secs => $5) then 'dead' \
                          else 'retrying' end \
             where event_id = $1 and fence = $2 returning event_id, store_id, state) \
         insert into vestnik.vst_receipt (event_id, channel, recipient, sent_at) \
         select event_id, 'webhook', store_id, clock_timestamp() from completed where state = 'sent' on conflict do nothing";
    let pause = PAUSES
        .after(post.attempts.unsigned_abs(), fastrand::f64())
        .as_secs_f64();
    let (reason, over) = match result {
        Ok(()) => (None, false),
        Err(Failure::Passing(reason)) => (Some(reason), false),
        Err(Failure::Over(why)) => (Some(why.to_owned()), true),
    };
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(COMPLETE).await?;
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
