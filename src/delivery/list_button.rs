//! Removes buttons from lists of orders when they are not needed any more. A digest (one message for many events) is a
//! list with a button for each order that waits for an answer. The answer to the command `/orders` is a list with a
//! button for each open order. When such an order is answered or closed, an edit of the list removes the button.

use std::collections::HashMap;

use super::channel::SentMessage;
use super::due_event::DueEvent;
use super::event_view::newest_of;
use super::lane::ChatId;
use super::next_message::{OpenButton, Work};
use crate::domain::event::{EventType, SubjectId};
use crate::domain::status::Status;
use crate::infra::db::{QueryError, Transaction};
use crate::sources::Sources;

/// When a button of a list of orders is removed from the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The button stays while its order waits for an answer.
    Answered,
    /// The button stays while its order is open: the order waits for an answer, or is in preparation or on its way.
    Closed,
}

impl Until {
    /// The text for this value in the column `until` of `vestnik.vst_list_button`.
    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Closed => "closed",
        }
    }

    /// Whether a button stays in the list while its order has this status. `None`: the order is hidden or removed.
    fn has(self, status: Option<Status>) -> bool {
        match self {
            Self::Answered => status == Some(Status::Pending),
            Self::Closed => status.is_some_and(Status::is_open),
        }
    }
}

/// Saves the buttons of a list of orders that was sent. `until` says when a button is removed. If one of the orders has
/// changed since the list was written, also enqueues an edit of the list.
pub(super) async fn save(
    transaction: &Transaction<'_>,
    chat: ChatId,
    sent: &SentMessage,
    until: Until,
) -> Result<(), QueryError> {
    const SAVE: &str = "insert into vestnik.vst_list_button (chat_id, message_id, event_id, store_id, subject, label, until) \
         select $1, $2, e.id, e.store_id, e.source || ' ' || e.key, b.label, $5 \
         from unnest($3::bigint[], $4::text[]) b (event_id, label) join vestnik.vst_event e on e.id = b.event_id \
         on conflict do nothing";
    const CHANGED: &str = "insert into vestnik.vst_delivery (chat_id, message_id, keyboard, is_list, urgent) \
         select $1, $2, '[]', true, false where exists (select from vestnik.vst_event e \
             join vestnik.vst_event n on n.store_id = e.store_id and n.key = e.key and n.source = e.source and n.id > e.id \
             where e.id = any ($3))";
    if sent.opens.is_empty() {
        return Ok(());
    }
    let events: Vec<i64> = sent.opens.iter().map(|button| button.event).collect();
    let labels: Vec<&str> = sent.opens.iter().map(|button| button.label.as_str()).collect();
    let statement = transaction.prepare_cached(SAVE).await?;
    transaction
        .execute(&statement, &[&chat.0, &sent.id, &events, &labels, &until.as_str()])
        .await?;
    let statement = transaction.prepare_cached(CHANGED).await?;
    transaction.execute(&statement, &[&chat.0, &sent.id, &events]).await?;
    Ok(())
}

/// Enqueues an edit of each sent list that has a button for an order of these events. A list that already has an open
/// edit gets no second one, because an edit shows the states at the time when it is sent.
pub(super) async fn enqueue(transaction: &Transaction<'_>, due: &[DueEvent]) -> Result<(), tokio_postgres::Error> {
    const ENQUEUE: &str = "with lists as ( \
             select distinct b.chat_id, b.message_id from unnest($1::text[], $2::text[]) d (store_id, subject) \
             join vestnik.vst_list_button b using (store_id, subject) \
             where not exists (select from vestnik.vst_delivery o where o.chat_id = b.chat_id and o.message_id = b.message_id \
                 and o.keyboard is not null and o.is_list and o.state in ('pending', 'retrying'))), \
         enqueued as ( \
             insert into vestnik.vst_delivery (chat_id, message_id, keyboard, is_list, urgent) \
             select chat_id, message_id, '[]', true, false from lists returning chat_id) \
         update vestnik.vst_chat set waiting = true where id in (select chat_id from enqueued)";
    // Skip events that cannot answer an order. A new order is in no list yet, and a change of other fields keeps the
    // status.
    let may_answer = |due: &&DueEvent| {
        use EventType::{BookingChanged, NewBooking, NewOrder, OrderChanged};
        !matches!(due.event.kind, NewOrder | NewBooking | OrderChanged | BookingChanged)
    };
    let (mut stores, mut subjects) = (Vec::new(), Vec::new());
    for due in due.iter().filter(may_answer) {
        stores.push(due.event.store.as_str());
        subjects.push(due.subject.as_str());
    }
    if stores.is_empty() {
        return Ok(());
    }
    let statement = transaction.prepare_cached(ENQUEUE).await?;
    transaction.execute(&statement, &[&stores, &subjects]).await?;
    Ok(())
}

/// Returns the next edit of a list of orders in this chat, with the buttons that stay in the list. `None`: no list in
/// the chat needs an edit now.
pub(super) async fn next_edit(
    transaction: &Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
) -> Result<Option<Work>, QueryError> {
    const NEXT: &str = "select id, message_id from vestnik.vst_delivery where chat_id = $1 and keyboard is not null and is_list \
         and state in ('pending', 'sending', 'retrying') and due_at <= clock_timestamp() order by id limit 1";
    const BUTTONS: &str = "select event_id, label, store_id, subject, until from vestnik.vst_list_button \
         where chat_id = $1 and message_id = $2 order by event_id";
    let statement = transaction.prepare_cached(NEXT).await?;
    let Some(row) = transaction.query_opt(&statement, &[&chat.0]).await? else {
        return Ok(None);
    };
    let (item, message): (i64, i32) = (row.try_get(0)?, row.try_get(1)?);
    let statement = transaction.prepare_cached(BUTTONS).await?;
    let mut buttons = Vec::new();
    let mut orders: HashMap<String, Vec<SubjectId>> = HashMap::new();
    for row in transaction.query(&statement, &[&chat.0, &message]).await? {
        let button = OpenButton {
            event: row.try_get(0)?,
            label: row.try_get(1)?,
        };
        if let Some(subject) = SubjectId::from_text(row.try_get(3)?) {
            let until = match row.try_get(4)? {
                "closed" => Until::Closed,
                _ => Until::Answered,
            };
            let store: String = row.try_get(2)?;
            orders.entry(store.clone()).or_default().push(subject.clone());
            buttons.push((store, subject, until, button));
        }
    }
    let mut newest = HashMap::new();
    for (store, subjects) in &orders {
        newest.insert(store.clone(), newest_of(transaction, sources, store, subjects).await?);
    }
    // Keep the button of an order that `newest_of` did not find. The order has no recent event, so its status is
    // unchanged.
    buttons.retain(|(store, subject, until, _)| {
        let newest = newest.get(store).and_then(|orders| orders.get(subject));
        newest.is_none_or(|(_, status)| until.has(*status))
    });
    Ok(Some(Work::ListButtons {
        message,
        buttons: buttons.into_iter().map(|(.., button)| button).collect(),
        item,
    }))
}

/// Deletes the saved buttons of a list of orders, because somebody deleted the list in the chat.
pub(super) async fn forget(transaction: &Transaction<'_>, chat: ChatId, message: i32) -> Result<(), QueryError> {
    const FORGET: &str = "delete from vestnik.vst_list_button where chat_id = $1 and message_id = $2";
    let statement = transaction.prepare_cached(FORGET).await?;
    transaction.execute(&statement, &[&chat.0, &message]).await?;
    Ok(())
}
