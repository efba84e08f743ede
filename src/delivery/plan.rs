//! Plans what each chat is to be told: from a stored cursor, so that nothing is left out however long the engine was
//! away, and under a unique key, so that planning twice changes nothing.

use std::time::Duration;

use tokio::time::timeout;

use crate::db::{self, Pool};
use crate::event::EventType;
use crate::journal::{self, Due};

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
pub async fn plan(pool: &Pool, stale: Duration) -> Result<Planned, journal::Error> {
    timeout(DEADLINE, plan_batch(pool, stale))
        .await
        .map_err(|_| journal::Error::TimedOut)?
}

async fn plan_batch(pool: &Pool, stale: Duration) -> Result<Planned, journal::Error> {
    let mut client = pool.get().await?;
    // The lock comes first, so that the snapshot behind it sees what the last planner committed.
    let transaction = client.transaction().await?;
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

/// Ladders begin with new orders, and end with their changes. Rows for the chats that mirror everything; for the fallback chats, where no panel of the store could ring; and for
/// any chat that has this order's message, what changes it.
async fn insert(transaction: &db::Transaction<'_>, due: &[Due], stale: Duration) -> Result<(), tokio_postgres::Error> {
    const PLAN: &str = "with due as ( \
             select e.id, e.store_id, e.at, d.subject, d.urgent, d.stale, not exists ( \
                 select from vestnik.presence p join vestnik.node n on n.id = p.node_id \
                 where p.store_id = e.store_id and n.until > clock_timestamp()) as unattended \
             from unnest($1::bigint[], $2::text[], $3::boolean[], $4::boolean[]) d(id, subject, urgent, stale) \
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
             order by d.id on conflict (event_id, chat_id) do nothing returning chat_id) \
         update vestnik.chat set waiting = true where id in (select chat_id from planned)";
    const CLIMB: &str = "insert into vestnik.escalation (event_id, store_id, subject, due_at) \
         select e.id, e.store_id, d.subject, e.at + make_interval(secs => s.answer_seconds) \
         from unnest($1::bigint[], $2::text[]) d(id, subject) join vestnik.event e on e.id = d.id \
         join vestnik.store s on s.id = e.store_id on conflict (event_id) do nothing";
    const ANSWERED: &str = "update vestnik.escalation l set ended_at = clock_timestamp(), outcome = 'answered' \
         from unnest($1::bigint[], $2::text[]) d(id, subject) join vestnik.event e on e.id = d.id \
         where l.store_id = e.store_id and l.subject = d.subject and l.event_id < e.id and l.ended_at is null";
    let told: Vec<&Due> = due.iter().filter(|due| is_told(due.kind)).collect();
    let is_stale = |due: &Due| due.age_s > stale.as_secs_f64();
    let ids: Vec<i64> = told.iter().map(|due| due.id.0).collect();
    let subjects: Vec<String> = told.iter().map(|due| subject(due)).collect();
    let urgent: Vec<bool> = told.iter().map(|due| is_urgent(due.kind)).collect();
    let stales: Vec<bool> = told.iter().map(|due| is_stale(due)).collect();
    // Ladders before chats, in the order in which those that climb lock them, too.
    let new = told
        .iter()
        .filter(|due| due.kind == EventType::NewOrder && !is_stale(due));
    let changed = told
        .iter()
        .filter(|due| is_of_order(due.kind) && due.kind != EventType::NewOrder);
    let (new, changed): (Ladders, Ladders) = (new.map(ladder).unzip(), changed.map(ladder).unzip());
    for (sql, (ids, subjects)) in [(CLIMB, new), (ANSWERED, changed)] {
        if !ids.is_empty() {
            let statement = transaction.prepare_cached(sql).await?;
            transaction.execute(&statement, &[&ids, &subjects]).await?;
        }
    }
    let statement = transaction.prepare_cached(PLAN).await?;
    transaction
        .execute(&statement, &[&ids, &subjects, &urgent, &stales])
        .await?;
    Ok(())
}

/// Events, and what they are about.
type Ladders = (Vec<i64>, Vec<String>);

fn ladder(due: &&Due) -> (i64, String) {
    (due.id.0, subject(due))
}

/// What a message of its own is about: `order 123`.
fn subject(due: &Due) -> String {
    let kind = if is_of_order(due.kind) { "order" } else { "booking" };
    format!("{kind} {}", due.key)
}

/// New ones, and the kitchen must stop at once for a cancelled one.
fn is_urgent(kind: EventType) -> bool {
    matches!(
        kind,
        EventType::NewOrder | EventType::NewBooking | EventType::OrderCancelled | EventType::BookingCancelled
    )
}
