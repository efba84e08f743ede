//! Chooses the next message for a chat from its open deliveries, which `open_delivery` reads and sorts. One message
//! covers all open events of an order. If a chat has too many open deliveries, one message (a digest) lists many
//! events.

use std::time::Duration;

use time::OffsetDateTime;

use crate::infra::db::Transaction;

use super::enqueue;
use super::event_view::{self, EventView, Item, items_of, views_of};
use super::lane::{ChatId, Lane};
use super::next_message::{ChatFormat, DigestReason, Escalated, OrderMessage, Work};
use super::note;
use super::open_delivery::{self, OpenDelivery};
use crate::delivery::chat_links;
use crate::domain::event::SubjectId;
use crate::infra::db::QueryError;
use crate::sources::Sources;

/// Maximum number of chats that the message of an escalated order names. An escalated order is an order that nobody
/// answered. The named chats already have the order.
const CHATS_NAMED: i64 = 3;

/// The rule for digests. A digest is one message that lists many events. The rule says when a chat gets a digest, and
/// which events fit into it.
#[derive(Debug, Clone, Copy)]
pub struct DigestRule {
    /// The number of open deliveries above which a chat gets digests.
    pub threshold: usize,
    /// The function that selects the deliveries that fit into one digest. Its value is `ChatChannel::that_fit`.
    pub that_fit: fn(&ChatFormat, Vec<Item>) -> Vec<Item>,
}

/// Chooses the next message for a chat in this lane (new messages, or edits). `None`: there is nothing to send to the
/// chat in this lane now.
pub(super) async fn next_work(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
    lane: Lane,
    digest: DigestRule,
) -> Result<Option<Work>, QueryError> {
    // A digest is always a new message, so the lane of edits has no digests.
    let rule = (lane == Lane::Messages).then_some(digest);
    loop {
        let open = open_delivery::read(transaction, chat, lane).await?;
        let Some(first) = open.first() else { return Ok(None) };
        if let Some(text) = &first.words {
            let buttons = first.buttons.clone().map(serde_json::from_value).transpose();
            return Ok(Some(Work::Reply {
                text: text.clone(),
                buttons: buttons
                    .map_err(|_| QueryError::Inconsistent("buttons that are none"))?
                    .unwrap_or_default(),
                sounds: first.urgent,
                message: first.message,
                item: first.id,
            }));
        }
        let store = first.store.as_deref().unwrap_or_default();
        let Some(style) = style(transaction, chat, store).await? else {
            dead_letter(transaction, chat, store).await?;
            continue;
        };
        match choose(transaction, sources, chat, style, &open, rule).await? {
            Some(work) => return Ok(Some(work)),
            // No message is needed. Either the source was removed, or its mapping hides the order now, or somebody has
            // already answered the order of a note.
            None => dead_letter_one(transaction, first.id).await?,
        }
    }
}

/// Marks a chat's deliveries of a store as dead, because the store is not set up any more. Otherwise these deliveries
/// would block the chat's deliveries of other stores.
async fn dead_letter(transaction: &Transaction<'_>, chat: ChatId, store: &str) -> Result<(), QueryError> {
    const DEAD_LETTER: &str = "update vestnik.vst_delivery set state = 'dead', reason = 'the store is gone', completed_at = clock_timestamp() \
         where chat_id = $1 and coalesce(store_id, '') = $2 and words is null and state in ('pending', 'sending', 'retrying')";
    transaction.execute(DEAD_LETTER, &[&chat.0, &store]).await?;
    Ok(())
}

/// Marks a delivery as dead, because no message is needed for it any more. Otherwise this delivery would block later
/// ones.
async fn dead_letter_one(transaction: &Transaction<'_>, delivery: i64) -> Result<(), QueryError> {
    const DEAD_LETTER: &str = "update vestnik.vst_delivery set state = 'dead', reason = 'it means nothing any more', completed_at = clock_timestamp() \
         where id = $1 and state in ('pending', 'sending', 'retrying')";
    transaction.execute(DEAD_LETTER, &[&delivery]).await?;
    Ok(())
}

/// Returns the message for the first delivery of `open`. The message may cover other deliveries of `open`, too. `None`:
/// the first delivery needs no message any more. If `rule` is `None`, the function returns no digest.
async fn choose(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
    style: ChatFormat,
    open: &[OpenDelivery],
    rule: Option<DigestRule>,
) -> Result<Option<Work>, QueryError> {
    let first = open.first().ok_or(QueryError::Inconsistent("nothing to choose from"))?;
    if let Some(alarm) = first.alarm {
        let item = first.id;
        return Ok(Some(Work::Alarm { style, alarm, item }));
    }
    let is_told = open
        .iter()
        .any(|open| open.event.is_some() && open.is_about_same(first));
    // If no event of the note's order is open, send the note in a message of its own. Otherwise the message of that
    // event contains the note.
    if let Some(note) = first.note
        && !is_told
    {
        return note::work(transaction, sources, chat, style, note, open).await;
    }
    let of_store =
        |open: &&OpenDelivery| open.event.is_some() && open.store == first.store && open.alone == first.alone;
    let chosen: Vec<&OpenDelivery> = open.iter().filter(of_store).collect();
    // Count only deliveries that are as urgent as the first one and not stale (not too old for a message of their own).
    // Then many changes of old orders do not put a new order into a digest. Stale deliveries are listed in a digest in
    // any case.
    let counts = |open: &&&OpenDelivery| !open.stale && open.urgent == first.urgent;
    let fresh = chosen.iter().filter(counts).count();
    if let Some(rule) = rule.filter(|_| !first.alone) {
        let all_behind = fresh > rule.threshold;
        if first.stale || all_behind {
            let chosen: Vec<&OpenDelivery> = chosen.into_iter().filter(|open| all_behind || open.stale).collect();
            return digest(transaction, sources, style, rule, &chosen, open).await;
        }
    }
    let subject = first
        .subject
        .clone()
        .ok_or(QueryError::Inconsistent("an event without a subject"))?;
    let items: Vec<i64> = chosen
        .iter()
        .filter(|open| open.subject == first.subject)
        .map(|open| open.id)
        .collect();
    let notes: Vec<&OpenDelivery> = open
        .iter()
        .filter(|it| it.note.is_some() && it.is_about_same(first))
        .collect();
    let wanted = Wanted {
        subject,
        items,
        alone: first.alone,
    };
    subject_work(transaction, sources, chat, style, wanted, &notes).await
}

/// Returns a digest (one message for many events) for deliveries in `chosen`, which has the most urgent delivery first.
/// Deliveries that do not fit are sent in later digests. The digest replaces open notes (short, urgent messages) about
/// the listed orders. `None`: none of the events gives a message.
async fn digest(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    style: ChatFormat,
    rule: DigestRule,
    chosen: &[&OpenDelivery],
    open: &[OpenDelivery],
) -> Result<Option<Work>, QueryError> {
    let ids: Vec<i64> = chosen.iter().map(|open| open.id).collect();
    let items = items_of(transaction, sources, &ids).await?;
    if items.is_empty() {
        return Ok(None);
    }
    let items = (rule.that_fit)(&style, items);
    let fits = |open: &&&OpenDelivery| items.iter().any(|item| item.id == open.id);
    let fitting: Vec<&OpenDelivery> = chosen.iter().filter(fits).copied().collect();
    let is_of_them = |note: &&OpenDelivery| note.note.is_some() && fitting.iter().any(|open| open.is_about_same(note));
    let notes: Vec<&OpenDelivery> = open.iter().filter(is_of_them).collect();
    let is_urgent = items.iter().any(|item| enqueue::is_urgent(item.event.kind));
    let reason = match fitting.iter().all(|open| open.stale) {
        true if fitting.iter().any(|open| open.missed) => DigestReason::ChatWasAway,
        true => DigestReason::EngineWasAway,
        false => DigestReason::ManyAtOnce,
    };
    Ok(Some(Work::Digest {
        reason,
        sounds: note::must_be_heard(&notes) || is_urgent && !style.muted,
        notes: notes.iter().map(|open| open.id).collect(),
        items,
        style,
    }))
}

struct Wanted {
    subject: String,
    items: Vec<i64>,
    alone: bool,
}

/// Returns the message of one order or booking, in its current state. The message covers all open events of the order.
/// A new message also covers the order's open notes (short, urgent messages). `None`: no event can be translated.
async fn subject_work(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
    style: ChatFormat,
    wanted: Wanted,
    notes: &[&OpenDelivery],
) -> Result<Option<Work>, QueryError> {
    let Wanted {
        subject,
        mut items,
        alone,
    } = wanted;
    let events = items_of(transaction, sources, &items).await?;
    let mut events: Vec<EventView> = events.into_iter().map(|item| item.event).collect();
    events.sort_unstable_by_key(|event| event.id);
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        return Ok(None);
    };
    let (message, base_event) = sent(transaction, chat, &style.store, &subject).await?;
    // A person asked for this order, so show its current state. The newest event may already have been listed in a
    // digest (one message for many events), or may have no delivery.
    let asked = alone.then(|| SubjectId::from_text(&subject)).flatten();
    let current = match asked {
        Some(subject) => event_view::current(transaction, sources, &style.store, &subject).await?,
        None => None,
    };
    let latest = current.unwrap_or_else(|| with_all_changes(last, &events, base_event.is_some()));
    let base = match base_event {
        Some(id) => views_of(transaction, sources, &[id]).await?.remove(&id),
        None => Some(first.clone()),
    };
    let escalated = escalated(transaction, chat, &items).await?;
    // If a change has no message to edit, it is sent as a new message. Such a message makes no sound, because only new
    // orders, escalations and notes need a sound.
    let is_new = events.iter().any(|event| enqueue::is_new(event.kind));
    let is_heard = is_new || escalated.is_some() || !notes.is_empty();
    // A new message of the order also covers the order's notes. If a sent message is edited instead, each note is sent
    // as a reply to that message.
    if message.is_none() {
        items.extend(notes.iter().map(|open| open.id));
    }
    Ok(Some(Work::OrderMessage(Box::new(OrderMessage {
        base: base.unwrap_or_else(|| latest.clone()),
        by: answered_by(transaction, &style.store, &latest).await?,
        promised_at: promised_at(transaction, &style.store, &subject).await?,
        sounds: is_heard && !style.muted || !is_new && note::must_be_heard(notes),
        escalated,
        style,
        subject,
        latest,
        message,
        items,
    }))))
}

/// Reads the id of the message that shows an order in this chat, and the id of the event with which it was sent. Both
/// are `None` if no message was sent. The message's id is `None` if the message was deleted.
async fn sent(
    transaction: &Transaction<'_>,
    chat: ChatId,
    store: &str,
    subject: &str,
) -> Result<(Option<i32>, Option<i64>), QueryError> {
    const MESSAGE: &str =
        "select message_id, event_id from vestnik.vst_message where chat_id = $1 and store_id = $2 and subject = $3";
    let statement = transaction.prepare_cached(MESSAGE).await?;
    let Some(row) = transaction.query_opt(&statement, &[&chat.0, &store, &subject]).await? else {
        return Ok((None, None));
    };
    // The id 0 means that the message was deleted.
    let message = Some(row.try_get(0)?).filter(|id| *id != 0);
    Ok((message, Some(row.try_get(1)?)))
}

/// Reads the name of the person who set the order's current status. `None`: nobody set this status through Vestnik.
async fn answered_by(
    transaction: &Transaction<'_>,
    store: &str,
    latest: &EventView,
) -> Result<Option<String>, QueryError> {
    const BY: &str = "select by_whom from vestnik.vst_status_change \
         where source = $1 and key = $2 and store_id = $3 and status = $4 \
         order by id desc limit 1";
    let statement = transaction.prepare_cached(BY).await?;
    let (about, status) = (&latest.subject.id, latest.subject.status.as_str());
    let row = transaction
        .query_opt(&statement, &[&about.source.0, &&*about.key, &store, &status])
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Reads the time at which the order is promised to be ready. `None`: nobody promised a time, or the order is not in
/// preparation.
async fn promised_at(
    transaction: &Transaction<'_>,
    store: &str,
    subject: &str,
) -> Result<Option<OffsetDateTime>, QueryError> {
    const PROMISED_AT: &str =
        "select due_at from vestnik.vst_promise where store_id = $1 and subject = $2 and minutes is not null";
    let statement = transaction.prepare_cached(PROMISED_AT).await?;
    let row = transaction.query_opt(&statement, &[&store, &subject]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Returns `last`, which is the last of `events`. If the chat already has the order (`is_told`), the returned event
/// names the changed fields of all `events`. The events are sorted by id.
fn with_all_changes(last: &EventView, events: &[EventView], is_told: bool) -> EventView {
    let before = events.iter().find_map(|event| event.before.clone());
    let Some(before) = before.filter(|_| is_told && events.len() > 1) else {
        return last.clone();
    };
    let mut changed = last.subject.changed_fields(&before);
    // If the status has changed, leave out the promised time, because the line of the new status contains it.
    changed.retain(|field| *field != "promised_minutes" || last.before.is_some());
    EventView {
        before: Some(before),
        changed,
        ..last.clone()
    }
}

/// Reads how long an escalated order has waited, and which chats already have it. `items` has the ids of deliveries to
/// this chat. `None`: none of them was enqueued by an escalation step.
async fn escalated(
    transaction: &Transaction<'_>,
    chat: ChatId,
    items: &[i64],
) -> Result<Option<Escalated>, QueryError> {
    const ESCALATED: &str = "select d.event_id, extract(epoch from clock_timestamp() - e.at)::float8, \
             exists (select from vestnik.vst_receipt r where r.event_id = e.id and r.channel in ('websocket', 'sse', 'polling')) \
         from vestnik.vst_delivery d join vestnik.vst_event e on e.id = d.event_id where d.id = any ($1) and d.step is not null limit 1";
    const CHATS: &str = "select coalesce(c.title, c.telegram_id::text) from vestnik.vst_delivery d join vestnik.vst_chat c on c.id = d.chat_id \
         where d.event_id = $1 and d.chat_id <> $2 and d.state = 'sent' order by d.id limit $3";
    let statement = transaction.prepare_cached(ESCALATED).await?;
    let Some(row) = transaction.query_opt(&statement, &[&items]).await? else {
        return Ok(None);
    };
    let (event, waited_s): (i64, f64) = (row.try_get(0)?, row.try_get(1)?);
    let statement = transaction.prepare_cached(CHATS).await?;
    let chats = transaction.query(&statement, &[&event, &chat.0, &CHATS_NAMED]).await?;
    Ok(Some(Escalated {
        waited: Duration::try_from_secs_f64(waited_s).unwrap_or_default(),
        panel: row.try_get(2)?,
        chats: chats.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
    }))
}

async fn style(transaction: &Transaction<'_>, chat: ChatId, store: &str) -> Result<Option<ChatFormat>, QueryError> {
    // In a chat with several stores, show the id of a store that has no name, so that a person can tell the stores
    // apart.
    let sql = format!(
        "select coalesce(s.name, case when exists (select from vestnik.vst_chat_link o where o.chat_id = $1 and o.store_id <> s.id) then s.id end), \
             s.time_zone, coalesce(l.language, 'ru'), coalesce({}, false) \
         from vestnik.vst_store s left join vestnik.vst_chat_link l on l.store_id = s.id and l.chat_id = $1 where s.id = $2",
        chat_links::IS_SILENT
    );
    let statement = transaction.prepare_cached(&sql).await?;
    let Some(row) = transaction.query_opt(&statement, &[&chat.0, &store]).await? else {
        return Ok(None);
    };
    Ok(Some(ChatFormat {
        store: store.to_owned(),
        store_name: row.try_get(0)?,
        time_zone: row.try_get(1)?,
        language: row.try_get(2)?,
        muted: row.try_get(3)?,
    }))
}
