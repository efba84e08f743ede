//! Builds the JSON objects of a list. Each object has an order, the id of the event that announced the order to
//! clients, and a person's last answer to the order.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{Error, Row};
use crate::domain::event::{EventId, EventType, JournalEvent, SourceId, StoreId, SubjectId};
use crate::domain::status::Status;
use crate::domain::wire_time::WireTime;
use crate::infra::db::Transaction;
use crate::journal;
use crate::sources::lookup_failure::logged_reason;
use crate::sources::lookup_query::look_up;
use crate::sources::lookup_results::{LookupResult, Lookups};
use crate::sources::{Context, Sources};

/// Number of a store's newest journal rows that are searched for the events that announced the listed orders.
const SCANNED_EVENTS: i64 = 5000;

/// The orders of a page.
pub(super) struct Entries {
    /// The JSON object of each row: the order, the event that announced the order, and a person's last answer.
    pub rows: Vec<Map<String, Value>>,
    /// The orders that come without their items or details, because the look-up failed.
    pub incomplete: Vec<SubjectId>,
}

/// Builds the JSON objects of these rows.
pub(super) async fn entries(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    store: &StoreId,
    rows: Vec<Row<'_>>,
) -> Result<Entries, Error> {
    let mut lookups = Lookups::default();
    for source in sources.all().into_iter().filter(|source| source.mapping.needs_lookup()) {
        let keys: Vec<Arc<str>> = rows
            .iter()
            .filter(|row| row.source.id == source.id)
            .map(|row| row.key.as_str().into())
            .collect();
        if keys.is_empty() {
            continue;
        }
        let found = look_up(transaction, source, &keys, source.parts()).await?;
        for failed in lookups.extend(source.id, found) {
            let error = logged_reason(transaction, &failed.error).await;
            tracing::warn!(
                source = &*source.name,
                part = failed.part.as_str(),
                order = failed.first_key(),
                error,
                "a list has orders without their items or details"
            );
        }
    }
    let events = new_events(transaction, sources, store, &rows).await?;
    let answers = answers(transaction, store, &rows).await?;
    let currency = sources.currency_of(store);
    let id_of = |row: &Row<'_>| SubjectId {
        source: row.source.id,
        key: row.key.as_str().into(),
    };
    let one = |row: &Row<'_>| {
        let id = id_of(row);
        let lookup: LookupResult<'_> = lookups.get(&id);
        let mut subject = row.source.translate(&row.key, &row.data, Context { currency, lookup });
        let answer = answers.get(&id);
        // An order that waits for an answer again has no promise of an earlier answer.
        let promise = answer.filter(|_| subject.visible_status() != Some(Status::Pending));
        subject.promised_minutes = subject
            .promised_minutes
            .or(promise.and_then(|answer| answer["minutes"].as_i64()?.try_into().ok()));
        let mut json = subject.to_json();
        json.insert("id".into(), row.key.as_str().into());
        if let Some((event, acknowledged)) = events.get(&id) {
            json.insert("event_id".into(), event.to_string().into());
            json.insert("acknowledged".into(), (*acknowledged).into());
        }
        json.extend(answer.map(|answer| ("answer".to_owned(), answer.clone())));
        json
    };
    let failed = rows.iter().filter(|row| lookups.has_failed(row.source.id));
    Ok(Entries {
        incomplete: failed.map(id_of).collect(),
        rows: rows.iter().map(one).collect(),
    })
}

/// The event that announced each of these orders to clients, and whether a person has acknowledged the event. The
/// result has no entry for an order whose event is not among the store's newest [`SCANNED_EVENTS`] journal rows.
async fn new_events(
    transaction: &Transaction<'_>,
    sources: &Sources,
    store: &StoreId,
    rows: &[Row<'_>],
) -> Result<HashMap<SubjectId, (EventId, bool)>, Error> {
    const ACKNOWLEDGED: &str = "select distinct event_id from vestnik.vst_acknowledgement where event_id = any ($1)";
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let events = journal::newest_of(transaction, store, &keys, SCANNED_EVENTS).await?;
    let events: Vec<&JournalEvent> = events.iter().collect();
    let mut new = HashMap::new();
    for event in sources.partner_events(&events, &Lookups::default()) {
        if let (EventType::NewOrder | EventType::NewBooking, Some(subject)) = (event.kind, &event.subject) {
            new.insert(subject.id.clone(), (event.id, false));
        }
    }
    let ids: Vec<i64> = new.values().map(|(event, _)| event.0).collect();
    for row in transaction.query(ACKNOWLEDGED, &[&ids]).await? {
        let acknowledged = EventId(row.try_get(0)?);
        new.values_mut()
            .filter(|(event, _)| *event == acknowledged)
            .for_each(|(_, is)| *is = true);
    }
    Ok(new)
}

/// The last answer of a person of this store to each order, as JSON: the person, the time, the status, and the promised minutes.
async fn answers(
    transaction: &Transaction<'_>,
    store: &StoreId,
    rows: &[Row<'_>],
) -> Result<HashMap<SubjectId, Value>, tokio_postgres::Error> {
    const ANSWERS: &str = "select distinct on (a.source, a.key) a.source, a.key, a.by_whom, a.at, a.status, a.minutes \
         from unnest($1::int[], $2::text[]) k(source, key) join vestnik.vst_status_change a using (source, key) \
         where a.store_id = $3 \
         order by a.source, a.key, a.id desc";
    let sources: Vec<i32> = rows.iter().map(|row| row.source.id.0).collect();
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let statement = transaction.prepare_cached(ANSWERS).await?;
    let mut answers = HashMap::new();
    for row in transaction
        .query(&statement, &[&sources, &keys, &store.as_str()])
        .await?
    {
        let id = SubjectId {
            source: SourceId(row.try_get(0)?),
            key: row.try_get::<_, &str>(1)?.into(),
        };
        let (by, at, status): (&str, OffsetDateTime, &str) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        let mut answer = json!({"by": by, "at": WireTime(at), "status": status});
        if let Some(minutes) = row.try_get::<_, Option<i32>>(5)? {
            answer["minutes"] = minutes.into();
        }
        answers.insert(id, answer);
    }
    Ok(answers)
}
