//! Turns journal events into deliveries. A delivery is one message that is owed to a chat. A stored cursor ensures that
//! no event is skipped after downtime. A unique key ensures that an event enqueued twice is sent once.

use std::collections::HashMap;
use std::time::Duration;

use crate::infra::db::Pool;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::due_event::DueEvent;
use super::{closed_store, late_order, list_button, pause};
use crate::domain::event::{EventId, EventType, JournalEvent};
use crate::domain::status::{Status, SubjectKind};
use crate::infra::db;
use crate::journal::{self, Due};
use crate::sources::Sources;
use crate::sources::lookup_results::Lookups;
use crate::sources::registry::Registry;

/// The most events that one transaction enqueues.
const BATCH_EVENTS: usize = 500;
/// An order that is already older than this many hours when it is enqueued is not escalated.
const ESCALATED_HOURS: i32 = 24;
/// If a customer wants an order at a later time, the store must answer the order this many minutes before that time.
const BEFORE_WANTED_MINUTES: i32 = 60;
/// The classes of SQLSTATE codes that mean an invalid value. Another attempt with the same value would fail, too.
const REFUSED_VALUES: [&str; 2] = ["22", "23"];
/// The deadline for enqueueing one batch.
const DEADLINE: Duration = Duration::from_secs(30);

/// The outcome of enqueueing one batch of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// The batch was full: there may be more events.
    Batch,
    /// All events of the journal are enqueued.
    All,
    /// Nothing was enqueued, because another node is enqueueing now.
    Elsewhere,
}

/// Enqueues deliveries for one batch of journal events. An event older than `digest_after` gets no message of its own.
/// Instead, a digest (one message for many events) lists it.
pub async fn enqueue_batch(
    pool: &Pool,
    sources: &Registry,
    digest_after: Duration,
) -> Result<Enqueued, journal::Error> {
    timeout(DEADLINE, try_enqueue_batch(pool, sources, digest_after))
        .await
        .map_err(|_| journal::Error::TimedOut)?
}

async fn try_enqueue_batch(
    pool: &Pool,
    sources: &Registry,
    digest_after: Duration,
) -> Result<Enqueued, journal::Error> {
    let mut client = pool.get().await?;
    // Lock the row of the cursor first. Then the next statement sees everything that the previous holder of this lock
    // has committed.
    let mut transaction = client.transaction().await?;
    db::limit_idle_in_transaction(&transaction).await?;
    let statement = transaction
        .prepare_cached("select cursor from vestnik.vst_delivery_cursor for update skip locked")
        .await?;
    let Some(row) = transaction.query_opt(&statement, &[]).await? else {
        return Ok(Enqueued::Elsewhere);
    };
    let before: String = row.try_get(0)?;
    let batch = journal::read_due(&transaction, &before, BATCH_EVENTS).await?;
    let due = due(
        &*sources.in_force(&transaction).await.map_err(journal::Error::Sources)?,
        &batch.events,
        digest_after,
    );
    if !due.is_empty() && write(&mut transaction, &due).await? != Written::All {
        for one in &due {
            if let Written::Refused(reason) = write(&mut transaction, std::slice::from_ref(one)).await? {
                let event = one.event.id.0;
                tracing::error!(
                    event,
                    reason,
                    "an event cannot be enqueued: no chat is told of it, and no escalation begins"
                );
                metrics::counter!("vestnik_events_not_enqueued_total").increment(1);
            }
        }
    }
    pause::enqueue(&transaction, &batch.events, digest_after).await?;
    // If no event concerns a chat, do not save the cursor after each batch, because reading these events again costs
    // less than a write to disk. Save the cursor at the latest when it has fallen behind.
    if !batch.events.is_empty() || batch.more || batch.fell_behind {
        let statement = transaction
            .prepare_cached("update vestnik.vst_delivery_cursor set cursor = $1")
            .await?;
        transaction.execute(&statement, &[&batch.cursor]).await?;
    }
    transaction.commit().await?;
    Ok(if batch.more { Enqueued::Batch } else { Enqueued::All })
}

/// The outcome of an attempt to enqueue several events in one statement.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    /// All of the events are enqueued.
    All,
    /// None of the events is enqueued, because Postgres refuses a value. Another attempt would fail too. The field is
    /// the reason.
    Refused(String),
}

/// Enqueues all of these events, or none of them.
async fn write(transaction: &mut db::Transaction<'_>, due: &[DueEvent]) -> Result<Written, tokio_postgres::Error> {
    let attempt = transaction.savepoint().await?;
    let written = async {
        insert(&attempt, due).await?;
        list_button::enqueue(&attempt, due).await?;
        late_order::promise(&attempt, due).await
    };
    match written.await {
        Ok(()) => attempt.commit().await.map(|()| Written::All),
        Err(error) if is_refused_value(&error) => {
            attempt.rollback().await?;
            Ok(Written::Refused(db::reason(&error)))
        }
        Err(error) => Err(error),
    }
}

fn is_refused_value(error: &tokio_postgres::Error) -> bool {
    let class = |code: &SqlState| REFUSED_VALUES.iter().any(|class| code.code().starts_with(class));
    error.code().is_some_and(class)
}

/// Selects the events of orders and bookings from these journal rows. Module `pause` handles the events about pauses of
/// stores.
fn due(sources: &Sources, rows: &[Due], digest_after: Duration) -> Vec<DueEvent> {
    let ages: HashMap<EventId, f64> = rows.iter().map(|due| (due.event.id, due.age_s)).collect();
    let rows: Vec<&JournalEvent> = rows.iter().map(|due| &due.event).collect();
    let events = sources.partner_events(&rows, &Lookups::default());
    let due = events.into_iter().filter_map(|event| {
        let subject = event.subject.as_ref()?.id.to_string();
        let removed = event.kind.is_removal();
        let changed = matches!(event.kind, EventType::OrderChanged | EventType::BookingChanged);
        // If a closed order is removed, nobody needs a message.
        if removed && !event.concerns_open() {
            return None;
        }
        Some(DueEvent {
            is_urgent: is_urgent(event.kind),
            is_stale: ages.get(&event.id).is_some_and(|age| *age > digest_after.as_secs_f64()),
            is_for_those_who_know: removed || changed,
            subject,
            event,
        })
    });
    due.collect()
}

/// Begins and ends escalations, and enqueues deliveries of these events. Chats with the mode `mirror` get every event.
/// Chats with the mode `fallback` get an event if no panel of the store can ring. They do not get it if the store is
/// closed and escalates orders only while it is open. A chat that has the order's message also gets changes of the
/// order. If the order is cancelled, the chat gets a note with a sound. An urgent event is also sent to a blocked chat
/// at once, because the bot may be allowed to write again.
async fn insert(
    transaction: &crate::infra::db::Transaction<'_>,
    due: &[DueEvent],
) -> Result<(), tokio_postgres::Error> {
    let enqueue = format!(
        "with due as ( \
             select e.id, e.store_id, e.at, d.subject, d.urgent, d.stale, d.known, d.noted, not exists ( \
                 select from vestnik.vst_presence p join vestnik.vst_node n on n.id = p.node_id \
                 where p.store_id = e.store_id and n.until > clock_timestamp()) \
               and not {} as unattended \
             from unnest($1::bigint[], $2::text[], $3::boolean[], $4::boolean[], $5::boolean[], $6::boolean[]) \
                 d(id, subject, urgent, stale, known, noted) \
             join vestnik.vst_event e on e.id = d.id), \
         enqueued as ( \
             insert into vestnik.vst_delivery (chat_id, store_id, event_id, subject, urgent, stale, waits_since) \
             select l.chat_id, d.store_id, d.id, d.subject, d.urgent, d.stale, d.at \
             from due d join vestnik.vst_chat_link l on l.store_id = d.store_id and l.linked_at <= d.at \
             join vestnik.vst_chat c on c.id = l.chat_id and c.disabled_at is null \
             where not d.known and (l.mode = 'mirror' or l.mode = 'fallback' and d.unattended) \
                or exists (select from vestnik.vst_message m where m.chat_id = l.chat_id and m.store_id = d.store_id and m.subject = d.subject) \
                or exists (select from vestnik.vst_delivery o where o.chat_id = l.chat_id and o.store_id = d.store_id and o.subject = d.subject \
                           and (o.state in ('pending', 'sending', 'retrying') or d.noted and o.event_id is not null and o.state = 'sent')) \
             order by d.id on conflict (event_id, chat_id) do nothing returning chat_id, store_id, event_id, subject), \
         noted as ( \
             insert into vestnik.vst_delivery (chat_id, store_id, about_id, note, subject, urgent, waits_since) \
             select p.chat_id, p.store_id, p.event_id, 'cancelled', p.subject, true, d.at from enqueued p join due d on d.id = p.event_id \
             where d.noted and (not d.stale or exists (select from vestnik.vst_message m \
                 where m.chat_id = p.chat_id and m.store_id = p.store_id and m.subject = p.subject and m.message_id <> 0)) \
             order by p.event_id on conflict (about_id, chat_id, note) do nothing), \
         tried as ( \
             update vestnik.vst_chat_link l set blocked_until = '-infinity' \
             from enqueued p join due d on d.id = p.event_id and d.urgent \
             where l.chat_id = p.chat_id and l.store_id = p.store_id and l.blocked_at is not null) \
         update vestnik.vst_chat set waiting = true where id in (select chat_id from enqueued)",
        closed_store::is_closed("e.store_id")
    );
    let ids: Vec<i64> = due.iter().map(|due| due.event.id.0).collect();
    let subjects: Vec<&str> = due.iter().map(|due| due.subject.as_str()).collect();
    let [urgent, stale, known, noted] = [
        |due: &DueEvent| due.is_urgent,
        |due: &DueEvent| due.is_stale,
        |due: &DueEvent| due.is_for_those_who_know,
        |due: &DueEvent| is_over(due.event.kind),
    ]
    .map(|is: fn(&DueEvent) -> bool| due.iter().map(is).collect::<Vec<bool>>());
    // Lock escalations before chats, as escalation steps do, to avoid a deadlock. All escalations may begin before any
    // of them ends, because an event ends only the escalation of an earlier event.
    let begun: Vec<&DueEvent> = due.iter().filter(|due| begins(due)).collect();
    if !begun.is_empty() {
        begin(transaction, &begun).await?;
    }
    let ended: Vec<(&DueEvent, &str)> = due.iter().filter_map(|due| Some((due, ends_as(due)?))).collect();
    if !ended.is_empty() {
        end(transaction, &ended).await?;
    }
    let statement = transaction.prepare_cached(&enqueue).await?;
    transaction
        .execute(&statement, &[&ids, &subjects, &urgent, &stale, &known, &noted])
        .await?;
    Ok(())
}

/// Begins an escalation for each of these events. The store's time to answer counts from the event, or from now if the
/// event is stale (enqueued late). If the customer wants the order later, the time counts from `BEFORE_WANTED_MINUTES`
/// before the wanted time. If the store is closed and escalates only while it is open, the escalation is held until the
/// store opens.
async fn begin(
    transaction: &crate::infra::db::Transaction<'_>,
    begun: &[&DueEvent],
) -> Result<(), tokio_postgres::Error> {
    const BEGIN: &str = "insert into vestnik.vst_escalation (event_id, store_id, subject, due_at, is_held) \
         select e.id, e.store_id, d.subject, \
             greatest(e.at, case when d.stale then clock_timestamp() end, d.wanted_at - make_interval(mins => $6)) \
                 + case when h.is_held then interval '0' else make_interval(secs => s.answer_seconds) end, h.is_held \
         from unnest($1::bigint[], $2::text[], $3::boolean[], $4::timestamptz[]) d(id, subject, stale, wanted_at) \
         join vestnik.vst_event e on e.id = d.id join vestnik.vst_store s on s.id = e.store_id \
         cross join lateral (select s.escalates = 'open' \
                 and (d.wanted_at > clock_timestamp() + make_interval(mins => $6) \
                         and exists (select from vestnik.vst_opening_hours o where o.store_id = s.id) \
                     or exists (select from vestnik.vst_closed_now n where n.store_id = s.id)) is true as is_held) h \
         where e.at >= s.created_at and e.at > clock_timestamp() - make_interval(hours => $5) \
         on conflict (event_id) do nothing";
    let ids: Vec<i64> = begun.iter().map(|due| due.event.id.0).collect();
    let subjects: Vec<&str> = begun.iter().map(|due| due.subject.as_str()).collect();
    let stale: Vec<bool> = begun.iter().map(|due| due.is_stale).collect();
    let wanted_at: Vec<Option<OffsetDateTime>> = begun.iter().map(|due| wanted_at(due)).collect();
    let statement = transaction.prepare_cached(BEGIN).await?;
    let parameters: [&(dyn ToSql + Sync); 6] = [
        &ids,
        &subjects,
        &stale,
        &wanted_at,
        &ESCALATED_HOURS,
        &BEFORE_WANTED_MINUTES,
    ];
    transaction.execute(&statement, &parameters).await?;
    Ok(())
}

/// Returns the time at which the customer wants the order. `None`: the customer wants it at once, or the event is about
/// a booking, which needs an answer at once.
fn wanted_at(due: &DueEvent) -> Option<OffsetDateTime> {
    let subject = due.event.subject.as_ref()?;
    subject.due_at.filter(|_| subject.kind == SubjectKind::Order)
}

/// Ends the escalations of these orders. An order may belong to several stores. Each store must answer its own part,
/// so an event ends only the escalation of its own store.
async fn end(
    transaction: &crate::infra::db::Transaction<'_>,
    ended: &[(&DueEvent, &str)],
) -> Result<(), tokio_postgres::Error> {
    const END: &str = "update vestnik.vst_escalation l set ended_at = clock_timestamp(), outcome = d.outcome \
         from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) d(id, store_id, subject, outcome) \
         where l.subject = d.subject and l.store_id = d.store_id and l.event_id < d.id and (l.ended_at is null or l.outcome = 'exhausted')";
    let ids: Vec<i64> = ended.iter().map(|(due, _)| due.event.id.0).collect();
    let stores: Vec<&str> = ended.iter().map(|(due, _)| due.event.store.as_str()).collect();
    let subjects: Vec<&str> = ended.iter().map(|(due, _)| due.subject.as_str()).collect();
    let outcomes: Vec<&str> = ended.iter().map(|(_, outcome)| *outcome).collect();
    let statement = transaction.prepare_cached(END).await?;
    transaction
        .execute(&statement, &[&ids, &stores, &subjects, &outcomes])
        .await?;
    Ok(())
}

/// Whether this event begins the wait for an answer: it changed the status of the order or booking to `pending`.
fn begins(due: &DueEvent) -> bool {
    let is = due.event.subject.as_ref().and_then(|subject| subject.visible_status());
    is == Some(Status::Pending) && due.event.previous != Some(Status::Pending)
}

/// Whether deliveries of events of this type are sent before less urgent ones.
pub(super) fn is_urgent(kind: EventType) -> bool {
    is_new(kind) || is_over(kind)
}

/// Whether events of this type announce a new order or booking.
pub(super) fn is_new(kind: EventType) -> bool {
    matches!(kind, EventType::NewOrder | EventType::NewBooking)
}

/// Whether events of this type mean that the kitchen must stop: the order or booking was cancelled or removed.
pub(super) fn is_over(kind: EventType) -> bool {
    kind.is_removal() || matches!(kind, EventType::OrderCancelled | EventType::BookingCancelled)
}

/// Returns why this event ends the order's escalation: `answered` or `removed`. `None`: the escalation goes on.
fn ends_as(due: &DueEvent) -> Option<&'static str> {
    match due.event.subject.as_ref()?.visible_status() {
        Some(Status::Pending) => None,
        Some(_) => Some("answered"),
        None => Some("removed"),
    }
}
