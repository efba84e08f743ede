//! Plans what each chat is to be told: from a stored cursor, so that nothing is left out however long the engine was
//! away, and under a unique key, so that planning twice changes nothing.

use std::time::Duration;

use deadpool_postgres::Pool;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use tokio_postgres::IsolationLevel;

use crate::db;
use crate::event::EventType;
use crate::journal::{self, Due};

/// Events planned in one transaction.
const BATCH_EVENTS: usize = 500;
/// The longest key that stands in a subject as it is, characters: an index takes 2,700 bytes.
pub(super) const SUBJECT_CHARACTERS: usize = 400;
/// An order older than this when it is planned, hours, is nobody's meal any more, and alarms nobody.
const ESCALATED_HOURS: i32 = 24;
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
pub async fn plan(pool: &Pool, stale: Duration) -> Result<Planned, journal::Error> {
    timeout(DEADLINE, plan_batch(pool, stale))
        .await
        .map_err(|_| journal::Error::TimedOut)?
}

async fn plan_batch(pool: &Pool, stale: Duration) -> Result<Planned, journal::Error> {
    let mut client = pool.get().await?;
    // The lock comes first, so that the snapshot behind it sees what the last planner committed.
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .await?;
    db::bound_silence(&transaction).await?;
    let statement = transaction
        .prepare_cached("select cursor from vestnik.plan for update skip locked")
        .await?;
    let Some(row) = transaction.query_opt(&statement, &[]).await? else {
        return Ok(Planned::Elsewhere);
    };
    let before: String = row.try_get(0)?;
    let batch = journal::read_due(&transaction, &before, BATCH_EVENTS).await?;
    if !batch.events.is_empty() {
        insert(&transaction, &batch.events, stale).await?;
    }
    // Where nothing of it concerns anybody, the cursor need not be written at each order: reading a little again costs
    // less than a flush. After a busy time it is written once it has fallen behind.
    if !batch.events.is_empty() || batch.more || batch.fell_behind {
        let statement = transaction
            .prepare_cached("update vestnik.plan set cursor = $1")
            .await?;
        transaction.execute(&statement, &[&batch.cursor]).await?;
    }
    transaction.commit().await?;
    Ok(if batch.more { Planned::Batch } else { Planned::All })
}

/// What is told of: the engine's own events are for panels.
fn is_told(kind: EventType) -> bool {
    !matches!(kind, EventType::OrderUnanswered | EventType::ChatDisabled)
}

/// Whether it is about an order, rather than a booking.
fn is_of_order(kind: EventType) -> bool {
    matches!(
        kind,
        EventType::NewOrder | EventType::OrderStatusChanged | EventType::OrderCancelled
    )
}

/// Escalations begin with what is new, and end with its changes. Rows for the chats that mirror everything; for the fallback
/// chats, where no panel of the store could ring; and for any chat that has this order's message, what changes it, and a
/// note that sounds where it is cancelled.
async fn insert(
    transaction: &deadpool_postgres::Transaction<'_>,
    due: &[Due],
    stale: Duration,
) -> Result<(), tokio_postgres::Error> {
    const PLAN: &str = "with due as ( \
             select e.id, e.store_id, e.at, d.subject, d.urgent, d.stale, d.noted, not exists ( \
                 select from vestnik.presence p join vestnik.node n on n.id = p.node_id \
                 where p.store_id = e.store_id and n.until > clock_timestamp()) as unattended \
             from unnest($1::bigint[], $2::text[], $3::boolean[], $4::boolean[], $5::boolean[]) d(id, subject, urgent, stale, noted) \
             join vestnik.event e on e.id = d.id), \
         planned as ( \
             insert into vestnik.delivery (chat_id, store_id, event_id, subject, urgent, stale) \
             select l.chat_id, d.store_id, d.id, d.subject, d.urgent, d.stale \
             from due d join vestnik.link l on l.store_id = d.store_id and l.linked_at <= d.at \
             join vestnik.chat c on c.id = l.chat_id and c.disabled_at is null \
             where l.mode = 'mirror' or l.mode = 'fallback' and d.unattended \
                or exists (select from vestnik.message m where m.chat_id = l.chat_id and m.store_id = d.store_id and m.subject = d.subject) \
                or exists (select from vestnik.delivery o where o.chat_id = l.chat_id and o.subject = d.subject \
                           and o.state in ('pending', 'sending', 'retrying')) \
             order by d.id on conflict (event_id, chat_id) do nothing returning chat_id, store_id, event_id, subject), \
         noted as ( \
             insert into vestnik.delivery (chat_id, store_id, about_id, note, subject, urgent) \
             select p.chat_id, p.store_id, p.event_id, 'cancelled', p.subject, true from planned p join due d on d.id = p.event_id \
             where d.noted order by p.event_id on conflict (about_id, chat_id, note) do nothing) \
         update vestnik.chat set waiting = true where id in (select chat_id from planned)";
    // Behind a standstill, somebody may still answer before anybody is alarmed; and while a store is closed, nobody is.
    const CLIMB: &str = "insert into vestnik.escalation (event_id, store_id, subject, due_at, is_held) \
         select e.id, e.store_id, d.subject, greatest(e.at, case when d.stale then clock_timestamp() end) + make_interval(secs => s.answer_seconds), \
             s.escalates = 'open' and exists (select from vestnik.opening o where o.store_id = s.id) \
                 and not exists (select from vestnik.open_now n where n.store_id = s.id) \
         from unnest($1::bigint[], $2::text[], $3::boolean[]) d(id, subject, stale) join vestnik.event e on e.id = d.id \
         join vestnik.store s on s.id = e.store_id where e.at >= s.created_at and e.at > clock_timestamp() - make_interval(hours => $4) \
         on conflict (event_id) do nothing";
    const ANSWERED: &str = "update vestnik.escalation l set ended_at = clock_timestamp(), outcome = 'answered' \
         from unnest($1::bigint[], $2::text[]) d(id, subject) join vestnik.event e on e.id = d.id \
         where l.store_id = e.store_id and l.subject = d.subject and l.event_id < e.id and l.ended_at is null";
    let told: Vec<&Due> = due.iter().filter(|due| is_told(due.kind)).collect();
    let is_stale = |due: &Due| due.age_s > stale.as_secs_f64();
    let ids: Vec<i64> = told.iter().map(|due| due.id.0).collect();
    let subjects: Vec<String> = told.iter().map(|due| subject(due)).collect();
    let urgent: Vec<bool> = told.iter().map(|due| is_urgent(due.kind)).collect();
    let stales: Vec<bool> = told.iter().map(|due| is_stale(due)).collect();
    let noted: Vec<bool> = told
        .iter()
        .map(|due| is_cancelled(due.kind) && !is_stale(due))
        .collect();
    // Escalations before chats, in the order in which those that climb lock them, too.
    let (new, changed): (Vec<&Due>, Vec<&Due>) = told.iter().partition(|due| is_new(due.kind));
    if !new.is_empty() {
        let statement = transaction.prepare_cached(CLIMB).await?;
        let stale: Vec<bool> = new.iter().map(|due| is_stale(due)).collect();
        let (ids, subjects): (Vec<i64>, Vec<String>) = new.iter().map(named).unzip();
        transaction
            .execute(&statement, &[&ids, &subjects, &stale, &ESCALATED_HOURS])
            .await?;
    }
    if !changed.is_empty() {
        let statement = transaction.prepare_cached(ANSWERED).await?;
        let (ids, subjects): (Vec<i64>, Vec<String>) = changed.iter().map(named).unzip();
        transaction.execute(&statement, &[&ids, &subjects]).await?;
    }
    let statement = transaction.prepare_cached(PLAN).await?;
    transaction
        .execute(&statement, &[&ids, &subjects, &urgent, &stales, &noted])
        .await?;
    Ok(())
}

fn named(due: &&Due) -> (i64, String) {
    (due.id.0, subject(due))
}

/// What a message of its own is about: `order 123`. A key that no index would hold is cut, and told apart by its hash: one
/// such order would stop the planning of all.
fn subject(due: &Due) -> String {
    let kind = if is_of_order(due.kind) { "order" } else { "booking" };
    if due.key.chars().count() <= SUBJECT_CHARACTERS {
        return format!("{kind} {}", due.key);
    }
    let hash: [u8; 32] = Sha256::digest(&due.key).into();
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let begin: String = due.key.chars().take(SUBJECT_CHARACTERS).collect();
    format!("{kind} {begin}#{hash}")
}

/// Whether somebody has to answer.
pub(super) fn is_new(kind: EventType) -> bool {
    matches!(kind, EventType::NewOrder | EventType::NewBooking)
}

fn is_cancelled(kind: EventType) -> bool {
    matches!(kind, EventType::OrderCancelled | EventType::BookingCancelled)
}

/// New ones, and the kitchen must stop at once for a cancelled one.
pub(super) fn is_urgent(kind: EventType) -> bool {
    is_new(kind) || is_cancelled(kind)
}
