//! Reads how events reached people: the channels that carried the events, the chats that got them, and the escalations
//! (further messages while nobody answered).

use std::collections::HashMap;

use crate::infra::db::GenericClient;
use crate::infra::db::Pool;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};

use crate::domain::event::{EventId, JournalEvent, PartnerEvent, StoreId};
use crate::domain::wire_time::WireTime;
use crate::infra::db::{self, QueryError};
use crate::journal;
use crate::sources::Sources;
use crate::sources::lookup_results::Lookups;

/// Maximum number of reads of the journal for one page of events. Several reads are needed if a shop's table also has
/// carts, because journal rows about carts give no event.
const JOURNAL_PAGES: usize = 20;

/// Selects the events of one page of the list of receipts. Each event comes with its own receipts.
#[derive(Debug)]
pub struct ReceiptQuery<'a> {
    /// The store of the events.
    pub store: &'a StoreId,
    /// The start of the time span, inclusive. `None`: from the first event.
    pub from: Option<OffsetDateTime>,
    /// The end of the time span, exclusive. `None`: to the newest event.
    pub to: Option<OffsetDateTime>,
    /// The key of one order or booking. `None`: all orders and bookings.
    pub key: Option<&'a str>,
    /// The page has only events that are older than this event. `None`: the first page.
    pub before: Option<EventId>,
    /// The page is complete when it has at least this many events. It may have more, because each read of the journal
    /// returns up to `limit` rows.
    pub limit: usize,
}

/// A page of events with their receipts, the newest event first.
#[derive(Debug)]
pub struct ReceiptPage {
    /// The events with their receipts, each a JSON object.
    pub events: Vec<Value>,
    /// The value of [`ReceiptQuery::before`] for the next page. `None`: this is the last page.
    pub next_before: Option<EventId>,
}

/// Reads one page of a store's events with their receipts.
pub async fn events(pool: &Pool, sources: &Sources, query: &ReceiptQuery<'_>) -> Result<ReceiptPage, QueryError> {
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = db::snapshot(&mut client).await?;
        db::read_by_index(&transaction).await?;
        let mut page = ReceiptPage {
            events: Vec::new(),
            next_before: query.before,
        };
        for _ in 0..JOURNAL_PAGES {
            let rows = newest(&transaction, query, page.next_before, query.limit as i64).await?;
            let is_last = rows.len() < query.limit;
            page.next_before = rows.first().map(|row| row.id).filter(|_| !is_last);
            let mut told = described(&transaction, sources, &rows, &|at| WireTime(at).to_string()).await?;
            told.reverse();
            page.events
                .extend(told.into_iter().map(|(_, described)| Value::Object(described)));
            if is_last || page.events.len() >= query.limit {
                break;
            }
        }
        transaction.commit().await?;
        Ok(page)
    })
    .await
}

/// Reads the newest journal rows that `query` selects, at most `limit`. If `before` is given, reads only rows before
/// this event. Returns the rows oldest first.
async fn newest(
    client: &impl GenericClient,
    query: &ReceiptQuery<'_>,
    before: Option<EventId>,
    limit: i64,
) -> Result<Vec<JournalEvent>, tokio_postgres::Error> {
    let mut wheres = vec!["store_id = $1 and ($2 is null or at >= $2) and ($3 is null or at < $3)".to_owned()];
    if query.key.is_some() {
        wheres.push("key = $4".into());
    }
    if before.is_some() {
        wheres.push(
            "(xid, id) < (select b.xid, b.id from vestnik.vst_event b where b.id = $5 and b.store_id = $1)".into(),
        );
    }
    let store = query.store.as_str();
    let before = before.map(|id| id.0);
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&store, Type::TEXT),
        (&query.from, Type::TIMESTAMPTZ),
        (&query.to, Type::TIMESTAMPTZ),
        (&query.key, Type::TEXT),
        (&before, Type::INT8),
        (&limit, Type::INT8),
    ];
    // Order by the columns of the store's index, so that Postgres uses this index.
    let condition = format!("{} order by xid desc, id desc limit $6", wheres.join(" and "));
    let mut rows = journal::read_where(client, &condition, &parameters).await?;
    rows.reverse();
    Ok(rows)
}

/// Translates journal rows to events. Returns each event with its description as JSON: its receipts, its deliveries to
/// chats, and its escalation. `clock` turns a time into text.
pub async fn described(
    client: &impl GenericClient,
    sources: &Sources,
    rows: &[JournalEvent],
    clock: &(dyn Fn(OffsetDateTime) -> String + Sync),
) -> Result<Vec<(PartnerEvent, Map<String, Value>)>, QueryError> {
    let rows: Vec<&JournalEvent> = rows.iter().collect();
    let events = sources.partner_events(&rows, &Lookups::default());
    let ids: Vec<i64> = events.iter().map(|event| event.id.0).collect();
    let mut channels = channels(client, &ids, clock).await?;
    let mut chats = chats(client, &ids, clock).await?;
    let mut escalations = escalations(client, &ids, clock).await?;
    let describe = |event: PartnerEvent| {
        let id = event.id.0;
        let mut told = Map::new();
        told.insert("id".into(), event.id.to_string().into());
        told.insert("type".into(), event.kind.as_str().into());
        told.insert("at".into(), clock(event.at).into());
        if let Some(subject) = &event.subject {
            told.insert("subject".into(), subject.id.key.as_ref().into());
            told.insert("source".into(), subject.source.as_ref().into());
            told.insert("number".into(), subject.number.as_str().into());
            told.insert("status".into(), subject.status.as_str().into());
        }
        told.insert("channels".into(), channels.remove(&id).unwrap_or_default().into());
        told.insert("chats".into(), chats.remove(&id).unwrap_or_default().into());
        told.insert(
            "escalation".into(),
            escalations.remove(&id).unwrap_or_else(|| json!({})),
        );
        (event, told)
    };
    Ok(events.into_iter().map(describe).collect())
}

type ByEvent<T> = HashMap<i64, T>;

fn put(object: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object.insert(name.to_owned(), value.into());
    }
}

async fn channels(
    client: &impl GenericClient,
    ids: &[i64],
    clock: &(dyn Fn(OffsetDateTime) -> String + Sync),
) -> Result<ByEvent<Vec<Value>>, tokio_postgres::Error> {
    const CHANNELS: &str = "select event_id, channel, recipient, sent_at, rendered_at, sounded_at, acknowledged_at, acknowledged_by, \
         nullif(token_id, 0)::text from vestnik.vst_receipt where event_id = any ($1) order by event_id, channel, recipient, token_id";
    let mut channels: ByEvent<Vec<Value>> = HashMap::new();
    for row in client.query(CHANNELS, &[&ids]).await? {
        let mut channel = Map::new();
        put(&mut channel, "channel", row.try_get::<_, Option<String>>(1)?);
        put(&mut channel, "recipient", row.try_get::<_, Option<String>>(2)?);
        for (place, name) in [(3, "sent"), (4, "rendered"), (5, "sounded"), (6, "acknowledged")] {
            put(
                &mut channel,
                name,
                row.try_get::<_, Option<OffsetDateTime>>(place)?.map(clock),
            );
        }
        put(&mut channel, "by", row.try_get::<_, Option<String>>(7)?);
        put(&mut channel, "token", row.try_get::<_, Option<String>>(8)?);
        channels
            .entry(row.try_get(0)?)
            .or_default()
            .push(Value::Object(channel));
    }
    Ok(channels)
}

async fn chats(
    client: &impl GenericClient,
    ids: &[i64],
    clock: &(dyn Fn(OffsetDateTime) -> String + Sync),
) -> Result<ByEvent<Vec<Value>>, tokio_postgres::Error> {
    const CHATS: &str = "select d.event_id, coalesce(c.title, c.telegram_id::text), d.state, d.attempts, d.reason, d.completed_at \
         from vestnik.vst_delivery d join vestnik.vst_chat c on c.id = d.chat_id where d.event_id = any ($1) order by d.id";
    let mut chats: ByEvent<Vec<Value>> = HashMap::new();
    for row in client.query(CHATS, &[&ids]).await? {
        let mut chat = Map::new();
        put(&mut chat, "chat", row.try_get::<_, Option<String>>(1)?);
        put(&mut chat, "state", row.try_get::<_, Option<String>>(2)?);
        put(&mut chat, "attempts", row.try_get::<_, Option<i32>>(3)?);
        put(&mut chat, "reason", row.try_get::<_, Option<String>>(4)?);
        put(
            &mut chat,
            "completed",
            row.try_get::<_, Option<OffsetDateTime>>(5)?.map(clock),
        );
        chats.entry(row.try_get(0)?).or_default().push(Value::Object(chat));
    }
    Ok(chats)
}

async fn escalations(
    client: &impl GenericClient,
    ids: &[i64],
    clock: &(dyn Fn(OffsetDateTime) -> String + Sync),
) -> Result<ByEvent<Value>, tokio_postgres::Error> {
    const ESCALATIONS: &str =
        "select event_id, step, outcome, ended_at from vestnik.vst_escalation where event_id = any ($1)";
    let mut escalations = HashMap::new();
    for row in client.query(ESCALATIONS, &[&ids]).await? {
        let mut escalation = Map::new();
        put(&mut escalation, "step", row.try_get::<_, Option<i16>>(1)?);
        put(&mut escalation, "outcome", row.try_get::<_, Option<String>>(2)?);
        put(
            &mut escalation,
            "ended",
            row.try_get::<_, Option<OffsetDateTime>>(3)?.map(clock),
        );
        escalations.insert(row.try_get(0)?, Value::Object(escalation));
    }
    Ok(escalations)
}
