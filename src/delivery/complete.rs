//! What became of a send, written down: under the fence of its claim, so that a node which lost its lease changes
//! nothing of what the next one does.

use std::time::Duration;

use crate::infra::db::{Client, Pool, Transaction};

use super::chat_state::{self, Told};
use super::lane::Lane;
use super::migrate;
use super::next_message::Work;
use super::queue::Claim;
use super::retry::Pauses;
use crate::delivery::shared_bot;
use crate::infra::db::{self, QueryError};

/// Between two sends to one chat, seconds. Telegram allows one a second; a little more, for clocks differ.
pub(super) const CHAT_SPACING_S: f64 = 1.05;
/// How long a slot of the bot stays taken after its send ended, seconds.
const SLOT_WINDOW_S: f64 = 1.05;
/// Before a refused message is tried without its markup: what else waits for the chat goes first, seconds.
const PLAIN_PAUSE_S: f64 = 2.0;
/// How long a message waits that failed though Telegram was reached. The first that goes through ends it for all.
const PAUSES: Pauses = Pauses {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(5 * 60),
};
/// Times that a message is refused before it is set aside: with markup, without, and without buttons.
pub const MOST_REFUSALS: u32 = 3;

/// What became of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is there, under this number; none where it was an edit, or there was nothing to change.
    Sent(Option<i32>),
    /// The message that was to be edited is gone: a new one takes its place.
    MessageGone,
    /// Telegram wants this lane of the chat left alone for so long.
    Throttled(Duration),
    /// The chat takes nothing any more.
    Gone(String),
    /// The bot may not write there now.
    Blocked {
        /// Of the chat, or of the topic alone.
        block: Block,
        /// In Telegram's words.
        reason: String,
    },
    /// The group has another number now.
    Migrated(i64),
    /// This message is refused, as it is.
    Refused(String),
    /// The bot itself is not let in.
    Stopped(String),
    /// It failed, though Telegram is reached: this one waits, and no other.
    Failed(String),
    /// Telegram is not reached from this node: it goes out as soon as a node reaches it.
    NotReached(String),
    /// The lease was nearly over before it began, so it was not begun.
    NotBegun,
}

/// What is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// The bot has no right to write in the chat.
    Chat,
    /// A topic of it is closed.
    TopicClosed,
    /// A topic of it is deleted: what was meant for it goes to the chat itself.
    TopicGone,
}

/// Whether the settlement counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is written down; and what others are to be told of the chat is planned.
    Kept(Told),
    /// Another node has claimed the chat since: what it does counts.
    Overtaken,
}

/// Writes it down.
pub async fn settle(pool: &Pool, claim: &Claim, outcome: &Outcome) -> Result<Settled, QueryError> {
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        if !is_ours(&transaction, claim).await? {
            return Ok(Settled::Overtaken);
        }
        let state = state_of(claim, outcome);
        items(&transaction, claim, outcome, &state).await?;
        let told = match outcome {
            Outcome::Sent(message) => {
                remember(&transaction, claim, *message).await?;
                prove(&transaction, claim).await?;
                match claim.was_blocked {
                    true => chat_state::unblocked(&transaction, claim.chat, claim.topic).await?,
                    false => Told::default(),
                }
            }
            Outcome::MessageGone => forget(&transaction, claim).await.map(|()| Told::default())?,
            Outcome::Gone(why) => chat_state::gone(&transaction, claim.chat, why).await?,
            Outcome::Blocked { block, reason } => {
                chat_state::blocked(&transaction, claim.chat, *block, claim.topic, reason).await?
            }
            Outcome::Migrated(to) => migrate::migrate(&transaction, claim.chat, *to)
                .await
                .map(|()| Told::default())?,
            _ => Told::default(),
        };
        note(&transaction, claim, outcome, &state).await?;
        release(&transaction, claim, outcome).await?;
        transaction.commit().await?;
        if matches!(state.name, "sent" | "dead") {
            let settled = claim.work.items().len() as u64;
            metrics::counter!("vestnik_telegram_settled_total", "state" => state.name).increment(settled);
        }
        told.wake(&client).await?;
        Ok(Settled::Kept(told))
    })
    .await
}

async fn is_ours(transaction: &Transaction<'_>, claim: &Claim) -> Result<bool, QueryError> {
    let ours = format!(
        "select from vestnik.vst_chat where id = $1 and {} = $2 for no key update",
        claim.lane.columns().fence
    );
    let statement = transaction.prepare_cached(&ours).await?;
    Ok(transaction
        .query_opt(&statement, &[&claim.chat.0, &claim.fence])
        .await?
        .is_some())
}

/// What its deliveries are from now on.
struct State {
    name: &'static str,
    reason: Option<String>,
    /// How long they wait, beside what the chat waits for.
    pause: Duration,
}

fn state_of(claim: &Claim, outcome: &Outcome) -> State {
    let state = |name, reason: &str, pause| State {
        name,
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        pause,
    };
    let now = Duration::ZERO;
    let backoff = || PAUSES.after(claim.failures + 1, fastrand::f64());
    match outcome {
        Outcome::Sent(_) => state("sent", "", now),
        Outcome::Gone(why) => state("dead", why, now),
        Outcome::Refused(why) if claim.refusals + 1 >= MOST_REFUSALS => state("dead", why, now),
        Outcome::Refused(why) => state("retrying", why, Duration::from_secs_f64(PLAIN_PAUSE_S)),
        Outcome::Failed(why) => state("retrying", why, backoff()),
        // What is not of a store has no link that could wait.
        Outcome::Blocked { reason, .. } if claim.work.style().is_none() => state("retrying", reason, backoff()),
        Outcome::Throttled(pause) => state("retrying", &format!("Telegram asks to wait {} s", pause.as_secs()), now),
        Outcome::Blocked { reason: why, .. } | Outcome::Stopped(why) | Outcome::NotReached(why) => {
            state("retrying", why, now)
        }
        Outcome::MessageGone | Outcome::Migrated(_) | Outcome::NotBegun => state("pending", "", now),
    }
}

/// What was given up meanwhile, with its chat, stays so: it is only sent if it was sent.
async fn items(
    transaction: &Transaction<'_>,
    claim: &Claim,
    outcome: &Outcome,
    state: &State,
) -> Result<(), QueryError> {
    // Somebody asked for one of a digest while it was on its way.
    const ITEMS: &str = "update vestnik.vst_delivery set state = case when $7 and alone then 'pending' else $2 end, reason = $3, \
             failures = case when $5 then failures + 1 else failures end, \
             refusals = case when $6 then refusals + 1 else refusals end, \
             due_at = case when $4::float8 > 0 then clock_timestamp() + make_interval(secs => $4) else due_at end, \
             settled_at = case when $2 in ('sent', 'dead') and not ($7 and alone) then clock_timestamp() end \
         where id = any ($1) and (state = 'sending' or $2 = 'sent')";
    // The newest buttons count, and those of a message that was written anew since.
    const OVERTAKEN: &str = "update vestnik.vst_delivery set state = 'dead', reason = 'the message was written anew', \
             settled_at = clock_timestamp() \
         where chat_id = $1 and message_id = $2 and keyboard is not null and state in ('pending', 'retrying')";
    let failed = matches!(outcome, Outcome::Failed(_) | Outcome::Blocked { .. });
    let refused = matches!(outcome, Outcome::Refused(_));
    let told_together = matches!(outcome, Outcome::Sent(_)) && matches!(claim.work, Work::Digest { .. });
    let statement = transaction.prepare_cached(ITEMS).await?;
    let pause_s = state.pause.as_secs_f64();
    transaction
        .execute(
            &statement,
            &[
                &claim.work.items(),
                &state.name,
                &state.reason,
                &pause_s,
                &failed,
                &refused,
                &told_together,
            ],
        )
        .await?;
    if let (Work::Subject(it), Outcome::Sent(_)) = (&claim.work, outcome)
        && let Some(message) = it.message
    {
        let statement = transaction.prepare_cached(OVERTAKEN).await?;
        transaction.execute(&statement, &[&claim.chat.0, &message]).await?;
    }
    Ok(())
}

/// The message of an order, so that its changes edit it. The number 0 stands for one that is gone: its successor tells
/// the same event.
async fn remember(transaction: &Transaction<'_>, claim: &Claim, message: Option<i32>) -> Result<(), QueryError> {
    const REMEMBER: &str = "insert into vestnik.vst_message (chat_id, store_id, subject, event_id, message_id) \
         values ($1, $2, $3, $4, $5) on conflict (chat_id, store_id, subject) do update set \
         event_id = excluded.event_id, message_id = excluded.message_id, sent_at = excluded.sent_at";
    if let (Work::Subject(it), Some(message)) = (&claim.work, message) {
        let statement = transaction.prepare_cached(REMEMBER).await?;
        transaction
            .execute(
                &statement,
                &[&claim.chat.0, &it.style.store, &it.subject, &it.base.id, &message],
            )
            .await?;
    }
    Ok(())
}

async fn forget(transaction: &Transaction<'_>, claim: &Claim) -> Result<(), QueryError> {
    if let Work::Subject(it) = &claim.work {
        let forget =
            "update vestnik.vst_message set message_id = 0 where chat_id = $1 and store_id = $2 and subject = $3";
        transaction
            .execute(forget, &[&claim.chat.0, &it.style.store, &it.subject])
            .await?;
    }
    Ok(())
}

/// The events have reached this chat.
async fn prove(transaction: &Transaction<'_>, claim: &Claim) -> Result<(), QueryError> {
    const PROVE: &str = "with first as ( \
             select e.id, not exists (select from vestnik.vst_receipt r where r.event_id = e.id) as is_first \
             from vestnik.vst_delivery d join vestnik.vst_event e on e.id = d.event_id where d.id = any ($1)), \
         kept as (insert into vestnik.vst_receipt as r (event_id, way, recipient, sent_at) \
             select id, 'telegram', $2, clock_timestamp() from first \
             on conflict (event_id, way, recipient, token_id) do update set sent_at = coalesce(r.sent_at, excluded.sent_at)) \
         select count(*) from first where is_first and id = any ($3)";
    let statement = transaction.prepare_cached(PROVE).await?;
    let recipient = claim.telegram_id.to_string();
    let row = transaction
        .query_one(&statement, &[&claim.work.items(), &recipient, &claim.work.new_orders()])
        .await?;
    let first = row.try_get::<_, i64>(0)?.unsigned_abs();
    metrics::counter!("vestnik_orders_first_seen_total", "way" => "telegram").increment(first);
    Ok(())
}

/// The times of a chat's newest sends, with one more that ended now.
const RECENT: &str = "(c.recent || clock_timestamp())[greatest(cardinality(c.recent) + 2 - 20, 1):]";
/// The times of its newest edits, with one more.
const EDITS: &str = "(c.edits || clock_timestamp())[greatest(cardinality(c.edits) + 2 - 12, 1):]";
/// When Telegram allows the next send: a distance from this one, and for a group one a minute behind the twentieth last.
const ALLOWED: &str = "greatest(clock_timestamp() + interval '1.05 s', \
     case when c.telegram_id < 0 and cardinality(s.recent) >= 20 then s.recent[1] + interval '60.5 s' end)";
/// When the next edit may go: of a group's twenty sends a minute, twelve at most are edits.
const EDIT_ALLOWED: &str = "greatest(clock_timestamp() + interval '1.05 s', \
     case when c.telegram_id < 0 and cardinality(s.recent) >= 20 then s.recent[1] + interval '60.5 s' end, \
     case when c.telegram_id < 0 and cardinality(s.edits) >= 12 then s.edits[1] + interval '60.5 s' end)";

/// Gives the lane and the bot's slot free, when Telegram allows the next. An attempt counts whatever came of it.
async fn release(transaction: &Transaction<'_>, claim: &Claim, outcome: &Outcome) -> Result<(), QueryError> {
    let own = claim.lane.columns();
    // Only as long as it is this claim's: held to the same moment as the chat. Later, it may be another one's.
    let free = format!(
        "update vestnik.vst_bot_slot set free_at = clock_timestamp() + make_interval(secs => $2) \
         where slot = $1 and free_at = (select {} from vestnik.vst_chat where id = $3)",
        own.leased_until
    );
    let began = *outcome != Outcome::NotBegun;
    let free = transaction.prepare_cached(&free).await?;
    let window_s = if began { SLOT_WINDOW_S } else { 0.0 };
    transaction
        .execute(&free, &[&claim.slot, &window_s, &claim.chat.0])
        .await?;
    // There may be more, in either lane: what was a message may be an edit now, and the other way round.
    const WAITING: &str = "waiting = waiting or exists (select from vestnik.vst_delivery d \
         where d.chat_id = $1 and d.state in ('pending', 'sending', 'retrying'))";
    if !began {
        let release = format!(
            "update vestnik.vst_chat set {} = '-infinity', {} = null, {WAITING} where id = $1",
            own.leased_until, own.leased_by
        );
        transaction.execute(&release, &[&claim.chat.0]).await?;
        return Ok(());
    }
    let throttled_s = match outcome {
        Outcome::Throttled(pause) => pause.as_secs_f64(),
        _ => 0.0,
    };
    match claim.lane {
        Lane::Messages => {
            // A 429 for a message is for everything that goes to the chat.
            let release = format!(
                "with spent as (select {RECENT} as recent, c.edits from vestnik.vst_chat c where c.id = $1) \
                 update vestnik.vst_chat c set leased_until = '-infinity', leased_by = null, recent = s.recent, {WAITING}, \
                     failures = case when $3 then 0 when $4 then c.failures + 1 else c.failures end, \
                     next_at = greatest(c.next_at, {ALLOWED}, clock_timestamp() + make_interval(secs => $2)), \
                     edit_next_at = greatest(c.edit_next_at, {EDIT_ALLOWED}, clock_timestamp() + make_interval(secs => $2)) \
                 from spent s where c.id = $1"
            );
            let worked = matches!(outcome, Outcome::Sent(_) | Outcome::Refused(_));
            let failed = matches!(outcome, Outcome::Failed(_) | Outcome::Blocked { .. });
            let release = transaction.prepare_cached(&release).await?;
            transaction
                .execute(&release, &[&claim.chat.0, &throttled_s, &worked, &failed])
                .await?;
        }
        Lane::Edits => {
            // A 429 for an edit is for edits. And one that took long counts from a second after it began.
            let release = format!(
                "with spent as (select {RECENT} as recent, {EDITS} as edits, \
                     c.edit_leased_until - make_interval(secs => $3) + interval '2.05 s' as counted from vestnik.vst_chat c where c.id = $1) \
                 update vestnik.vst_chat c set edit_leased_until = '-infinity', edit_leased_by = null, recent = s.recent, edits = s.edits, {WAITING}, \
                     next_at = greatest(c.next_at, least({ALLOWED}, s.counted)), \
                     edit_next_at = greatest(c.edit_next_at, {EDIT_ALLOWED}, clock_timestamp() + make_interval(secs => $2)) \
                 from spent s where c.id = $1"
            );
            let release = transaction.prepare_cached(&release).await?;
            transaction
                .execute(&release, &[&claim.chat.0, &throttled_s, &claim.held_s])
                .await?;
        }
    }
    Ok(())
}

/// What went wrong in the chat last, for who asks how it is.
async fn note(
    transaction: &Transaction<'_>,
    claim: &Claim,
    outcome: &Outcome,
    state: &State,
) -> Result<(), QueryError> {
    const NOTE: &str = "update vestnik.vst_chat set error = $2, error_at = clock_timestamp() where id = $1";
    let is_the_chats = !matches!(outcome, Outcome::NotReached(_) | Outcome::Stopped(_));
    if let Some(reason) = state.reason.as_ref().filter(|_| is_the_chats) {
        let statement = transaction.prepare_cached(NOTE).await?;
        transaction.execute(&statement, &[&claim.chat.0, reason]).await?;
    }
    Ok(())
}

/// What failed may be tried again at once: Telegram takes messages again.
pub(super) async fn hurry(pool: &Pool) -> Result<(), QueryError> {
    const HURRY: &str = "with due as (update vestnik.vst_delivery set due_at = '-infinity' \
             where state = 'retrying' and failures > 0 and due_at > clock_timestamp() returning chat_id) \
         update vestnik.vst_chat set waiting = true where id in (select chat_id from due)";
    db::with_timeout(async {
        pool.get().await?.execute(HURRY, &[]).await?;
        Ok(())
    })
    .await
}

/// Gives the lanes free whose lease is over, or whose node is gone. What it may have sent counts as sent just now.
pub(super) async fn reap(client: &Client) -> Result<(), QueryError> {
    for lane in Lane::ALL {
        let own = lane.columns();
        let (until, by) = (own.leased_until, own.leased_by);
        let edits = match lane {
            Lane::Messages => "c.edits",
            Lane::Edits => EDITS,
        };
        let reap = format!(
            "with over as (select c.id, c.{until} as until, {RECENT} as recent, {edits} as edits from vestnik.vst_chat c \
                 where c.{until} > '-infinity' and (c.{until} <= clock_timestamp() or {}) for no key update skip locked), \
             freed as (update vestnik.vst_bot_slot set free_at = clock_timestamp() + make_interval(secs => $1) \
                 where free_at > clock_timestamp() and free_at in (select until from over)) \
             update vestnik.vst_chat c set {until} = '-infinity', {by} = null, waiting = true, recent = s.recent, edits = s.edits, \
                 next_at = greatest(c.next_at, {ALLOWED}), edit_next_at = greatest(c.edit_next_at, {EDIT_ALLOWED}) \
             from over s where c.id = s.id",
            shared_bot::has_lost_its_leases(&format!("c.{by}"))
        );
        let statement = client.prepare_cached(&reap).await?;
        let over = client.execute(&statement, &[&SLOT_WINDOW_S]).await?;
        if over > 0 {
            metrics::counter!("vestnik_delivery_leases_lost_total").increment(over);
            tracing::warn!(chats = over, "sends whose node did not settle them begin anew");
        }
    }
    Ok(())
}
