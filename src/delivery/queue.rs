//! Claims chats for sends by this node. A claim is the right to send one message to a chat. Postgres enforces
//! Telegram's limits for all nodes together. Each lane of a chat (new messages, or edits) has one send at a time, with
//! a pause of a second between two sends. A group gets at most 20 sends per minute, and the bot makes at most 30 sends
//! per second. These times count from the *end* of a send, because Telegram does not tell when it counts a send.

use std::time::Duration;

use crate::infra::db::{Client, Pool, Transaction};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::channel::Claim;
use super::choice::{DigestRule, next_work};
use super::lane::{self, ChatId, Lane};
use super::next_message::Work;
use super::{dead_letter, list_button, send_outcome};
use crate::infra::db::{self, QueryError};
use crate::sources::Sources;
use crate::sources::registry::Registry;

/// A slot is the right to make one of the bot's sends per second. This is the number of slots for sends that must not
/// delay orders: edits, messages to chats without a store, and sends to chats whose last send failed. Such a send may
/// hold its slot for long, if Telegram does not respond.
const SLOTS_OF_THE_REST: i32 = 10;
/// The shortest pause before the next attempt to claim a chat, if a delivery will be due soon.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// The pause before the next attempt to claim a chat, if a delivery is due but could not be claimed.
const DUE_ALREADY_WAIT: Duration = Duration::from_millis(100);

/// The outcome of an attempt to claim a chat. A claim gives this node the right to send one message to the chat.
#[derive(Debug)]
pub enum Claimed {
    /// This node has claimed a chat, and must send this message to it.
    Work(Box<Claim>),
    /// A chat was claimed, but there was nothing to send to it. The caller must try again at once.
    Empty,
    /// No chat could be claimed. The caller must wait for this time before the next attempt.
    Idle(Duration),
}

/// The settings that this node uses for all its claims.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The longest duration of a claim. After that, another node may claim the chat.
    pub lease: Duration,
    /// The deadline of a send.
    pub deadline: Duration,
    /// The rule for digests: when a chat gets one message that lists many events.
    pub digest: DigestRule,
    /// The longest wait of an idle node before it looks again for due deliveries.
    pub idle: Duration,
    /// SHA-256 of the bot's token. If Telegram has refused this token, nothing is sent.
    pub bot: [u8; 32],
    /// The id of this node's row in `vestnik.vst_bot_node`.
    pub node: String,
}

/// Claims the next chat that may get a new message. If there is none, claims a chat in which a sent message may be
/// edited.
pub async fn claim(pool: &Pool, sources: &Registry, rules: &Rules) -> Result<Claimed, QueryError> {
    for lane in Lane::ALL {
        if let Some(claimed) = db::with_timeout(claim_in(pool, sources, rules, lane)).await? {
            return Ok(claimed);
        }
    }
    db::with_timeout(async {
        let client = pool.get().await?;
        send_outcome::expire_leases(&client).await?;
        Ok(Claimed::Idle(next_due(&client, rules).await?))
    })
    .await
}

/// Claims a chat in one lane (new messages, or edits). `None`: no chat of this lane has a delivery that may be sent
/// now.
async fn claim_in(pool: &Pool, sources: &Registry, rules: &Rules, lane: Lane) -> Result<Option<Claimed>, QueryError> {
    let began = Instant::now();
    let send_by = began + rules.lease - rules.deadline;
    let mut client = pool.get().await?;
    let mut transaction = client.transaction().await?;
    db::limit_idle_in_transaction(&transaction).await?;
    let statement = transaction.prepare_cached(&claim_sql(lane)).await?;
    // Hold the chat for longer than the lease. If this send ends together with the lease, a pause still remains before
    // the next send.
    let held_s = rules.lease.as_secs_f64() + send_outcome::CHAT_SPACING_S;
    let parameters: [&(dyn ToSql + Sync); 4] = [&held_s, &SLOTS_OF_THE_REST, &rules.bot.as_slice(), &rules.node];
    let Some(row) = transaction.query_opt(&statement, &parameters).await? else {
        return Ok(None);
    };
    let (chat, fence, slot) = (ChatId(row.try_get(0)?), row.try_get(2)?, row.try_get(3)?);
    let sources = sources.in_force(&transaction).await?;
    let work = match next(&mut transaction, &sources, chat, lane, rules.digest).await {
        Ok(work) => work,
        // Postgres is busy or not reached, so this chat did not cause the failure.
        Err(error) if dead_letter::is_transient(&error) => return Err(error),
        Err(error) => {
            transaction.rollback().await?;
            dead_letter::dead_letter(&mut client, &sources, chat, lane, &error).await?;
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

/// Returns SQL that claims both a chat and a slot, or neither. A slot is the right to make one of the bot's sends per
/// second. The statement skips rows that another node has locked. It gives the chat and the slot the same end time, by
/// which `send_outcome::release` recognizes the slot of a claim.
fn claim_sql(lane: Lane) -> String {
    let own = lane.columns();
    let (next_at, wakes_at, until) = (own.next_at, own.wakes_at, own.leased_until);
    let (is_first, may_go) = match lane {
        // A message waits until Telegram has counted an edit that is under way. On a slow connection, Telegram counts
        // an edit up to a second after it began.
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
    // If both lanes of a chat have deliveries, a group gets 14 messages and 6 edits a minute. A private chat gets 7
    // messages and 3 edits in 10 s.
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
    digest: DigestRule,
) -> Result<Option<Work>, QueryError> {
    if lane == Lane::Edits
        && let Some(work) = keyboard(transaction, chat).await?
    {
        return Ok(Some(work));
    }
    match next_work(transaction, sources, chat, lane, digest).await? {
        // Lists of orders are edited last: the orders' own messages are more important.
        None if lane == Lane::Edits => list_button::next_edit(transaction, sources, chat).await,
        work => Ok(work),
    }
}

/// Returns the next queued change of a message's buttons in this chat. Marks changes older than a minute as dead,
/// because the person who pressed a button does not wait any more. `None`: no change is due.
async fn keyboard(transaction: &Transaction<'_>, chat: ChatId) -> Result<Option<Work>, QueryError> {
    const OVER: &str = "update vestnik.vst_delivery set state = 'dead', reason = 'too late for who pressed', completed_at = clock_timestamp() \
         where chat_id = $1 and keyboard is not null and not is_list and state in ('pending', 'sending', 'retrying') \
           and waits_since < clock_timestamp() - interval '1 minute'";
    const NEXT: &str = "select id, message_id, keyboard from vestnik.vst_delivery where chat_id = $1 and keyboard is not null and not is_list \
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

/// Returns the time until the next send may begin, at most `idle`. While the bot is stopped, returns `idle`. If a due
/// delivery could not be claimed (another node has locked the chat, or no slot is free), returns a short time.
async fn next_due(client: &Client, rules: &Rules) -> Result<Duration, QueryError> {
    // If no chat waits, the query returns null. A time would be wrong then, because the time at which a slot is free
    // may be infinite.
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

/// Ends a claim without a send, because the chat has no due delivery in this lane (new messages, or edits). Another
/// node may enqueue a delivery for this chat at the same moment. That node waits for the lock on the chat's row, and
/// then marks the chat for the next claim. So no delivery is lost.
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
