//! Messages next to an order's own: the order was cancelled, or nobody answers. An edit makes no sound, so these
//! messages do. Each replies to the order's message, so that it is one tap away.

use crate::infra::db::Transaction;

use super::event_view::items_of;
use super::lane::ChatId;
use super::next_message::{Note, Noted, Style, Work};
use super::open_delivery::OpenDelivery;
use crate::infra::db::QueryError;
use crate::sources::Sources;

/// The most notes of a kind that are sent one by one; more are sent in one message.
const ONE_BY_ONE: usize = 3;

/// Whether one of these notes makes a sound even in a chat that wants none now.
pub(super) fn must_be_heard(notes: &[&OpenDelivery]) -> bool {
    notes.iter().filter_map(|open| open.note).any(Note::is_heard_by_all)
}

/// The first open note, together with others of its kind; `None`: none is needed any more, and they are completed.
pub(super) async fn work(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
    style: Style,
    note: Note,
    open: &[OpenDelivery],
) -> Result<Option<Work>, QueryError> {
    const MESSAGE: &str = "select message_id from vestnik.vst_message \
         where chat_id = $1 and store_id = $2 and subject = $3 and message_id <> 0";
    let is_told = |of: &OpenDelivery| {
        open.iter()
            .any(|open| open.event.is_some() && open.subject == of.subject)
    };
    let is_like_it =
        |of: &&OpenDelivery| of.note == Some(note) && of.store.as_ref() == Some(&style.store) && !is_told(of);
    let like_it: Vec<&OpenDelivery> = open.iter().filter(is_like_it).collect();
    let ids: Vec<i64> = like_it.iter().map(|open| open.id).collect();
    let over = settle_answered(transaction, note, &ids).await?;
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
    let about = items_of(transaction, sources, &ids).await?;
    if about.is_empty() {
        return Ok(None);
    }
    Ok(Some(Work::Note(Box::new(Noted {
        style,
        note,
        about,
        reply_to: message.map(|row| row.try_get(0)).transpose()?,
    }))))
}

/// Completes notes about orders that were answered meanwhile. Returns these deliveries.
async fn settle_answered(
    transaction: &Transaction<'_>,
    note: Note,
    deliveries: &[i64],
) -> Result<Vec<i64>, QueryError> {
    const OVER: &str = "update vestnik.vst_delivery d set state = 'dead', reason = 'answered meanwhile', completed_at = clock_timestamp() \
         from vestnik.vst_escalation l where d.id = any ($1) and l.event_id = d.about_id and l.outcome in ('answered', 'removed') returning d.id";
    if note != Note::Unanswered {
        return Ok(Vec::new());
    }
    let statement = transaction.prepare_cached(OVER).await?;
    let rows = transaction.query(&statement, &[&deliveries]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}
