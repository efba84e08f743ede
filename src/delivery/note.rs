//! Messages beside an order's own: it was cancelled, or nobody answers. An edit makes no sound, so they do: each replies to the
//! order's message, which is one tap away then.

use crate::infra::db::Transaction;

use super::choice::Open;
use super::event_view::{Item, told_of};
use super::next_message::{Style, Work};
use super::queue::ChatId;
use crate::infra::db::QueryError;
use crate::sources::Sources;

/// Notes of a kind that come one by one; above, they come as one.
const ONE_BY_ONE: usize = 3;

/// What a note says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The order is cancelled: the kitchen must stop.
    Cancelled,
    /// Nobody has answered yet.
    Unanswered,
    /// It is not ready, though it was promised.
    Late,
    /// Somebody asked where it is.
    Shown,
}

impl Note {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cancelled, Self::Unanswered, Self::Late, Self::Shown];

    /// Its name in the database and in the texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Unanswered => "unanswered",
            Self::Late => "late",
            Self::Shown => "shown",
        }
    }

    /// The one that has this name; `None`: none has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|note| note.as_str() == name)
    }

    /// Whether it makes a sound in a chat that wants none now, too.
    pub fn is_heard_by_all(self) -> bool {
        self == Self::Cancelled
    }
}

/// A note, or several of a kind in one message.
#[derive(Debug)]
pub struct Noted {
    /// How.
    pub style: Style,
    /// What it says.
    pub note: Note,
    /// Of these, the oldest first: each with its delivery and its event.
    pub about: Vec<Item>,
    /// The message of the order, where there is one order and it has one.
    pub reply_to: Option<i32>,
}

/// Whether one of these makes a sound whatever the chat wants.
pub(super) fn must_be_heard(notes: &[&Open]) -> bool {
    notes.iter().filter_map(|open| open.note).any(Note::is_heard_by_all)
}

/// The first of what is open, a note, and those like it; `None`: they mean nothing any more, and are settled.
pub(super) async fn work(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
    style: Style,
    note: Note,
    open: &[Open],
) -> Result<Option<Work>, QueryError> {
    const MESSAGE: &str = "select message_id from vestnik.vst_message \
         where chat_id = $1 and store_id = $2 and subject = $3 and message_id <> 0";
    let is_told = |of: &Open| {
        open.iter()
            .any(|open| open.event.is_some() && open.subject == of.subject)
    };
    let is_like_it = |of: &&Open| of.note == Some(note) && of.store.as_ref() == Some(&style.store) && !is_told(of);
    let like_it: Vec<&Open> = open.iter().filter(is_like_it).collect();
    let ids: Vec<i64> = like_it.iter().map(|open| open.id).collect();
    let over = settle_answered(transaction, note, &ids).await?;
    let mut valid: Vec<&Open> = like_it.into_iter().filter(|open| !over.contains(&open.id)).collect();
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
    let about = told_of(transaction, sources, &ids).await?;
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

/// Nobody is told that an order waits which was answered meanwhile. The deliveries that are over.
async fn settle_answered(
    transaction: &Transaction<'_>,
    note: Note,
    deliveries: &[i64],
) -> Result<Vec<i64>, QueryError> {
    const OVER: &str = "update vestnik.vst_delivery d set state = 'dead', reason = 'answered meanwhile', settled_at = clock_timestamp() \
         from vestnik.vst_escalation l where d.id = any ($1) and l.event_id = d.about_id and l.outcome in ('answered', 'removed') returning d.id";
    if note != Note::Unanswered {
        return Ok(Vec::new());
    }
    let statement = transaction.prepare_cached(OVER).await?;
    let rows = transaction.query(&statement, &[&deliveries]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}
