//! What is sent to a chat next: the urgent before the rest, the older before the younger; one message for all that
//! happened to an order; a digest where the chat is behind.

use super::queue::ChatId;
use crate::db::{Failed, Transaction};
use crate::event::EventType;
use crate::telegram::message;

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
    /// Its payload.
    pub data: serde_json::Value,
    /// When, by the store's clock: `19:03`, and the date where it was another day: `24.11. 19:03`.
    pub at: String,
    /// When the guests come, by the store's clock; of a booking.
    pub starts_at: Option<String>,
}

/// What the messages of a store look like.
#[derive(Debug, Clone)]
pub struct Style {
    /// The store.
    pub store: String,
    /// What people call it.
    pub store_name: Option<String>,
    /// Three letters.
    pub currency: String,
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
    /// `order 123`.
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
    transaction: &Transaction<'_>,
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
        return choose(transaction, chat, style, &open, digest_above).await.map(Some);
    }
}

/// A store that is no longer set up concerns nobody: what waits for it must not hold up the chat's others.
async fn bury(transaction: &Transaction<'_>, chat: ChatId, store: &str) -> Result<(), Failed> {
    const BURY: &str = "update vestnik.delivery set state = 'dead', reason = 'the store is gone', settled_at = clock_timestamp() \
         where chat_id = $1 and coalesce(store_id, '') = $2 and words is null and state in ('pending', 'sending', 'retrying')";
    transaction.execute(BURY, &[&chat.0, &store]).await?;
    Ok(())
}

/// The deliveries that may be next.
async fn open(transaction: &Transaction<'_>, chat: ChatId) -> Result<Vec<Open>, Failed> {
    const OPEN: &str = "select d.id, d.store_id, d.event_id, d.words, d.subject, d.stale, \
             case when d.alarm_id is null then null when not d.alarm_ends then 'raised' else a.cleared_by end \
         from vestnik.delivery d left join vestnik.alarm a on a.id = d.alarm_id \
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
    transaction: &Transaction<'_>,
    chat: ChatId,
    style: Style,
    open: &[Open],
    digest_above: usize,
) -> Result<Work, Failed> {
    let first = open.first().ok_or(Failed::Inconsistent("nothing to choose from"))?;
    if let Some(alarm) = first.alarm {
        let item = first.id;
        return Ok(Work::Alarm { style, alarm, item });
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
        let items = told_of(transaction, &ids).await?;
        let fitting = message::that_fit(&style, items);
        return Ok(Work::Digest { style, items: fitting });
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
    subject_work(transaction, chat, style, subject, items).await
}

/// The message of one subject: what it tells, and where the subject stands now.
async fn subject_work(
    transaction: &Transaction<'_>,
    chat: ChatId,
    style: Style,
    subject: String,
    items: Vec<i64>,
) -> Result<Work, Failed> {
    const MESSAGE: &str =
        "select message_id, event_id from vestnik.message where chat_id = $1 and store_id = $2 and subject = $3";
    const BY: &str = "select by_whom from vestnik.answer where store_id = $1 and kind = split_part($2, ' ', 1) \
         and key = substr($2, strpos($2, ' ') + 1) and status = $3 order by id desc limit 1";
    let events = told_of(transaction, &items).await?;
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
        Some(id) => told_event(transaction, id, &style.store).await?,
        None => events
            .iter()
            .min_by_key(|item| item.event.id)
            .map(|item| item.event.clone()),
    };
    let statement = transaction.prepare_cached(BY).await?;
    let status = latest.data["status"].as_str().unwrap_or_default();
    let by = transaction
        .query_opt(&statement, &[&style.store, &subject, &status])
        .await?;
    Ok(Work::Subject(Box::new(Subject {
        base: base.unwrap_or_else(|| latest.clone()),
        by: by.map(|row| row.try_get(0)).transpose()?,
        style,
        subject,
        latest,
        message,
        items,
    })))
}

async fn style(transaction: &Transaction<'_>, chat: ChatId, store: &str) -> Result<Option<Style>, Failed> {
    const STYLE: &str = "select s.name, s.currency, coalesce(l.language, 'ru'), coalesce(l.muted_until > clock_timestamp(), false) \
         from vestnik.store s left join vestnik.link l on l.store_id = s.id and l.chat_id = $1 where s.id = $2";
    let statement = transaction.prepare_cached(STYLE).await?;
    let Some(row) = transaction.query_opt(&statement, &[&chat.0, &store]).await? else {
        return Ok(None);
    };
    Ok(Some(Style {
        store: store.to_owned(),
        store_name: row.try_get(0)?,
        currency: row.try_get(1)?,
        language: row.try_get(2)?,
        muted: row.try_get(3)?,
    }))
}

/// The columns of [`Told`]; `s` is the store, `e` the event.
const TOLD_COLUMNS: &str = "e.id, e.type, e.data, to_char(e.at at time zone s.time_zone, \
         case when (e.at at time zone s.time_zone)::date = (now() at time zone s.time_zone)::date then 'HH24:MI' \
              else 'DD.MM. HH24:MI' end), \
     vestnik.clock(e.data ->> 'starts_at', s.time_zone)";

async fn told_of(transaction: &Transaction<'_>, deliveries: &[i64]) -> Result<Vec<Item>, Failed> {
    let sql = format!(
        "select {TOLD_COLUMNS}, d.id from vestnik.delivery d join vestnik.event e on e.id = d.event_id \
         join vestnik.store s on s.id = e.store_id where d.id = any ($1) order by d.urgent desc, d.id"
    );
    let statement = transaction.prepare_cached(&sql).await?;
    let rows = transaction.query(&statement, &[&deliveries]).await?;
    rows.iter()
        .map(|row| {
            Ok(Item {
                id: row.try_get(5)?,
                event: told(row)?,
            })
        })
        .collect()
}

async fn told_event(transaction: &Transaction<'_>, id: i64, store: &str) -> Result<Option<Told>, Failed> {
    let sql = format!("select {TOLD_COLUMNS} from vestnik.event e join vestnik.store s on s.id = $2 where e.id = $1");
    let statement = transaction.prepare_cached(&sql).await?;
    let row = transaction.query_opt(&statement, &[&id, &store]).await?;
    row.as_ref().map(told).transpose()
}

fn told(row: &tokio_postgres::Row) -> Result<Told, Failed> {
    let kind: String = row.try_get(1)?;
    Ok(Told {
        id: row.try_get(0)?,
        kind: EventType::from_name(&kind).ok_or(Failed::Inconsistent("a delivery of an unknown event"))?,
        data: row.try_get(2)?,
        at: row.try_get(3)?,
        starts_at: row.try_get(4)?,
    })
}
