//! Saves the outcome of a send. Each claim of a chat's lane has a number, the fence. When a node saves an outcome, its
//! fence must still be the newest. So a node whose lease has ended cannot overwrite the work of the next node.

use crate::infra::db::{Client, Pool, Transaction};

use super::channel::{Claim, SendOutcome, SentMessage};
use super::chat_state::{self, ChatsToWake};
use super::lane::Lane;
use super::list_button::{self, Until};
use super::next_message::Work;
use super::next_state::{State, state_of};
use super::supergroup;
use crate::delivery::shared_bot;
use crate::infra::db::{self, QueryError};

/// Seconds between two sends to one chat. Telegram allows one send per second. The other 0.05 s are a margin for
/// differences between clocks.
pub(super) const CHAT_SPACING_S: f64 = 1.05;
/// Seconds for which a slot stays taken after the end of its send. A slot is the right to make one of the bot's sends
/// per second.
const SLOT_WINDOW_S: f64 = 1.05;
/// Whether `complete` saved the outcome of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// The outcome is saved. The field has the chats to which messages were enqueued, because the outcome changed the
    /// state of the claimed chat. It is empty if the chat's state did not change.
    Saved(ChatsToWake),
    /// The outcome is not saved, because another node has claimed the same lane of the chat meanwhile.
    Overtaken,
}

/// Saves the outcome of a send to a claimed chat: the states of the deliveries, the receipts, and when the chat may get
/// its next message.
pub async fn complete(pool: &Pool, claim: &Claim, outcome: &SendOutcome) -> Result<Completion, QueryError> {
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        if !is_ours(&transaction, claim).await? {
            return Ok(Completion::Overtaken);
        }
        let state = state_of(claim, outcome);
        items(&transaction, claim, outcome, &state).await?;
        let chats = match outcome {
            SendOutcome::Sent(message) => {
                save_message(&transaction, claim, message.as_ref()).await?;
                record_receipts(&transaction, claim).await?;
                match claim.was_blocked {
                    true => chat_state::unblocked(&transaction, claim.chat, claim.topic).await?,
                    false => ChatsToWake::default(),
                }
            }
            SendOutcome::MessageGone => clear_message(&transaction, claim)
                .await
                .map(|()| ChatsToWake::default())?,
            SendOutcome::Gone(why) => chat_state::gone(&transaction, claim.chat, why).await?,
            SendOutcome::Blocked { block, reason } => {
                chat_state::blocked(&transaction, claim.chat, *block, claim.topic, reason).await?
            }
            SendOutcome::Migrated(to) => supergroup::migrate(&transaction, claim.chat, *to)
                .await
                .map(|()| ChatsToWake::default())?,
            _ => ChatsToWake::default(),
        };
        save_error(&transaction, claim, outcome, &state).await?;
        release(&transaction, claim, outcome).await?;
        transaction.commit().await?;
        if matches!(state.name, "sent" | "dead") {
            let completed = claim.work.items().len() as u64;
            metrics::counter!("vestnik_telegram_deliveries_completed_total", "state" => state.name)
                .increment(completed);
        }
        chats.wake(&client).await?;
        Ok(Completion::Saved(chats))
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

/// Saves the new state of the deliveries of a send. A delivery whose chat was disabled during the send is already dead.
/// It stays dead, unless the send succeeded.
async fn items(
    transaction: &Transaction<'_>,
    claim: &Claim,
    outcome: &SendOutcome,
    state: &State,
) -> Result<(), QueryError> {
    // If a digest (one message for many events) was sent, a delivery with `alone` stays open. A person asked for its
    // order during the send, and the order needs a message of its own.
    const ITEMS: &str = "update vestnik.vst_delivery set state = case when $7 and alone then 'pending' else $2 end, reason = $3, \
             failures = case when $5 then failures + 1 else failures end, \
             refusals = case when $6 then refusals + 1 else refusals end, \
             due_at = case when $4::float8 > 0 then clock_timestamp() + make_interval(secs => $4) else due_at end, \
             completed_at = case when $2 in ('sent', 'dead') and not ($7 and alone) then clock_timestamp() end \
         where id = any ($1) and (state = 'sending' or $2 = 'sent')";
    // The edit of an order's message also replaced the message's buttons. Changes of these buttons that are still
    // queued are not needed any more.
    const OVERTAKEN: &str = "update vestnik.vst_delivery set state = 'dead', reason = 'the message was written anew', \
             completed_at = clock_timestamp() \
         where chat_id = $1 and message_id = $2 and keyboard is not null and state in ('pending', 'retrying')";
    let failed = matches!(outcome, SendOutcome::Failed(_) | SendOutcome::Blocked { .. });
    let refused = matches!(outcome, SendOutcome::Refused(_));
    let told_together = matches!(outcome, SendOutcome::Sent(_)) && matches!(claim.work, Work::Digest { .. });
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
    if let (Work::OrderMessage(it), SendOutcome::Sent(_)) = (&claim.work, outcome)
        && let Some(message) = it.message
    {
        let statement = transaction.prepare_cached(OVERTAKEN).await?;
        transaction.execute(&statement, &[&claim.chat.0, &message]).await?;
    }
    Ok(())
}

/// Saves data of a sent message for later edits: the message's id if it shows an order, and the buttons if it lists
/// orders. `message: None`: the send was an edit, and nothing is saved.
async fn save_message(
    transaction: &Transaction<'_>,
    claim: &Claim,
    message: Option<&SentMessage>,
) -> Result<(), QueryError> {
    const SAVE: &str = "insert into vestnik.vst_message (chat_id, store_id, subject, event_id, message_id) \
         values ($1, $2, $3, $4, $5) on conflict (chat_id, store_id, subject) do update set \
         event_id = excluded.event_id, message_id = excluded.message_id, sent_at = excluded.sent_at";
    let Some(message) = message else { return Ok(()) };
    if let Work::OrderMessage(it) = &claim.work {
        let statement = transaction.prepare_cached(SAVE).await?;
        transaction
            .execute(
                &statement,
                &[&claim.chat.0, &it.style.store, &it.subject, &it.base.id, &message.id],
            )
            .await?;
    }
    let until = match claim.work {
        Work::Reply { .. } => Until::Closed,
        _ => Until::Answered,
    };
    list_button::save(transaction, claim.chat, message, until).await
}

async fn clear_message(transaction: &Transaction<'_>, claim: &Claim) -> Result<(), QueryError> {
    if let Work::OrderMessage(it) = &claim.work {
        let clear =
            "update vestnik.vst_message set message_id = 0 where chat_id = $1 and store_id = $2 and subject = $3";
        transaction
            .execute(clear, &[&claim.chat.0, &it.style.store, &it.subject])
            .await?;
    }
    if let Work::ListButtons { message, .. } = &claim.work {
        list_button::forget(transaction, claim.chat, *message).await?;
    }
    Ok(())
}

/// Records a receipt for each event that the sent message covers. The receipt says that the event was sent to this
/// chat.
async fn record_receipts(transaction: &Transaction<'_>, claim: &Claim) -> Result<(), QueryError> {
    const RECEIPTS: &str = "with first as ( \
             select e.id, not exists ( \
                 select from vestnik.vst_receipt r where r.event_id = e.id and r.channel <> 'webhook') as is_first \
             from vestnik.vst_delivery d join vestnik.vst_event e on e.id = d.event_id where d.id = any ($1)), \
         kept as (insert into vestnik.vst_receipt as r (event_id, channel, recipient, sent_at) \
             select id, 'telegram', $2, clock_timestamp() from first \
             on conflict (event_id, channel, recipient, token_id) do update set sent_at = coalesce(r.sent_at, excluded.sent_at)) \
         select count(*) from first where is_first and id = any ($3)";
    let statement = transaction.prepare_cached(RECEIPTS).await?;
    let recipient = claim.telegram_id.to_string();
    let row = transaction
        .query_one(&statement, &[&claim.work.items(), &recipient, &claim.work.new_orders()])
        .await?;
    let first = row.try_get::<_, i64>(0)?.unsigned_abs();
    metrics::counter!("vestnik_orders_first_seen_total", "channel" => "telegram").increment(first);
    Ok(())
}

/// SQL for the times of the newest 20 sends to the chat with table alias `c`, including a send that ends now.
const RECENT: &str = "(c.recent || clock_timestamp())[greatest(cardinality(c.recent) + 2 - 20, 1):]";
/// SQL for the times of the newest 12 edits in the chat with table alias `c`, including an edit that ends now.
const EDITS: &str = "(c.edits || clock_timestamp())[greatest(cardinality(c.edits) + 2 - 12, 1):]";
/// SQL for the time at which Telegram allows the next send to a chat: in 1.05 s. A group that got 20 sends in the last
/// minute must wait longer. `c` is the table alias of the chat. `s.recent` is an array with the times of the newest 20
/// sends.
const ALLOWED: &str = "greatest(clock_timestamp() + interval '1.05 s', \
     case when c.telegram_id < 0 and cardinality(s.recent) >= 20 then s.recent[1] + interval '60.5 s' end)";
/// SQL for the time at which Telegram allows the next edit in the chat with table alias `c`. The limits of `ALLOWED`
/// apply to edits, too. In a group, at most 12 of the 20 sends per minute may be edits. `s.edits` is an array with the
/// times of the newest 12 edits.
const EDIT_ALLOWED: &str = "greatest(clock_timestamp() + interval '1.05 s', \
     case when c.telegram_id < 0 and cardinality(s.recent) >= 20 then s.recent[1] + interval '60.5 s' end, \
     case when c.telegram_id < 0 and cardinality(s.edits) >= 12 then s.edits[1] + interval '60.5 s' end)";

/// Ends the claim after a send. Saves when Telegram allows the next send in the chat, and when another send may use the
/// claim's slot. Telegram's limits also count a send that failed.
async fn release(transaction: &Transaction<'_>, claim: &Claim, outcome: &SendOutcome) -> Result<(), QueryError> {
    let own = claim.lane.columns();
    // Free the slot only if this claim still holds it. A claim holds its lane and its slot until the same moment. If
    // the lane and the slot have different moments, a later claim holds the slot.
    let free = format!(
        "update vestnik.vst_bot_slot set free_at = clock_timestamp() + make_interval(secs => $2) \
         where slot = $1 and free_at = (select {} from vestnik.vst_chat where id = $3)",
        own.leased_until
    );
    let began = *outcome != SendOutcome::NotBegun;
    let free = transaction.prepare_cached(&free).await?;
    let window_s = if began { SLOT_WINDOW_S } else { 0.0 };
    transaction
        .execute(&free, &[&claim.slot, &window_s, &claim.chat.0])
        .await?;
    // Mark the chat as waiting if it has any open delivery, because a delivery may now need an edit instead of a new
    // message, or the reverse.
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
        SendOutcome::Throttled(pause) => pause.as_secs_f64(),
        _ => 0.0,
    };
    match claim.lane {
        Lane::Messages => {
            // After a 429 (too many requests) for a message, pause all sends to the chat.
            let release = format!(
                "with spent as (select {RECENT} as recent, c.edits from vestnik.vst_chat c where c.id = $1) \
                 update vestnik.vst_chat c set leased_until = '-infinity', leased_by = null, recent = s.recent, {WAITING}, \
                     failures = case when $3 then 0 when $4 then c.failures + 1 else c.failures end, \
                     next_at = greatest(c.next_at, {ALLOWED}, clock_timestamp() + make_interval(secs => $2)), \
                     edit_next_at = greatest(c.edit_next_at, {EDIT_ALLOWED}, clock_timestamp() + make_interval(secs => $2)) \
                 from spent s where c.id = $1"
            );
            let worked = matches!(outcome, SendOutcome::Sent(_) | SendOutcome::Refused(_));
            let failed = matches!(outcome, SendOutcome::Failed(_) | SendOutcome::Blocked { .. });
            let release = transaction.prepare_cached(&release).await?;
            transaction
                .execute(&release, &[&claim.chat.0, &throttled_s, &worked, &failed])
                .await?;
        }
        Lane::Edits => {
            // After a 429 (too many requests) for an edit, pause only edits. Assume that Telegram counted a slow edit
            // one second after the edit began. So a new message need not wait until 1.05 s after the end of a slow
            // edit.
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

/// Saves the chat's newest error, which `vestnik telegram status` shows. Saves nothing if the error concerns all chats,
/// for example an outage of Telegram.
async fn save_error(
    transaction: &Transaction<'_>,
    claim: &Claim,
    outcome: &SendOutcome,
    state: &State,
) -> Result<(), QueryError> {
    const ERROR: &str =
        "update vestnik.vst_chat set error = $2, error_at = clock_timestamp(), error_thread = $3 where id = $1";
    let is_the_chats = !matches!(outcome, SendOutcome::NotReached(_) | SendOutcome::Stopped(_));
    if let Some(reason) = state.reason.as_ref().filter(|_| is_the_chats) {
        let statement = transaction.prepare_cached(ERROR).await?;
        transaction
            .execute(&statement, &[&claim.chat.0, reason, &claim.topic])
            .await?;
    }
    Ok(())
}

/// Makes all failed deliveries due now. Call this function when Telegram accepts messages again.
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

/// Ends the claims whose lease has ended, or whose node is gone. Then another node sends their deliveries again. Nobody
/// knows when Telegram received such a lost send, so it counts for the limits as if it ended now.
pub(super) async fn expire_leases(client: &Client) -> Result<(), QueryError> {
    for lane in Lane::ALL {
        let own = lane.columns();
        let (until, by) = (own.leased_until, own.leased_by);
        let edits = match lane {
            Lane::Messages => "c.edits",
            Lane::Edits => EDITS,
        };
        let expire = format!(
            "with over as (select c.id, c.{until} as until, {RECENT} as recent, {edits} as edits from vestnik.vst_chat c \
                 where c.{until} > '-infinity' and (c.{until} <= clock_timestamp() or {}) for no key update skip locked), \
             freed as (update vestnik.vst_bot_slot set free_at = clock_timestamp() + make_interval(secs => $1) \
                 where free_at > clock_timestamp() and free_at in (select until from over)) \
             update vestnik.vst_chat c set {until} = '-infinity', {by} = null, waiting = true, recent = s.recent, edits = s.edits, \
                 next_at = greatest(c.next_at, {ALLOWED}), edit_next_at = greatest(c.edit_next_at, {EDIT_ALLOWED}) \
             from over s where c.id = s.id",
            shared_bot::has_lost_its_leases(&format!("c.{by}"))
        );
        let statement = client.prepare_cached(&expire).await?;
        let over = client.execute(&statement, &[&SLOT_WINDOW_S]).await?;
        if over > 0 {
            metrics::counter!("vestnik_delivery_leases_lost_total").increment(over);
            tracing::warn!(chats = over, "the leases of sends expired: the messages are sent again");
        }
    }
    Ok(())
}
