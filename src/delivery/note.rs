//! Chooses the next note for a chat. A note is a short, urgent message next to the order's own message, for example
//! about a cancellation. Notes exist because an edit of the order's message makes no sound. A note replies to the
//! order's message, so that a person can open the order with one tap.

use crate::infra::db::Transaction;

use super::event_view::{self, items_of};
use super::lane::ChatId;
use super::next_message::{ChatFormat, Note, Noted, Work};
use super::open_delivery::OpenDelivery;
use crate::infra::db::QueryError;
use crate::sources::Sources;

/// The most notes of one kind that are sent in separate messages. If more notes wait, one message has all of them.
const ONE_BY_ONE: usize = 3;

/// Whether at least one of these notes makes a sound even in a chat that is muted or has quiet hours.
pub(super) fn must_be_heard(notes: &[&OpenDelivery]) -> bool {
    notes.iter().filter_map(|open| open.note).any(Note::is_heard_by_all)
}

/// Returns the next message with notes of this kind. If more than `ONE_BY_ONE` notes wait, the message has all of them,
/// otherwise one. `None`: no note of this kind is needed any more.
pub(super) async fn work(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
    style: ChatFormat,
    note: Note,
    open: &[OpenDelivery],
) -> Result<Option<Work>, QueryError> {
    const MESSAGE: &str = "select message_id from vestnik.vst_message \
         where chat_id = $1 and store_id = $2 and subject = $3 and message_id <> 0";
    let is_told = |of: &OpenDelivery| open.iter().any(|open| open.event.is_some() && open.is_about_same(of));
    let is_like_it =
        |of: &&OpenDelivery| of.note == Some(note) && of.store.as_ref() == Some(&style.store) && !is_told(of);
    let like_it: Vec<&OpenDelivery> = open.iter().filter(is_like_it).collect();
    let ids: Vec<i64> = like_it.iter().map(|open| open.id).collect();
    let over = give_up(transaction, note, &ids).await?;
    let mut valid: Vec<&OpenDelivery> = like_it.into_iter().filter(|open| !over.contains(&open.id)).collect();
    if valid.len() <= ONE_BY_ONE {
        valid.truncate(1);
    }
    let Some(first) = valid.first() else { return Ok(None) };
    let statement = transaction.prepare_cached(MESSAGE).await?;
    let message = match valid.len() {
        1 => {
            transaction
                .query_opt(&statement, &[&chat.0, &style.store, &first.subject])
                .await?
        }
        _ => None,
    };
    let ids: Vec<i64> = valid.iter().map(|open| open.id).collect();
    let mut about = items_of(transaction, sources, &ids).await?;
    if about.is_empty() {
        return Ok(None);
    }
    // Show the current state, because the order may have changed since the event whose button was pressed. A note about
    // several orders shows no status.
    if let (Note::Shown, [item]) = (note, about.as_mut_slice())
        && let Some(current) = event_view::current(transaction, sources, &style.store, &item.event.subject.id).await?
    {
        item.event = current;
    }
    Ok(Some(Work::Note(Box::new(Noted {
        style,
        note,
        about,
        reply_to: message.map(|row| row.try_get(0)).transpose()?,
    }))))
}

/// Marks these notes as dead if nobody needs them any more: reminders of answered orders, and notes about late orders
/// that are ready now. Returns the ids of the dead notes. Notes of other kinds are not changed.
async fn give_up(transaction: &Transaction<'_>, note: Note, deliveries: &[i64]) -> Result<Vec<i64>, QueryError> {
    const ANSWERED: &str = "update vestnik.vst_delivery d set state = 'dead', reason = 'answered meanwhile', completed_at = clock_timestamp() \
         from vestnik.vst_escalation l where d.id = any ($1) and l.event_id = d.about_id and l.outcome in ('answered', 'removed') returning d.id";
    const READY: &str = "update vestnik.vst_delivery d set state = 'dead', reason = 'ready meanwhile', completed_at = clock_timestamp() \
         where d.id = any ($1) and not exists (select from vestnik.vst_promise p where p.store_id = d.store_id and p.subject = d.subject) \
         returning d.id";
    let over = match note {
        Note::Unanswered => ANSWERED,
        Note::Late => READY,
        Note::Cancelled | Note::Shown => return Ok(Vec::new()),
    };
    let statement = transaction.prepare_cached(over).await?;
    let rows = transaction.query(&statement, &[&deliveries]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}
