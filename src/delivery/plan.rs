//! Plans what each chat is to be told: from a stored cursor, so that nothing is left out however long the engine was
//! away, and under a unique key, so that planning twice changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::timeout;

use crate::db::{self, Pool};
use crate::domain::event::{EventId, EventType, JournalEvent, PartnerEvent};
use crate::domain::status::{Status, SubjectKind};
use crate::journal::{self, Due};
use crate::sources::Sources;
use crate::sources::changes::Lookups;
use crate::sources::registry::Registry;

/// Events planned in one transaction.
const BATCH_EVENTS: usize = 500;
/// How long a batch may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planned {
    /// A whole batch: there may be more.
    Batch,
    /// All that there was.
    All,
    /// Another node is at it.
    Elsewhere,
}

/// Plans one batch. An event older than `stale` is for a digest, and raises no alarm.
pub async fn plan(pool: &Pool, sources: &Registry, stale: Duration) -> Result<Planned, journal::Error> {
    timeout(DEADLINE, plan_batch(pool, sources, stale))
        .await
        .map_err(|_| journal::Error::TimedOut)?
}

async fn plan_batch(pool: &Pool, sources: &Registry, stale: Duration) -> Result<Planned, journal::Error> {
    let mut client = pool.get().await?;
    // The lock comes first, so that the snapshot behind it sees what the last planner committed.
    let transaction = client.transaction().await?;
    db::bound_silence(&transaction).await?;
    let statement = transaction
        .prepare_cached("select cursor from vestnik.vst_delivery_cursor for update skip locked")
        .await?;
    let Some(row) = transaction.query_opt(&statement, &[]).await? else {
        return Ok(Planned::Elsewhere);
    };
    let before: String = row.try_get(0)?;
    let batch = journal::read_due(&transaction, &before, BATCH_EVENTS).await?;
    let due = due(&*sources.in_force(&transaction).await.map_err(journal::Error::Sources)?, &batch.events, stale);
    if !due.is_empty() {
        insert(&transaction, &due).await?;
    }
    // Where nothing of it concerns anybody, the cursor need not be written at each order: reading a little again costs
    // less than a flush. After a busy time it is written once it has fallen behind.
    if !batch.events.is_empty() || batch.more || batch.fell_behind {
        let statement = transaction
            .prepare_cached("update vestnik.vst_delivery_cursor set cursor = $1")
            .await?;
        transaction.execute(&statement, &[&batch.cursor]).await?;
    }
    transaction.commit().await?;
    Ok(if batch.more { Planned::Batch } else { Planned::All })
}

/// An event of which somebody may have to be told.
struct DueEvent {
    event: PartnerEvent,
    /// The order or booking that it is about, as the engine's tables keep it.
    subject: String,
    /// Overtakes what is not: new ones, and what a kitchen must stop at once.
    is_urgent: bool,
    /// Too old when it was planned: for a digest.
    is_stale: bool,
    /// Only for chats that have been told of the order already.
    is_for_those_who_know: bool,
}

/// What of these rows is told. The engine's own events are for panels.
fn due(sources: &Sources, rows: &[Due], stale: Duration) -> Vec<DueEvent> {
    let ages: HashMap<EventId, f64> = rows.iter().map(|due| (due.event.id, due.age_s)).collect();
    let rows: Vec<&JournalEvent> = rows.iter().map(|due| &due.event).collect();
    let events = sources.partner_events(&rows, &Lookups::default());
    let due = events.into_iter().filter_map(|event| {
        let subject = event.subject.as_ref()?.id.to_string();
        let removed = matches!(event.kind, EventType::OrderRemoved | EventType::BookingRemoved);
        let changed = matches!(event.kind, EventType::OrderChanged | EventType::BookingChanged);
        // A shop that deletes its old orders tells nobody anything.
        if removed && !event.concerns_open() {
            return None;
        }
        Some(DueEvent {
            is_urgent: removed
                || matches!(
                    event.kind,
                    EventType::NewOrder | EventType::NewBooking | EventType::OrderCancelled | EventType::BookingCancelled
                ),
            is_stale: ages.get(&event.id).is_some_and(|age| *age > stale.as_secs_f64()),
            is_for_those_who_know: removed || changed,
            subject,
            event,
        })
    });
    due.collect()
}

/// Escalations begin with what waits for an answer, and end with what is no longer so. Rows for the chats that mirror
/// everything; for the fallback chats, where no panel of the store could ring; and for any chat that has this order's
/// message, what changes it.
async fn insert(transaction: &db::Transaction<'_>, due: &[DueEvent]) -> Result<(), tokio_postgres::Error> {
    const PLAN: &str = "with due as ( \
             select e.id, e.store_id, e.at, d.subject, d.urgent, d.stale, d.known, not exists ( \
                 select from vestnik.vst_presence p join vestnik.vst_node n on n.id = p.node_id \
                 where p.store_id = e.store_id and n.until > clock_timestamp()) as unattended \
             from unnest($1::bigint[], $2::text[], $3::boolean[], $4::boolean[], $5::boolean[]) d(id, subject, urgent, stale, known) \
             join vestnik.vst_event e on e.id = d.id), \
         planned as ( \
             insert into vestnik.vst_delivery (chat_id, store_id, event_id, subject, urgent, stale) \
             select l.chat_id, d.store_id, d.id, d.subject, d.urgent, d.stale \
             from due d join vestnik.vst_chat_link l on l.store_id = d.store_id and l.linked_at <= d.at \
             join vestnik.vst_chat c on c.id = l.chat_id and c.disabled_at is null \
             where not d.known and (l.mode = 'mirror' or l.mode = 'fallback' and d.unattended) \
                or exists (select from vestnik.vst_message m where m.chat_id = l.chat_id and m.store_id = d.store_id and m.subject = d.subject) \
                or exists (select from vestnik.vst_delivery o where o.chat_id = l.chat_id and o.subject = d.subject \
                           and o.state in ('pending', 'sending', 'retrying')) \
             order by d.id on conflict (event_id, chat_id) do nothing returning chat_id) \
         update vestnik.vst_chat set waiting = true where id in (select chat_id from planned)";
    const CLIMB: &str = "insert into vestnik.vst_escalation (event_id, store_id, subject, due_at) \
         select e.id, e.store_id, d.subject, e.at + make_interval(secs => s.answer_seconds) \
         from unnest($1::bigint[], $2::text[]) d(id, subject) join vestnik.vst_event e on e.id = d.id \
         join vestnik.vst_store s on s.id = e.store_id on conflict (event_id) do nothing";
    const END: &str = "update vestnik.vst_escalation l set ended_at = clock_timestamp(), outcome = d.outcome \
         from unnest($1::bigint[], $2::text[], $3::text[]) d(id, subject, outcome) \
         where l.subject = d.subject and l.event_id < d.id and (l.ended_at is null or l.outcome = 'exhausted')";
    let ids: Vec<i64> = due.iter().map(|due| due.event.id.0).collect();
    let subjects: Vec<&str> = due.iter().map(|due| due.subject.as_str()).collect();
    let [urgent, stale, known] = [
        |due: &DueEvent| due.is_urgent,
        |due: &DueEvent| due.is_stale,
        |due: &DueEvent| due.is_for_those_who_know,
    ]
    .map(|is: fn(&DueEvent) -> bool| due.iter().map(is).collect::<Vec<bool>>());
    // Escalations before chats, in the order in which those that climb lock them, too. An event ends only
    // what began before it.
    let orders = || due.iter().filter(|due| due.event.subject.as_ref().is_some_and(|it| it.kind == SubjectKind::Order));
    let ended: Vec<(&DueEvent, &str)> = orders().filter_map(|due| Some((due, ends_as(due)?))).collect();
    let begun: Vec<&DueEvent> = orders().filter(|due| begins(due)).collect();
    if !begun.is_empty() {
        let ids: Vec<i64> = begun.iter().map(|due| due.event.id.0).collect();
        let subjects: Vec<&str> = begun.iter().map(|due| due.subject.as_str()).collect();
        let statement = transaction.prepare_cached(CLIMB).await?;
        transaction.execute(&statement, &[&ids, &subjects]).await?;
    }
    if !ended.is_empty() {
        let ids: Vec<i64> = ended.iter().map(|(due, _)| due.event.id.0).collect();
        let subjects: Vec<&str> = ended.iter().map(|(due, _)| due.subject.as_str()).collect();
        let outcomes: Vec<&str> = ended.iter().map(|(_, outcome)| *outcome).collect();
        let statement = transaction.prepare_cached(END).await?;
        transaction.execute(&statement, &[&ids, &subjects, &outcomes]).await?;
    }
    let statement = transaction.prepare_cached(PLAN).await?;
    transaction
        .execute(&statement, &[&ids, &subjects, &urgent, &stale, &known])
        .await?;
    Ok(())
}

/// Whether somebody has to answer the order from here on.
fn begins(due: &DueEvent) -> bool {
    let is = due.event.subject.as_ref().and_then(|subject| subject.visible_status());
    is == Some(Status::Pending) && due.event.previous != Some(Status::Pending) && !due.is_stale
}

/// How the wait for an answer ends with this event, if it does.
fn ends_as(due: &DueEvent) -> Option<&'static str> {
    match due.event.subject.as_ref()?.visible_status() {
        Some(Status::Pending) => None,
        Some(_) => Some("answered"),
        None => Some("removed"),
    }
}
