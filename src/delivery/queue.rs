//! Claims durable sends. All the rules of who may send what and when are here, in Postgres, for all nodes
//! together: one send at a time in a lane of a chat, a second between two, twenty a minute for a group, thirty a second for
//! the bot; each counted from the *end* of a send, for when within it Telegram counted it is not known.

use std::time::Duration;

use crate::infra::db::{Client, Pool, Transaction};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::choice::next_work;
use super::lane::{self, Lane};
use super::next_message::Work;
use super::{complete, dead_letter};
use crate::infra::db::{self, QueryError};
use crate::sources::Sources;
use crate::sources::registry::Registry;

/// Slots of the bot, from the first on, that are for what must not delay orders: chats whose last send failed, which holds
/// its slot for the whole deadline when it hangs; edits; and answers to chats that belong to no store.
const SLOTS_OF_THE_REST: i32 = 10;
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
    /// Which of its lanes.
    pub lane: Lane,
    /// Its number at Telegram.
    pub telegram_id: i64,
    /// What it is called, where that is known.
    pub title: Option<String>,
    /// The topic of a forum that it goes to.
    pub topic: Option<i32>,
    /// Failures in a row of what is sent, though Telegram was reached.
    pub failures: u32,
    /// How often Telegram has refused it: once, and it goes without markup; twice, and without buttons.
    pub refusals: u32,
    /// Whether its link is blocked, and the others were told.
    pub was_blocked: bool,
    /// Which claim of the lane this is. Only the newest settles.
    pub fence: i64,
    /// The slot of the bot that its send takes.
    pub slot: i32,
    /// How long chat and slot are held for it, seconds.
    pub held_s: f64,
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

/// The rules of a claim that are settings, and who claims.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How long it holds.
    pub lease: Duration,
    /// How long its send may take.
    pub deadline: Duration,
    /// Messages that may wait for a chat; above: digests.
    pub digest_threshold: usize,
    /// The longest that an idle node waits before it looks again.
    pub idle: Duration,
    /// SHA-256 of the bot's token: whether the bot is stopped is asked of that one.
    pub bot: [u8; 32],
    /// The node, as it stands in `vestnik.vst_bot_node`.
    pub node: String,
}

/// Claims the next chat that may be sent to: for a message, or else for an edit.
pub async fn claim(pool: &Pool, sources: &Registry, rules: &Rules) -> Result<Claimed, QueryError> {
    for lane in Lane::ALL {
        if let Some(claimed) = db::with_timeout(claim_in(pool, sources, rules, lane)).await? {
            return Ok(claimed);
        }
    }
    db::with_timeout(async {
        let client = pool.get().await?;
        complete::reap(&client).await?;
        Ok(Claimed::Idle(next_due(&client, rules).await?))
    })
    .await
}

/// `None`: no chat may be sent to in this lane now.
async fn claim_in(pool: &Pool, sources: &Registry, rules: &Rules, lane: Lane) -> Result<Option<Claimed>, QueryError> {
    let asked = Instant::now();
    let send_by = asked + rules.lease - rules.deadline;
    let mut client = pool.get().await?;
    let mut transaction = client.transaction().await?;
    db::limit_idle_in_transaction(&transaction).await?;
    let statement = transaction.prepare_cached(&claim_sql(lane)).await?;
    // A send that begins and ends at the last moment of its lease still has its distance from the next.
    let held_s = rules.lease.as_secs_f64() + complete::CHAT_SPACING_S;
    let parameters: [&(dyn ToSql + Sync); 4] = [&held_s, &SLOTS_OF_THE_REST, &rules.bot.as_slice(), &rules.node];
    let Some(row) = transaction.query_opt(&statement, &parameters).await? else {
        return Ok(None);
    };
    let (chat, fence, slot) = (ChatId(row.try_get(0)?), row.try_get(2)?, row.try_get(3)?);
    let sources = sources.in_force(&transaction).await?;
    let work = match next(&mut transaction, &sources, chat, lane, rules.digest_threshold).await {
        Ok(work) => work,
        // Postgres is away, or busy: all chats wait for the same.
        Err(error) if dead_letter::is_transient(&error) => return Err(error),
        Err(error) => {
            transaction.rollback().await?;
            dead_letter::set_aside(&mut client, &sources, chat, lane, &error).await?;
            return Ok(Some(Claimed::Empty));
        }
    };
    let Some(work) = work else {
        release_idle(&transaction, chat, lane, slot).await?;
        transaction.commit().await?;
        return Ok(Some(Claimed::Empty));
    };
    let sending = sending(&transaction, &work, fence).await?;
    let claim = Claim {
        chat,
        lane,
        telegram_id: row.try_get(1)?,
        title: row.try_get(4)?,
        topic: sending.topic,
        failures: sending.failures,
        refusals: sending.refusals,
        was_blocked: sending.was_blocked,
        fence,
        slot,
        held_s,
        send_by,
        work,
    };
    transaction.commit().await?;
    Ok(Some(Claimed::Work(Box::new(claim))))
}

/// A chat and a slot of the bot, or neither. What is locked is somebody else's. Chat and slot are held to the same moment,
/// counted from the transaction's start: by it the settlement knows the slot again.
fn claim_sql(lane: Lane) -> String {
    let own = lane.columns();
    let (next_at, wakes_at, until) = (own.next_at, own.wakes_at, own.leased_until);
    let (is_first, may_go) = match lane {
        // An edit under way counts when it begins, or a second later on a slow line.
        Lane::Messages => (
            "c.failures = 0 and exists (select from vestnik.vst_chat_link l where l.chat_id = c.id)",
            "(c.edit_leased_until = '-infinity' \
               or c.edit_leased_until - make_interval(secs => $1) < clock_timestamp() - interval '2.05 s') \
             and (c.edit_wakes_at is null or c.edit_wakes_at > clock_timestamp() or c.edit_next_at > clock_timestamp() \
               or (select count(*) from unnest(c.recent) t where t > clock_timestamp() - w.span and t <> all (c.edits)) < w.share)",
        ),
        Lane::Edits => (
            "false",
            "c.leased_until = '-infinity' \
             and ((c.wakes_at is null or c.wakes_at > clock_timestamp()) and not c.waiting \
               or (select count(*) from unnest(c.edits) t where t > clock_timestamp() - w.span) < w.least)",
        ),
    };
    // Where both lanes wait, messages have 14 of a group's 20 sends a minute and edits the rest; of a private chat's, 7 of 10
    // in 10 s.
    format!(
        "with chat as ( \
             select c.id, {is_first} as is_first from vestnik.vst_chat c cross join lateral ( \
                 select case when c.telegram_id < 0 then interval '60.5 s' else interval '10.5 s' end as span, \
                     case when c.telegram_id < 0 then 14 else 7 end as share, \
                     case when c.telegram_id < 0 then 6 else 3 end as least) w \
             where (c.waiting or c.{wakes_at} is not null) and (c.waiting or c.{wakes_at} <= clock_timestamp()) \
                 and c.{next_at} <= clock_timestamp() and c.{until} = '-infinity' and c.disabled_at is null and {may_go} \
                 and exists (select from vestnik.vst_bot_slot s where s.free_at <= clock_timestamp() and ({is_first} or s.slot <= $2)) \
                 and (select stopped_at is null or stopped_hash is distinct from $3 from vestnik.vst_bot) \
             order by c.{next_at} limit 1 for no key update of c skip locked), \
         slot as ( \
             select s.slot from vestnik.vst_bot_slot s, chat where s.free_at <= clock_timestamp() and (chat.is_first or s.slot <= $2) \
             order by case when chat.is_first then -s.slot else s.slot end limit 1 for update of s skip locked), \
         taken as ( \
             update vestnik.vst_bot_slot set free_at = now() + make_interval(secs => $1) where slot in (select slot from slot)) \
         update vestnik.vst_chat c set {fence} = c.{fence} + 1, {until} = now() + make_interval(secs => $1), {by} = $4, waiting = false, \
             wakes_at = case when c.waiting then now() else c.wakes_at end, \
             edit_wakes_at = case when c.waiting then now() else c.edit_wakes_at end \
         from chat, slot where c.id = chat.id \
         returning c.id, c.telegram_id, c.{fence}, slot.slot, c.title",
        fence = own.fence,
        by = own.leased_by
    )
}

async fn next(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
    lane: Lane,
    digest_threshold: usize,
) -> Result<Option<Work>, QueryError> {
    if lane == Lane::Edits
        && let Some(work) = keyboard(transaction, chat).await?
    {
        return Ok(Some(work));
    }
    next_work(transaction, sources, chat, lane, digest_threshold).await
}

/// Buttons that somebody who pressed one waits for. They are of no use a minute later.
async fn keyboard(transaction: &Transaction<'_>, chat: ChatId) -> Result<Option<Work>, QueryError> {
    const OVER: &str = "update vestnik.vst_delivery set state = 'dead', reason = 'too late for who pressed', settled_at = clock_timestamp() \
         where chat_id = $1 and keyboard is not null and state in ('pending', 'sending', 'retrying') \
           and planned_at < clock_timestamp() - interval '1 minute'";
    const NEXT: &str = "select id, message_id, keyboard from vestnik.vst_delivery where chat_id = $1 and keyboard is not null \
         and state in ('pending', 'sending', 'retrying') and due_at <= clock_timestamp() order by id limit 1";
    let statement = transaction.prepare_cached(NEXT).await?;
    let Some(row) = transaction.query_opt(&statement, &[&chat.0]).await? else {
        return Ok(None);
    };
    let statement = transaction.prepare_cached(OVER).await?;
    let over = transaction.execute(&statement, &[&chat.0]).await?;
    if over > 0 {
        return Box::pin(keyboard(transaction, chat)).await;
    }
    let rows: serde_json::Value = row.try_get(2)?;
    Ok(Some(Work::Keyboard {
        item: row.try_get(0)?,
        message: row.try_get(1)?,
        rows: serde_json::from_value(rows).map_err(|_| QueryError::Inconsistent("buttons that are none"))?,
    }))
}

/// What is known of the deliveries that are sent.
struct Sending {
    topic: Option<i32>,
    failures: u32,
    refusals: u32,
    was_blocked: bool,
}

async fn sending(transaction: &Transaction<'_>, work: &Work, fence: i64) -> Result<Sending, QueryError> {
    const SENDING: &str = "with items as ( \
             update vestnik.vst_delivery set state = 'sending', attempts = attempts + 1, fence = $2 where id = any ($1) \
             returning chat_id, store_id, thread_id, failures, refusals) \
         select max(coalesce(i.thread_id, l.thread_id)), max(i.failures), max(i.refusals), \
             coalesce(bool_or(l.blocked_at is not null), false) \
         from items i left join vestnik.vst_chat_link l on l.chat_id = i.chat_id and l.store_id = i.store_id";
    let statement = transaction.prepare_cached(SENDING).await?;
    let row = transaction.query_one(&statement, &[&work.items(), &fence]).await?;
    let count = |column| {
        row.try_get::<_, Option<i32>>(column)
            .map(|count| count.unwrap_or(0).unsigned_abs())
    };
    Ok(Sending {
        topic: row.try_get(0)?,
        failures: count(1)?,
        refusals: count(2)?,
        was_blocked: row.try_get(3)?,
    })
}

/// How long until something may be sent, `idle` at most, and so long where the bot is stopped. What is due already
/// and was not claimed is locked by another node, or waits for a slot: that is looked at again soon.
async fn next_due(client: &Client, rules: &Rules) -> Result<Duration, QueryError> {
    // Where no chat waits there is no answer, rather than the time of a slot, which may be infinite.
    const NEXT: &str = "select extract(epoch from ( \
             select min(greatest(due_at, (select min(free_at) from vestnik.vst_bot_slot))) from ( \
                 select greatest(next_at, leased_until, case when not waiting then wakes_at end) from vestnik.vst_chat \
                     where (waiting or wakes_at is not null) and disabled_at is null \
                 union all \
                 select greatest(edit_next_at, edit_leased_until, case when not waiting then edit_wakes_at end) from vestnik.vst_chat \
                     where (waiting or edit_wakes_at is not null) and disabled_at is null) lane(due_at)) \
             - clock_timestamp())::float8 \
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

/// The lane has nothing that is due. A planner that has just given it something waits for this row, and marks it again.
async fn release_idle(transaction: &Transaction<'_>, chat: ChatId, lane: Lane, slot: i32) -> Result<(), QueryError> {
    let own = lane.columns();
    let idle = format!(
        "update vestnik.vst_chat set {} = '-infinity', {} = null, {} = ( \
             select min(greatest({}, clock_timestamp())) from vestnik.vst_delivery d \
             where d.chat_id = $1 and d.state in ('pending', 'sending', 'retrying') and {} and {}) \
         where id = $1",
        own.leased_until,
        own.leased_by,
        own.wakes_at,
        lane::DUE_AT,
        lane.has(),
        lane::IS_NEXT,
    );
    let statement = transaction.prepare_cached(&idle).await?;
    transaction.execute(&statement, &[&chat.0]).await?;
    let free = "update vestnik.vst_bot_slot set free_at = '-infinity' where slot = $1";
    transaction.execute(free, &[&slot]).await?;
    Ok(())
}
