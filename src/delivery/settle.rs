//! What became of a send, written down: under the fence of its claim, so that a node which lost its lease changes
//! nothing of what the next one does.

use std::time::Duration;

use deadpool_postgres::{Pool, Transaction};

use super::queue::{ChatId, Claim};
use super::work::Work;
use crate::db::{self, Failed};
use crate::link;

/// Between two sends to one chat, seconds. Telegram allows one a second; a little more, for clocks differ.
pub(super) const CHAT_SPACING_S: f64 = 1.05;
/// How long a slot of the bot stays taken after its send ended, seconds.
const SLOT_WINDOW_S: f64 = 1.05;

/// What became of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is there, under this number; none where it was an edit, or there was nothing to change.
    Sent(Option<i32>),
    /// The message that was to be edited is gone: a new one takes its place.
    MessageGone,
    /// Telegram wants this chat left alone for so long.
    Throttled(Duration),
    /// The chat takes nothing any more.
    Disabled(String),
    /// The group has another number now.
    Migrated(i64),
    /// This one cannot be sent, whatever we do.
    Refused(String),
    /// The bot itself is not let in.
    Stopped(String),
    /// It may work later, after this pause.
    Failed {
        /// What went wrong.
        reason: String,
        /// How long the chat is left alone.
        pause: Duration,
    },
    /// The lease was nearly over before it began, so it was not begun.
    NotBegun,
}

/// Whether the settlement counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is written down.
    Kept,
    /// Another node has claimed the chat since: what it does counts.
    Overtaken,
}

/// Writes it down.
pub async fn settle(pool: &Pool, claim: &Claim, outcome: &Outcome) -> Result<Settled, Failed> {
    db::answered(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::bound_silence(&transaction).await?;
        if !is_ours(&transaction, claim).await? {
            return Ok(Settled::Overtaken);
        }
        let (state, reason) = state_for(outcome);
        // What was given up meanwhile, with its chat, stays so: it is only sent if it was sent.
        let items = "update vestnik.vst_delivery set state = $2, reason = $3, \
             settled_at = case when $2 in ('sent', 'dead') then clock_timestamp() end \
             where id = any ($1) and (state = 'sending' or $2 = 'sent')";
        let statement = transaction.prepare_cached(items).await?;
        transaction
            .execute(&statement, &[&claim.work.items(), &state, &reason])
            .await?;
        match outcome {
            Outcome::Sent(message) => {
                remember(&transaction, claim, *message).await?;
                prove(&transaction, claim).await?;
            }
            Outcome::MessageGone => forget(&transaction, claim).await?,
            Outcome::Disabled(why) => link::disable_in(&transaction, claim.chat.0, why).await?,
            Outcome::Migrated(telegram_id) => migrate(&transaction, claim.chat, *telegram_id).await?,
            _ => {}
        }
        release(&transaction, claim, outcome).await?;
        transaction.commit().await?;
        if matches!(state, "sent" | "dead") {
            let settled = claim.work.items().len() as u64;
            metrics::counter!("vestnik_telegram_settled_total", "state" => state).increment(settled);
        }
        Ok(Settled::Kept)
    })
    .await
}

async fn is_ours(transaction: &Transaction<'_>, claim: &Claim) -> Result<bool, Failed> {
    let ours = "select from vestnik.vst_chat where id = $1 and fence = $2 for update";
    let statement = transaction.prepare_cached(ours).await?;
    Ok(transaction
        .query_opt(&statement, &[&claim.chat.0, &claim.fence])
        .await?
        .is_some())
}

fn state_for(outcome: &Outcome) -> (&'static str, Option<String>) {
    match outcome {
        Outcome::Sent(_) => ("sent", None),
        Outcome::Disabled(why) | Outcome::Refused(why) => ("dead", Some(why.clone())),
        Outcome::Throttled(pause) => ("retrying", Some(format!("Telegram asks to wait {} s", pause.as_secs()))),
        Outcome::Failed { reason, .. } => ("retrying", Some(reason.clone())),
        Outcome::Stopped(why) => ("retrying", Some(why.clone())),
        Outcome::MessageGone | Outcome::Migrated(_) | Outcome::NotBegun => ("pending", None),
    }
}

/// The message of an order, so that its changes edit it. The number 0 stands for one that is gone: its successor tells
/// the same event.
async fn remember(transaction: &Transaction<'_>, claim: &Claim, message: Option<i32>) -> Result<(), Failed> {
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

async fn forget(transaction: &Transaction<'_>, claim: &Claim) -> Result<(), Failed> {
    if let Work::Subject(it) = &claim.work {
        let forget = "update vestnik.vst_message set message_id = 0 where chat_id = $1 and store_id = $2 and subject = $3";
        transaction
            .execute(forget, &[&claim.chat.0, &it.style.store, &it.subject])
            .await?;
    }
    Ok(())
}

/// The events have reached this chat.
async fn prove(transaction: &Transaction<'_>, claim: &Claim) -> Result<(), Failed> {
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

/// The group's new number. Where it was linked under that one, too, what waits goes there. The messages of the old group
/// cannot be edited: their numbers are others' in the new one.
async fn migrate(transaction: &Transaction<'_>, chat: ChatId, telegram_id: i64) -> Result<(), Failed> {
    let forget = "update vestnik.vst_message set message_id = 0 where chat_id = $1";
    transaction.execute(forget, &[&chat.0]).await?;
    let there = "select id from vestnik.vst_chat where telegram_id = $1 and id <> $2 for update";
    let Some(row) = transaction.query_opt(there, &[&telegram_id, &chat.0]).await? else {
        let renumber = "update vestnik.vst_chat set telegram_id = $2 where id = $1";
        transaction.execute(renumber, &[&chat.0, &telegram_id]).await?;
        return Ok(());
    };
    let other: i64 = row.try_get(0)?;
    for sql in [
        "update vestnik.vst_chat_link l set chat_id = $2 where chat_id = $1 \
           and not exists (select from vestnik.vst_chat_link o where o.chat_id = $2 and o.store_id = l.store_id)",
        "update vestnik.vst_delivery d set chat_id = $2 where chat_id = $1 and state in ('pending', 'sending', 'retrying') \
           and not exists (select from vestnik.vst_delivery o where o.chat_id = $2 \
             and (o.event_id = d.event_id or o.alarm_id = d.alarm_id and o.alarm_ends = d.alarm_ends))",
        "update vestnik.vst_delivery set state = 'dead', reason = 'its chat ' || $2::bigint || ' has it, too', \
           settled_at = clock_timestamp() where chat_id = $1 and state in ('pending', 'sending', 'retrying')",
        "update vestnik.vst_chat set waiting = true where id = $2 and $1::bigint is not null",
        "delete from vestnik.vst_chat_link where chat_id = $1 and $2::bigint is not null",
    ] {
        transaction.execute(sql, &[&chat.0, &other]).await?;
    }
    Ok(())
}

/// The times of a chat's newest sends, with one more that ended now.
const RECENT: &str = "(c.recent || clock_timestamp())[greatest(cardinality(c.recent) + 2 - 20, 1):]";
/// When Telegram allows the next send: a distance from this one, and for a group one a minute behind the twentieth last.
const ALLOWED: &str = "greatest(clock_timestamp() + interval '1.05 s', \
     case when c.telegram_id < 0 and cardinality(s.recent) >= 20 then s.recent[1] + interval '60.5 s' end)";

/// Gives the chat and the bot's slot free, when Telegram allows the next. An attempt counts whatever came of it.
async fn release(transaction: &Transaction<'_>, claim: &Claim, outcome: &Outcome) -> Result<(), Failed> {
    // Only as long as it is this claim's: held to the same moment as the chat. Later, it may be another one's.
    const FREE: &str = "update vestnik.vst_bot_slot set free_at = clock_timestamp() + make_interval(secs => $2) \
         where slot = $1 and free_at = (select leased_until from vestnik.vst_chat where id = $3)";
    let began = *outcome != Outcome::NotBegun;
    let free = transaction.prepare_cached(FREE).await?;
    let window_s = if began { SLOT_WINDOW_S } else { 0.0 };
    transaction
        .execute(&free, &[&claim.slot, &window_s, &claim.chat.0])
        .await?;
    if !began {
        let release = "update vestnik.vst_chat set leased_until = '-infinity' where id = $1";
        transaction.execute(release, &[&claim.chat.0]).await?;
        return Ok(());
    }
    let release = format!(
        "with spent as (select {RECENT} as recent from vestnik.vst_chat c where c.id = $1) \
         update vestnik.vst_chat c set leased_until = '-infinity', recent = s.recent, \
             failures = case when $2 then 0 when $3 then c.failures + 1 else c.failures end, \
             next_at = greatest({ALLOWED}, clock_timestamp() + make_interval(secs => $4)) \
         from spent s where c.id = $1"
    );
    let worked = matches!(outcome, Outcome::Sent(_) | Outcome::Refused(_) | Outcome::MessageGone);
    let failed = matches!(outcome, Outcome::Failed { .. });
    let pause = match outcome {
        Outcome::Throttled(pause) | Outcome::Failed { pause, .. } => pause.as_secs_f64(),
        _ => 0.0,
    };
    let release = transaction.prepare_cached(&release).await?;
    transaction
        .execute(&release, &[&claim.chat.0, &worked, &failed, &pause])
        .await?;
    Ok(())
}

/// Gives the chats free whose lease is over: their node is gone, or was stopped for too long. What it may have sent
/// counts as sent just now.
pub(super) async fn reap(client: &deadpool_postgres::Client) -> Result<(), Failed> {
    let reap = format!(
        "with over as (select c.id, {RECENT} as recent from vestnik.vst_chat c \
             where c.leased_until > '-infinity' and c.leased_until <= clock_timestamp() for update skip locked) \
         update vestnik.vst_chat c set leased_until = '-infinity', recent = s.recent, next_at = greatest(c.next_at, {ALLOWED}) \
         from over s where c.id = s.id"
    );
    let statement = client.prepare_cached(&reap).await?;
    let over = client.execute(&statement, &[]).await?;
    if over > 0 {
        metrics::counter!("vestnik_delivery_leases_lost_total").increment(over);
        tracing::warn!(chats = over, "sends whose node did not settle them begin anew");
    }
    Ok(())
}
