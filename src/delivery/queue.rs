//! Claims durable sends. All the rules of who may send what and when are here, in Postgres, for all nodes
//! together: one send at a time to a chat, a second between two, twenty a minute for a group, thirty a second for the
//! bot; each counted from the *end* of a send, for when within it Telegram counted it is not known.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::settle;
use super::work::{Work, next_work};
use crate::db::{self, Failed, Pool, Transaction};
use crate::sources::registry::Registry;

/// Slots of the bot, from the first on, that chats may take whose last send failed. A send that hangs holds its slot for
/// the whole deadline: however many chats are in trouble, the others have the rest.
const SLOTS_OF_FAILING_CHATS: i32 = 10;
/// The shortest wait for what is due soon.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// The wait for what is due already, but was not to be had.
const DUE_ALREADY_WAIT: Duration = Duration::from_millis(100);

/// A chat's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatId(pub i64);

/// A chat that this node may send to, once.
#[derive(Debug)]
pub struct Claim {
    /// Its row.
    pub chat: ChatId,
    /// Its number at Telegram.
    pub telegram_id: i64,
    /// What it is called, where that is known.
    pub title: Option<String>,
    /// Failures in a row before this send.
    pub failures: u32,
    /// Which claim of the chat this is. Only the newest settles.
    pub fence: i64,
    /// The slot of the bot that its send takes.
    pub slot: i32,
    /// The send must have begun before: from then on the lease might end while it is under way. Counted from before
    /// the claim was asked for, by a clock that goes on while the process is stopped.
    pub send_by: Instant,
    /// What to send.
    pub work: Work,
}

/// What a claim brought.
#[derive(Debug)]
pub enum Claimed {
    /// Something to send.
    Work(Box<Claim>),
    /// A chat that had nothing: try again.
    Empty,
    /// Nothing may be sent before this much time.
    Idle(Duration),
}

/// The rules of a claim that are settings.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How long it holds.
    pub lease: Duration,
    /// How long its send may take.
    pub deadline: Duration,
    /// Messages that may wait for a chat; above: digests.
    pub digest_above: usize,
    /// The longest that an idle node waits before it looks again.
    pub idle: Duration,
    /// SHA-256 of the bot's token: whether the bot is stopped is asked of that one.
    pub bot: [u8; 32],
}

/// Claims the next chat that may be sent to.
pub async fn claim(pool: &Pool, sources: &Registry, rules: &Rules) -> Result<Claimed, Failed> {
    // A chat and a slot of the bot, or neither. What is locked is somebody else's. Chat and slot are held to the same
    // moment, counted from the transaction's start: by it the settlement knows the slot again.
    const CLAIM: &str = "with slot as ( \
             select slot from vestnik.vst_bot_slot where free_at <= clock_timestamp() order by slot limit 1 for update skip locked), \
         chat as ( \
             select c.id from vestnik.vst_chat c where c.waiting and c.next_at <= clock_timestamp() \
                 and c.leased_until = '-infinity' and c.disabled_at is null \
                 and (c.failures = 0 and exists (select from slot) or exists (select from slot where slot <= $2)) \
                 and (select stopped_at is null or stopped_hash is distinct from $3 from vestnik.vst_bot) \
             order by c.next_at limit 1 for update skip locked), \
         taken as ( \
             update vestnik.vst_bot_slot set free_at = now() + make_interval(secs => $1) \
             where slot in (select slot from slot) and exists (select from chat)) \
         update vestnik.vst_chat c set fence = c.fence + 1, leased_until = now() + make_interval(secs => $1) \
         from chat, slot where c.id = chat.id \
         returning c.id, c.telegram_id, c.fence, slot.slot, c.failures, c.title";
    let asked = Instant::now();
    let send_by = asked + rules.lease - rules.deadline;
    db::answered(async {
        let mut client = pool.get().await?;
        let mut transaction = client.transaction().await?;
        db::bound_silence(&transaction).await?;
        let statement = transaction.prepare_cached(CLAIM).await?;
        // A send that begins and ends at the last moment of its lease still has its distance from the next.
        let held_s = rules.lease.as_secs_f64() + settle::CHAT_SPACING_S;
        let parameters: [&(dyn ToSql + Sync); 3] = [&held_s, &SLOTS_OF_FAILING_CHATS, &rules.bot.as_slice()];
        let Some(row) = transaction.query_opt(&statement, &parameters).await? else {
            transaction.rollback().await?;
            settle::reap(&client).await?;
            return Ok(Claimed::Idle(next_due(&client, rules).await?));
        };
        let (chat, fence, slot) = (ChatId(row.try_get(0)?), row.try_get(2)?, row.try_get(3)?);
        let sources = sources.in_force(&transaction).await?;
        let Some(work) = next_work(&mut transaction, &sources, chat, rules.digest_above).await? else {
            release_idle(&transaction, chat, slot).await?;
            transaction.commit().await?;
            return Ok(Claimed::Empty);
        };
        let sending =
            "update vestnik.vst_delivery set state = 'sending', attempts = attempts + 1, fence = $2 where id = any ($1)";
        let statement = transaction.prepare_cached(sending).await?;
        transaction.execute(&statement, &[&work.items(), &fence]).await?;
        let claim = Claim {
            chat,
            telegram_id: row.try_get(1)?,
            title: row.try_get(5)?,
            failures: row.try_get::<_, i32>(4)?.unsigned_abs(),
            fence,
            slot,
            send_by,
            work,
        };
        transaction.commit().await?;
        Ok(Claimed::Work(Box::new(claim)))
    })
    .await
}

/// How long until something may be sent, `idle` at most, and so long where the bot is stopped. What is due already
/// and was not claimed is locked by another node, or waits for a slot: that is looked at again soon.
async fn next_due(client: &db::Client, rules: &Rules) -> Result<Duration, Failed> {
    // Where no chat waits there is no answer, rather than the time of a slot, which may be infinite.
    const NEXT: &str = "select extract(epoch from ( \
             select min(greatest(next_at, leased_until, (select min(free_at) from vestnik.vst_bot_slot))) \
             from vestnik.vst_chat where waiting and disabled_at is null) - clock_timestamp())::float8 \
         from vestnik.vst_bot where stopped_at is null or stopped_hash is distinct from $1";
    let statement = client.prepare_cached(NEXT).await?;
    let row = client.query_opt(&statement, &[&rules.bot.as_slice()]).await?;
    let seconds: Option<f64> = row.map(|row| row.try_get(0)).transpose()?.flatten();
    let wait = seconds.map(|seconds| match Duration::try_from_secs_f64(seconds) {
        Ok(wait) if !wait.is_zero() => wait.max(SHORTEST_WAIT),
        Ok(_) => DUE_ALREADY_WAIT,
        Err(_) if seconds < 0.0 => DUE_ALREADY_WAIT,
        Err(_) => rules.idle,
    });
    Ok(wait.unwrap_or(rules.idle).min(rules.idle))
}

/// The chat has nothing. A planner that has just given it something waits for this row, and marks it again.
async fn release_idle(transaction: &Transaction<'_>, chat: ChatId, slot: i32) -> Result<(), Failed> {
    let idle = "update vestnik.vst_chat set waiting = false, leased_until = '-infinity' where id = $1";
    transaction.execute(idle, &[&chat.0]).await?;
    let free = "update vestnik.vst_bot_slot set free_at = '-infinity' where slot = $1";
    transaction.execute(free, &[&slot]).await?;
    Ok(())
}
