//! What is sent to a chat next: the urgent before the rest, the older before the younger; one message for all that
//! happened to an order; a digest where the chat is behind.

use std::collections::HashMap;
use std::sync::Arc;

use crate::db::Transaction;
use time::OffsetDateTime;

use super::queue::ChatId;
use crate::db::Failed;
use crate::domain::Subject as Canonical;
use crate::domain::event::{EventId, EventType, PartnerEvent};
use crate::domain::status::Status;
use crate::journal;
use crate::sources::Sources;
use crate::sources::changes::Lookups;
use crate::sources::lookup::look_up;
use crate::telegram::message;

/// How long another table is waited for, for the items of a message.
const LOOKUP_LIMITS: &str = "set local lock_timeout = '500ms'; set local statement_timeout = '500ms'";
/// Deliveries of one chat that are looked at to decide what is sent next.
const LOOK_AHEAD: i64 = 200;

/// One delivery of it.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its row.
    pub id: i64,
    /// Its event.
    pub event: Told,
}

/// An event as a message needs it.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its number.
    pub id: i64,
    /// What happened.
    pub kind: EventType,
    /// The order or booking as it stood then.
    pub subject: Arc<Canonical>,
    /// Its status before, where people saw it.
    pub previous: Option<Status>,
    /// The fields that changed, as the wire calls them.
    pub changed: Vec<&'static str>,
    /// When.
    pub at: OffsetDateTime,
}

/// What the messages of a store look like.
#[derive(Debug, Clone)]
pub struct Style {
    /// The store.
    pub store: String,
    /// What people call it.
    pub store_name: Option<String>,
    /// The IANA name of its time zone.
    pub time_zone: String,
    /// Of the chat.
    pub language: String,
    /// Whether the chat wants no sound now.
    pub muted: bool,
}

/// One order or booking in one chat.
#[derive(Debug)]
pub struct Subject {
    /// How.
    pub style: Style,
    /// The source's number and the key: `1 123`.
    pub subject: String,
    /// What the message tells: the new order where it is known, else the newest change.
    pub base: Told,
    /// Where it stands.
    pub latest: Told,
    /// Who brought it there by a button.
    pub by: Option<String>,
    /// The message that is there already.
    pub message: Option<i32>,
    /// The deliveries that it settles.
    pub items: Vec<i64>,
}

/// What is sent to a chat next.
#[derive(Debug)]
pub enum Work {
    /// The message of one order or booking, brought to where it stands.
    Subject(Box<Subject>),
    /// Many of them in one message.
    Digest {
        /// How.
        style: Style,
        /// The oldest first.
        items: Vec<Item>,
    },
    /// Nobody could ring, or somebody can again.
    Alarm {
        /// How.
        style: Style,
        /// What.
        alarm: Alarm,
        /// Its delivery.
        item: i64,
    },
    /// An answer to a command.
    Words {
        /// HTML.
        text: String,
        /// Its delivery.
        item: i64,
    },
}

/// What an alarm says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The store is open and nobody could hear an order.
    Raised,
    /// A panel can ring again.
    ClearedByPanel,
    /// The store has closed.
    ClearedByClosing,
}

impl Work {
    /// The deliveries that it settles.
    pub fn items(&self) -> Vec<i64> {
        match self {
            Self::Subject(subject) => subject.items.clone(),
            Self::Digest { items, .. } => items.iter().map(|item| item.id).collect(),
            Self::Alarm { item, .. } | Self::Words { item, .. } => vec![*item],
        }
    }

    /// The events of it by which orders became new.
    pub fn new_orders(&self) -> Vec<i64> {
        let told: Vec<&Told> = match self {
            Self::Subject(subject) => vec![&subject.base, &subject.latest],
            Self::Digest { items, .. } => items.iter().map(|item| &item.event).collect(),
            Self::Alarm { .. } | Self::Words { .. } => Vec::new(),
        };
        told.into_iter().filter(|told| told.kind == EventType::NewOrder).map(|told| told.id).collect()
    }
}

/// An open delivery, as the choice of what is next needs it.
struct Open {
    id: i64,
    store: Option<String>,
    event: Option<i64>,
    alarm: Option<Alarm>,
    words: Option<String>,
    subject: Option<String>,
    stale: bool,
}

/// What is sent next: the urgent before the rest, the older before the younger; a digest where the chat is behind.
pub(super) async fn next_work(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
    digest_above: usize,
) -> Result<Option<Work>, Failed> {
    loop {
        let open = open(transaction, chat).await?;
        let Some(first) = open.first() else { return Ok(None) };
        if let Some(text) = &first.words {
            let (text, item) = (text.clone(), first.id);
            return Ok(Some(Work::Words { text, item }));
        }
        let store = first.store.as_deref().unwrap_or_default();
        let Some(style) = style(transaction, chat, store).await? else {
            bury(transaction, chat, store).await?;
            continue;
        };
        match choose(transaction, sources, chat, style, &open, digest_above).await? {
            Some(work) => return Ok(Some(work)),
            // Its source is gone, or its mapping says now that nobody sees it.
            None => bury_one(transaction, first.id).await?,
        }
    }
}

/// A store that is no longer set up concerns nobody: what waits for it must not hold up the chat's others.
async fn bury(transaction: &Transaction<'_>, chat: ChatId, store: &str) -> Result<(), Failed> {
    const BURY: &str = "update vestnik.vst_delivery set state = 'dead', reason = 'the store is gone', settled_at = clock_timestamp() \
         where chat_id = $1 and coalesce(store_id, '') = $2 and words is null and state in ('pending', 'sending', 'retrying')";
    transaction.execute(BURY, &[&chat.0, &store]).await?;
    Ok(())
}

/// What means nothing any more must not hold up what is behind it.
async fn bury_one(transaction: &Transaction<'_>, delivery: i64) -> Result<(), Failed> {
    const BURY: &str = "update vestnik.vst_delivery set state = 'dead', reason = 'it means nothing any more', settled_at = clock_timestamp() \
         where id = $1";
    transaction.execute(BURY, &[&delivery]).await?;
    Ok(())
}

/// The deliveries that may be next.
async fn open(transaction: &Transaction<'_>, chat: ChatId) -> Result<Vec<Open>, Failed> {
    const OPEN: &str = "select d.id, d.store_id, d.event_id, d.words, d.subject, d.stale, \
             case when d.alarm_id is null then null when not d.alarm_ends then 'raised' else a.cleared_by end \
         from vestnik.vst_delivery d left join vestnik.vst_alarm a on a.id = d.alarm_id \
         where d.chat_id = $1 and d.state in ('pending', 'sending', 'retrying') order by d.urgent desc, d.id limit $2";
    let statement = transaction.prepare_cached(OPEN).await?;
    let mut open = Vec::new();
    for row in transaction.query(&statement, &[&chat.0, &LOOK_AHEAD]).await? {
        open.push(Open {
            id: row.try_get(0)?,
            store: row.try_get(1)?,
            event: row.try_get(2)?,
            words: row.try_get(3)?,
            subject: row.try_get(4)?,
            stale: row.try_get(5)?,
            alarm: match row.try_get(6)? {
                None => None,
                Some("raised") => Some(Alarm::Raised),
                Some("closing") => Some(Alarm::ClearedByClosing),
                Some(_) => Some(Alarm::ClearedByPanel),
            },
        });
    }
    Ok(open)
}

/// What the first of them asks for.
async fn choose(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
    style: Style,
    open: &[Open],
    digest_above: usize,
) -> Result<Option<Work>, Failed> {
    let first = open.first().ok_or(Failed::Inconsistent("nothing to choose from"))?;
    if let Some(alarm) = first.alarm {
        let item = first.id;
        return Ok(Some(Work::Alarm { style, alarm, item }));
    }
    let of_store = |open: &&Open| open.event.is_some() && open.store == first.store;
    let told: Vec<&Open> = open.iter().filter(of_store).collect();
    // What is stale waits for a digest anyway: it does not take the fresh ones with it.
    let all_behind = told.iter().filter(|open| !open.stale).count() > digest_above;
    if first.stale || all_behind {
        let ids: Vec<i64> = told
            .iter()
            .filter(|open| all_behind || open.stale)
            .map(|open| open.id)
            .collect();
        // As many of them as the message has room for, the most urgent first; the rest is for the next one.
        let items = told_of(transaction, sources, &ids).await?;
        if items.is_empty() {
            return Ok(None);
        }
        let fitting = message::that_fit(&style, items);
        return Ok(Some(Work::Digest { style, items: fitting }));
    }
    let subject = first
        .subject
        .clone()
        .ok_or(Failed::Inconsistent("an event without a subject"))?;
    let items: Vec<i64> = told
        .iter()
        .filter(|open| open.subject == first.subject)
        .map(|open| open.id)
        .collect();
    subject_work(transaction, sources, chat, style, subject, items).await
}

/// The message of one subject: what it tells, and where the subject stands now.
async fn subject_work(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
    style: Style,
    subject: String,
    items: Vec<i64>,
) -> Result<Option<Work>, Failed> {
    const MESSAGE: &str =
        "select message_id, event_id from vestnik.vst_message where chat_id = $1 and store_id = $2 and subject = $3";
    const BY: &str = "select by_whom from vestnik.vst_status_change where source = $1 and key = $2 and status = $3 order by id desc limit 1";
    let events = told_of(transaction, sources, &items).await?;
    if events.is_empty() {
        return Ok(None);
    }
    let statement = transaction.prepare_cached(MESSAGE).await?;
    let message = transaction
        .query_opt(&statement, &[&chat.0, &style.store, &subject])
        .await?;
    let (message, base_event) = match message {
        // 0: it is gone.
        Some(row) => (
            Some(row.try_get(0)?).filter(|id| *id != 0),
            Some(row.try_get::<_, i64>(1)?),
        ),
        None => (None, None),
    };
    let by_id = |events: &[Item]| {
        events
            .iter()
            .max_by_key(|item| item.event.id)
            .map(|item| item.event.clone())
    };
    let latest = by_id(&events).ok_or(Failed::Inconsistent("a delivery has no event"))?;
    let base = match base_event {
        Some(id) => told_events(transaction, sources, &[id]).await?.remove(&id),
        None => events
            .iter()
            .min_by_key(|item| item.event.id)
            .map(|item| item.event.clone()),
    };
    let statement = transaction.prepare_cached(BY).await?;
    let (about, status) = (&latest.subject.id, latest.subject.status.as_str());
    let by = transaction
        .query_opt(&statement, &[&about.source.0, &&*about.key, &status])
        .await?;
    Ok(Some(Work::Subject(Box::new(Subject {
        base: base.unwrap_or_else(|| latest.clone()),
        by: by.map(|row| row.try_get(0)).transpose()?,
        style,
        subject,
        latest,
        message,
        items,
    }))))
}

async fn style(transaction: &Transaction<'_>, chat: ChatId, store: &str) -> Result<Option<Style>, Failed> {
    const STYLE: &str = "select s.name, s.time_zone, coalesce(l.language, 'ru'), coalesce(l.muted_until > clock_timestamp(), false) \
         from vestnik.vst_store s left join vestnik.vst_chat_link l on l.store_id = s.id and l.chat_id = $1 where s.id = $2";
    let statement = transaction.prepare_cached(STYLE).await?;
    let Some(row) = transaction.query_opt(&statement, &[&chat.0, &store]).await? else {
        return Ok(None);
    };
    Ok(Some(Style {
        store: store.to_owned(),
        store_name: row.try_get(0)?,
        time_zone: row.try_get(1)?,
        language: row.try_get(2)?,
        muted: row.try_get(3)?,
    }))
}

/// The events of these deliveries, the urgent first.
async fn told_of(transaction: &mut Transaction<'_>, sources: &Sources, deliveries: &[i64]) -> Result<Vec<Item>, Failed> {
    const EVENTS: &str = "select id, event_id from vestnik.vst_delivery where id = any ($1) order by urgent desc, id";
    let statement = transaction.prepare_cached(EVENTS).await?;
    let mut events: Vec<(i64, i64)> = Vec::with_capacity(deliveries.len());
    for row in transaction.query(&statement, &[&deliveries]).await? {
        events.push((row.try_get(0)?, row.try_get(1)?));
    }
    let ids: Vec<i64> = events.iter().map(|(_, event)| *event).collect();
    let mut told = told_events(transaction, sources, &ids).await?;
    let item = |(id, event)| Some(Item { id, event: told.remove(&event)? });
    Ok(events.into_iter().filter_map(item).collect())
}

/// What these events mean now, with what was looked up. An event of a source that is gone means nothing any more.
async fn told_events(transaction: &mut Transaction<'_>, sources: &Sources, ids: &[i64]) -> Result<HashMap<i64, Told>, Failed> {
    let ids: Vec<EventId> = ids.iter().copied().map(EventId).collect();
    let rows = journal::read_with_siblings(transaction, &ids).await?;
    let rows: Vec<&_> = rows.iter().collect();
    let mut lookups = Lookups::default();
    for (id, keys) in sources.to_look_up(&rows) {
        let Some(source) = sources.get(id) else { continue };
        let savepoint = transaction.savepoint().await?;
        savepoint.batch_execute(LOOKUP_LIMITS).await?;
        match look_up(&savepoint, source, &keys).await {
            Ok(found) => {
                savepoint.commit().await?;
                for (key, found) in found {
                    lookups.insert(crate::domain::event::SubjectId { source: id, key: key.into() }, found);
                }
            }
            // An order is told without its items rather than late.
            Err(error) => {
                savepoint.rollback().await?;
                tracing::warn!(source = &*source.name, error = crate::db::reason(&error), "a message is sent without its items");
                lookups.fail(id);
            }
        }
    }
    let told = |event: PartnerEvent| {
        let subject = event.subject?;
        let told = Told {
            id: event.id.0,
            kind: event.kind,
            subject,
            previous: event.previous,
            changed: event.changed,
            at: event.at,
        };
        ids.contains(&event.id).then_some((event.id.0, told))
    };
    Ok(sources.partner_events(&rows, &lookups).into_iter().filter_map(told).collect())
}
