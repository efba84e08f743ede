//! Plans what each chat is to be told: from a stored cursor, so that nothing is left out however long the engine was
//! away, and under a unique key, so that planning twice changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use crate::infra::db::Pool;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;

use super::{late, pause};
use crate::domain::event::{EventId, EventType, JournalEvent, PartnerEvent};
use crate::domain::status::{Status, SubjectKind};
use crate::infra::db;
use crate::journal::{self, Due};
use crate::sources::Sources;
use crate::sources::changes::Lookups;
use crate::sources::registry::Registry;

/// Events planned in one transaction.
const BATCH_EVENTS: usize = 500;
/// An order older than this when it is planned, hours, is nobody's meal any more, and alarms nobody.
const ESCALATED_HOURS: i32 = 24;
/// So long before it is wanted, minutes, somebody has to answer an order for later.
const BEFORE_WANTED_MINUTES: i32 = 60;
/// Classes of errors of Postgres that are about a value: another attempt fails as well.
const REFUSED_VALUES: [&str; 2] = ["22", "23"];
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

/// Plans one batch. An event older than `stale` is for a digest.
pub async fn plan(pool: &Pool, sources: &Registry, stale: Duration) -> Result<Planned, journal::Error> {
    timeout(DEADLINE, plan_batch(pool, sources, stale))
        .await
        .map_err(|_| journal::Error::TimedOut)?
}

async fn plan_batch(pool: &Pool, sources: &Registry, stale: Duration) -> Result<Planned, journal::Error> {
    let mut client = pool.get().await?;
    // The lock comes first, so that the snapshot behind it sees what the last planner committed.
    let mut transaction = client.transaction().await?;
    db::limit_idle_in_transaction(&transaction).await?;
    let statement = transaction
        .prepare_cached("select cursor from vestnik.vst_delivery_cursor for update skip locked")
        .await?;
    let Some(row) = transaction.query_opt(&statement, &[]).await? else {
        return Ok(Planned::Elsewhere);
    };
    let before: String = row.try_get(0)?;
    let batch = journal::read_due(&transaction, &before, BATCH_EVENTS).await?;
    let due = due(
        &*sources.in_force(&transaction).await.map_err(journal::Error::Sources)?,
        &batch.events,
        stale,
    );
    if !due.is_empty() && !write(&mut transaction, &due).await? {
        for due in due.chunks(1) {
            if !write(&mut transaction, due).await? {
                metrics::counter!("vestnik_events_not_planned_total").increment(1);
            }
        }
    }
    pause::tell(&transaction, &batch.events, stale).await?;
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

/// Plans these events, all or none. `false`: Postgres refuses a value, so that the same would fail again.
async fn write(transaction: &mut db::Transaction<'_>, due: &[DueEvent]) -> Result<bool, tokio_postgres::Error> {
    let attempt = transaction.savepoint().await?;
    let written = match insert(&attempt, due).await {
        Ok(()) => late::promise(&attempt, due).await,
        refused => refused,
    };
    let error = match written {
        Ok(()) => return attempt.commit().await.map(|()| true),
        Err(error) => error,
    };
    let is_refused = error
        .code()
        .is_some_and(|code| REFUSED_VALUES.iter().any(|class| code.code().starts_with(class)));
    if !is_refused {
        return Err(error);
    }
    attempt.rollback().await?;
    let events: Vec<i64> = due.iter().map(|due| due.event.id.0).collect();
    if let [event] = events.as_slice() {
        let error = db::QueryError::from(error);
        tracing::error!(event, %error, "an event cannot be planned: no chat is told of it, and no escalation begins");
    }
    Ok(false)
}

/// An event of which somebody may have to be told.
pub(super) struct DueEvent {
    pub event: PartnerEvent,
    /// The order or booking that it is about, as the engine's tables keep it.
    pub subject: String,
    /// Overtakes what is not: new ones, and what a kitchen must stop at once.
    is_urgent: bool,
    /// Too old when it was planned: for a digest.
    pub is_stale: bool,
    /// Only for chats that have been told of the order already.
    is_for_those_who_know: bool,
}

/// What of these rows is told of orders. Of the engine's own events, `pause` tells.
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
            is_urgent: is_urgent(event.kind),
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
/// message, what changes it, and a note that sounds where it is cancelled.
async fn insert(
    transaction: &crate::infra::db::Transaction<'_>,
    due: &[DueEvent],
) -> Result<(), tokio_postgres::Error> {
    const PLAN: &str = "with due as ( \
             select e.id, e.store_id, e.at, d.subject, d.urgent, d.stale, d.known, d.noted, not exists ( \
                 select from vestnik.vst_presence p join vestnik.vst_node n on n.id = p.node_id \
                 where p.store_id = e.store_id and n.until > clock_timestamp()) as unattended \
             from unnest($1::bigint[], $2::text[], $3::boolean[], $4::boolean[], $5::boolean[], $6::boolean[]) \
                 d(id, subject, urgent, stale, known, noted) \
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
             order by d.id on conflict (event_id, chat_id) do nothing returning chat_id, store_id, event_id, subject), \
         noted as ( \
             insert into vestnik.vst_delivery (chat_id, store_id, about_id, note, subject, urgent) \
             select p.chat_id, p.store_id, p.event_id, 'cancelled', p.subject, true from planned p join due d on d.id = p.event_id \
             where d.noted order by p.event_id on conflict (about_id, chat_id, note) do nothing) \
         update vestnik.vst_chat set waiting = true where id in (select chat_id from planned)";
    let ids: Vec<i64> = due.iter().map(|due| due.event.id.0).collect();
    let subjects: Vec<&str> = due.iter().map(|due| due.subject.as_str()).collect();
    let [urgent, stale, known, noted] = [
        |due: &DueEvent| due.is_urgent,
        |due: &DueEvent| due.is_stale,
        |due: &DueEvent| due.is_for_those_who_know,
        |due: &DueEvent| is_over(due.event.kind) && !due.is_stale,
    ]
    .map(|is: fn(&DueEvent) -> bool| due.iter().map(is).collect::<Vec<bool>>());
    // Escalations before chats, in the order in which those that take their steps lock them, too. An event ends only
    // what began before it.
    let begun: Vec<&DueEvent> = due.iter().filter(|due| begins(due)).collect();
    if !begun.is_empty() {
        begin(transaction, &begun).await?;
    }
    let ended: Vec<(&DueEvent, &str)> = due.iter().filter_map(|due| Some((due, ends_as(due)?))).collect();
    if !ended.is_empty() {
        end(transaction, &ended).await?;
    }
    let statement = transaction.prepare_cached(PLAN).await?;
    transaction
        .execute(&statement, &[&ids, &subjects, &urgent, &stale, &known, &noted])
        .await?;
    Ok(())
}

/// Behind a standstill, somebody may still answer before anybody is alarmed. While a store is closed, nobody is, and for an
/// order for later nobody is before its time. One that is held is looked at then: from its store's opening on, somebody has the
/// usual time to answer.
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
         cross join lateral (select s.escalates = 'open' and exists (select from vestnik.vst_opening_hours o where o.store_id = s.id) \
                 and (coalesce(d.wanted_at > clock_timestamp() + make_interval(mins => $6), false) \
                     or not exists (select from vestnik.vst_open_now n where n.store_id = s.id)) as is_held) h \
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

/// When an order for later is wanted. Who asks for a table waits for an answer at once.
fn wanted_at(due: &DueEvent) -> Option<OffsetDateTime> {
    let subject = due.event.subject.as_ref()?;
    subject.due_at.filter(|_| subject.kind == SubjectKind::Order)
}

async fn end(
    transaction: &crate::infra::db::Transaction<'_>,
    ended: &[(&DueEvent, &str)],
) -> Result<(), tokio_postgres::Error> {
    const END: &str = "update vestnik.vst_escalation l set ended_at = clock_timestamp(), outcome = d.outcome \
         from unnest($1::bigint[], $2::text[], $3::text[]) d(id, subject, outcome) \
         where l.subject = d.subject and l.event_id < d.id and (l.ended_at is null or l.outcome = 'exhausted')";
    let ids: Vec<i64> = ended.iter().map(|(due, _)| due.event.id.0).collect();
    let subjects: Vec<&str> = ended.iter().map(|(due, _)| due.subject.as_str()).collect();
    let outcomes: Vec<&str> = ended.iter().map(|(_, outcome)| *outcome).collect();
    let statement = transaction.prepare_cached(END).await?;
    transaction.execute(&statement, &[&ids, &subjects, &outcomes]).await?;
    Ok(())
}

/// Whether somebody has to answer from here on.
fn begins(due: &DueEvent) -> bool {
    let is = due.event.subject.as_ref().and_then(|subject| subject.visible_status());
    is == Some(Status::Pending) && due.event.previous != Some(Status::Pending)
}

/// Whether an event overtakes what is told beside it.
pub(super) fn is_urgent(kind: EventType) -> bool {
    is_new(kind) || is_over(kind)
}

/// Whether an event brings something new.
pub(super) fn is_new(kind: EventType) -> bool {
    matches!(kind, EventType::NewOrder | EventType::NewBooking)
}

/// Whether a kitchen must stop.
pub(super) fn is_over(kind: EventType) -> bool {
    matches!(
        kind,
        EventType::OrderCancelled | EventType::BookingCancelled | EventType::OrderRemoved | EventType::BookingRemoved
    )
}

/// How the wait for an answer ends with this event, if it does.
fn ends_as(due: &DueEvent) -> Option<&'static str> {
    match due.event.subject.as_ref()?.visible_status() {
        Some(Status::Pending) => None,
        Some(_) => Some("answered"),
        None => Some("removed"),
    }
}
