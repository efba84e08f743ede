//! Executes the escalation of each order that nobody answers: one step after another, each after the store's time to
//! answer. The escalation's row stores the current step, so the step survives restarts. A node locks the row for each
//! step, so two nodes never raise the same alarm. An escalation ends when the order is answered or removed, or after
//! the last step. A person who only opens an order in a panel has not answered it.

use std::collections::HashMap;

use crate::infra::db::{Pool, Transaction};
use tokio_postgres::types::{ToSql, Type};

use super::closed_store;
use super::lane::ChatId;
use crate::domain::event::{EventType, StoreId, SubjectId};
use crate::domain::status::{Status, SubjectKind};
use crate::infra::db::{self, QueryError};
use crate::journal;
use crate::sources::Sources;
use crate::sources::lookup_results::Lookups;
use crate::sources::registry::Registry;

/// Maximum number of due escalations that one transaction handles.
const BATCH: i64 = 200;
/// A chat that is enabled again gets the unanswered orders that it missed, up to this age, hours.
pub(super) const MISSED_HOURS: i32 = 24;
/// An escalation is held while its store is closed. Seconds between two checks whether the store has opened.
const CLOSED_LOOK_S: f64 = 15.0;
/// Maximum number of batches of due escalations that are handled in a row. The limit keeps the worker's other periodic
/// tasks from being delayed.
const BATCHES_AT_ONCE: usize = 100;

/// The steps of an escalation, in order. A step that reaches nobody is skipped at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EscalationStep {
    /// The store's panels ring again, and chats that already have the order get a reminder.
    Panels = 1,
    /// The store's chats with the mode `fallback` get the order.
    Fallback = 2,
    /// The store's chats with the mode `manager` get the order.
    Manager = 3,
    /// The store's webhook is called.
    Webhook = 4,
}

const STEPS: [EscalationStep; 4] = [
    EscalationStep::Panels,
    EscalationStep::Fallback,
    EscalationStep::Manager,
    EscalationStep::Webhook,
];

impl EscalationStep {
    fn as_str(self) -> &'static str {
        match self {
            Self::Panels => "panels",
            Self::Fallback => "fallback",
            Self::Manager => "manager",
            Self::Webhook => "webhook",
        }
    }
}

/// An escalation whose next step is due.
struct OpenEscalation {
    event: i64,
    store: String,
    subject: String,
    step: i16,
    /// How long the store may take to answer after each step, seconds. `None`: the store is not set up any more.
    answer_s: Option<i32>,
    waited_s: f64,
}

/// Takes the next step of every due escalation. Returns the number of steps.
pub async fn advance(pool: &Pool, sources: &Registry) -> Result<u64, QueryError> {
    let mut advanced = 0;
    for _ in 0..BATCHES_AT_ONCE {
        let (looked_at, more) = db::with_timeout(advance_batch(pool, sources)).await?;
        advanced += more;
        if looked_at < BATCH as usize {
            break;
        }
    }
    Ok(advanced)
}

/// Handles one batch of due escalations. Returns the number of due escalations, and the number of steps.
async fn advance_batch(pool: &Pool, sources: &Registry) -> Result<(usize, u64), QueryError> {
    let sql = format!(
        "select l.event_id, l.store_id, l.subject, l.step, s.answer_seconds, \
             extract(epoch from clock_timestamp() - e.at)::float8, \
             l.is_held, l.is_held and {} \
         from vestnik.vst_escalation l join vestnik.vst_event e on e.id = l.event_id \
         left join vestnik.vst_store s on s.id = l.store_id \
         where l.ended_at is null and l.due_at <= clock_timestamp() order by l.due_at limit $1 for update of l skip locked",
        closed_store::is_closed("l.store_id")
    );
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    db::limit_idle_in_transaction(&transaction).await?;
    db::read_by_index(&transaction).await?;
    let statement = transaction.prepare_cached(&sql).await?;
    let rows = transaction.query(&statement, &[&BATCH]).await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in &rows {
        let escalation = OpenEscalation {
            event: row.try_get(0)?,
            store: row.try_get(1)?,
            subject: row.try_get(2)?,
            step: row.try_get(3)?,
            answer_s: row.try_get(4)?,
            waited_s: row.try_get(5)?,
        };
        let is_closed = row.try_get::<_, Option<bool>>(7)? == Some(true);
        due.push((escalation, row.try_get(6)?, is_closed));
    }
    let sources = sources.in_force(&transaction).await?;
    let over = over(&transaction, &sources, &due).await?;
    let (mut ended, mut closed, mut opened, mut advanced) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (escalation, is_held, is_closed) in &due {
        match (over.get(&escalation.event), is_held, is_closed) {
            (Some(outcome), ..) => ended.push((escalation.event, *outcome)),
            (None, true, true) => closed.push(escalation.event),
            (None, true, false) if escalation.answer_s.is_some() => opened.push(escalation.event),
            _ => advanced += u64::from(step(&transaction, &sources, escalation).await?),
        }
    }
    put_off(&transaction, &closed, &opened).await?;
    if !ended.is_empty() {
        end(&transaction, ended).await?;
    }
    transaction.commit().await?;
    Ok((rows.len(), advanced))
}

async fn end(transaction: &Transaction<'_>, ended: Vec<(i64, &str)>) -> Result<(), QueryError> {
    const END: &str = "update vestnik.vst_escalation l set ended_at = clock_timestamp(), outcome = o.outcome \
         from unnest($1::bigint[], $2::text[]) o(event_id, outcome) where l.event_id = o.event_id";
    let (events, outcomes): (Vec<i64>, Vec<&str>) = ended.into_iter().unzip();
    let statement = transaction.prepare_cached(END).await?;
    transaction.execute(&statement, &[&events, &outcomes]).await?;
    Ok(())
}

/// Postpones the held escalations. An escalation is held while its store is closed. `closed` has the escalations whose
/// store is still closed: each is checked again after `CLOSED_LOOK_S`. `opened` has the escalations whose store has
/// just opened: for each, the store's usual time to answer begins now.
async fn put_off(transaction: &Transaction<'_>, closed: &[i64], opened: &[i64]) -> Result<(), QueryError> {
    const CLOSED: &str = "update vestnik.vst_escalation set due_at = clock_timestamp() + make_interval(secs => $2) where event_id = any ($1)";
    const OPENED: &str = "update vestnik.vst_escalation l set is_held = false, due_at = clock_timestamp() + make_interval(secs => s.answer_seconds) \
         from vestnik.vst_store s where l.event_id = any ($1) and s.id = l.store_id";
    if !closed.is_empty() {
        transaction.execute(CLOSED, &[&closed, &CLOSED_LOOK_S]).await?;
    }
    if !opened.is_empty() {
        transaction.execute(OPENED, &[&opened]).await?;
    }
    Ok(())
}

/// Finds the due escalations whose order was answered or removed. Returns the outcome (`answered` or `removed`) by the
/// id of the event that began the escalation. Reads the statuses from the journal, because newer events may not be
/// enqueued yet. For each store, one query reads the events since the store's oldest due order.
async fn over(
    transaction: &Transaction<'_>,
    sources: &Sources,
    due: &[(OpenEscalation, bool, bool)],
) -> Result<HashMap<i64, &'static str>, QueryError> {
    const SINCE: &str = "id in (select c.id from ( \
             select distinct on (e.store_id) e.store_id, e.xid from unnest($1::bigint[]) l(id) \
             join vestnik.vst_event e on e.id = l.id order by e.store_id, e.xid) o \
         cross join lateral (select c.id from vestnik.vst_event c \
             where c.store_id = o.store_id and c.xid >= o.xid and c.key = any ($2)) c) order by id";
    if due.is_empty() {
        return Ok(HashMap::new());
    }
    let events: Vec<i64> = due.iter().map(|(escalation, ..)| escalation.event).collect();
    let keys: Vec<String> = due
        .iter()
        .filter_map(|(escalation, ..)| Some(SubjectId::from_text(&escalation.subject)?.key.to_string()))
        .collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&events, Type::INT8_ARRAY), (&keys, Type::TEXT_ARRAY)];
    let rows = journal::read_where(transaction, SINCE, &parameters).await?;
    let rows: Vec<_> = rows.iter().collect();
    let mut statuses: HashMap<(StoreId, String), Option<Status>> = HashMap::new();
    for event in sources.partner_events(&rows, &Lookups::default()) {
        let Some(subject) = &event.subject else { continue };
        statuses.insert((event.store, subject.id.to_string()), subject.visible_status());
    }
    let outcome = |(escalation, ..): &(OpenEscalation, bool, bool)| match statuses
        .get(&(StoreId::new(&escalation.store), escalation.subject.clone()))
    {
        None | Some(Some(Status::Pending)) => None,
        Some(Some(_)) => Some((escalation.event, "answered")),
        Some(None) => Some((escalation.event, "removed")),
    };
    Ok(due.iter().filter_map(outcome).collect())
}

/// Takes the next step of an escalation, and skips steps that reach nobody. If no step is left, the escalation ends.
/// Returns whether a step was taken.
async fn step(
    transaction: &Transaction<'_>,
    sources: &Sources,
    escalation: &OpenEscalation,
) -> Result<bool, QueryError> {
    const END: &str =
        "update vestnik.vst_escalation set ended_at = clock_timestamp(), outcome = 'exhausted' where event_id = $1";
    const NEXT: &str = "update vestnik.vst_escalation set step = $2, \
             due_at = clock_timestamp() + make_interval(secs => $3) where event_id = $1";
    for step in STEPS.into_iter().filter(|step| *step as i16 > escalation.step) {
        // If the store is not set up any more, no step can be taken.
        let Some(answer_s) = escalation.answer_s else { break };
        if take(transaction, sources, escalation, step).await? {
            transaction
                .execute(NEXT, &[&escalation.event, &(step as i16), &f64::from(answer_s)])
                .await?;
            metrics::counter!("vestnik_escalations_total", "step" => step.as_str()).increment(1);
            tracing::info!(
                event = escalation.event,
                store = escalation.store,
                step = step.as_str(),
                "an order is unanswered"
            );
            return Ok(true);
        }
    }
    transaction.execute(END, &[&escalation.event]).await?;
    if escalation.answer_s.is_some() {
        metrics::counter!("vestnik_escalations_exhausted_total").increment(1);
        tracing::warn!(
            event = escalation.event,
            store = escalation.store,
            waited_s = escalation.waited_s.round() as i64,
            "nobody answers an order, and there is nobody left to tell: `vestnik telegram link --mode manager` adds somebody"
        );
    }
    Ok(false)
}

/// A chat that is enabled again gets the unanswered orders of `stores` that it missed. Enqueues these orders: those
/// whose escalation has already reached the step for the chat's mode.
pub(super) async fn catch_up(transaction: &Transaction<'_>, chat: ChatId, stores: &[String]) -> Result<(), QueryError> {
    const CATCH_UP: &str = "insert into vestnik.vst_delivery (chat_id, store_id, event_id, subject, urgent, step) \
         select l.chat_id, l.store_id, x.event_id, x.subject, true, m.step \
         from vestnik.vst_chat_link l join (values ('fallback', $3::smallint), ('manager', $4)) m(mode, step) on m.mode = l.mode \
         join vestnik.vst_escalation x on x.store_id = l.store_id \
           and (x.ended_at is null and x.step >= m.step or x.outcome = 'exhausted') \
         join vestnik.vst_event e on e.id = x.event_id and e.at >= clock_timestamp() - make_interval(hours => $5) \
         where l.chat_id = $1 and l.store_id = any ($2) order by x.event_id limit $6 on conflict (event_id, chat_id) do nothing";
    let parameters: [&(dyn ToSql + Sync); 6] = [
        &chat.0,
        &stores,
        &(EscalationStep::Fallback as i16),
        &(EscalationStep::Manager as i16),
        &MISSED_HOURS,
        &BATCH,
    ];
    transaction.execute(CATCH_UP, &parameters).await?;
    Ok(())
}

/// Takes one step of an escalation. Returns whether the step reaches a panel, a chat or a webhook.
async fn take(
    transaction: &Transaction<'_>,
    sources: &Sources,
    escalation: &OpenEscalation,
    step: EscalationStep,
) -> Result<bool, QueryError> {
    match step {
        EscalationStep::Panels => {
            ring(transaction, sources, escalation).await?;
            let reminded = remind(transaction, escalation).await?;
            Ok(reminded || has_panel(transaction, escalation).await?)
        }
        EscalationStep::Fallback | EscalationStep::Manager => enqueue(transaction, escalation, step).await,
        EscalationStep::Webhook => {
            const POST: &str = "insert into vestnik.vst_webhook (event_id, store_id) \
                 select $1, id from vestnik.vst_store where id = $2 and webhook_url is not null on conflict do nothing";
            Ok(transaction
                .execute(POST, &[&escalation.event, &escalation.store])
                .await?
                > 0)
        }
    }
}

/// Appends the event that makes the store's panels ring again for an order. A booking needs no event, because panels
/// ring for it until somebody answers.
async fn ring(transaction: &Transaction<'_>, sources: &Sources, escalation: &OpenEscalation) -> Result<(), QueryError> {
    let Some(subject) = SubjectId::from_text(&escalation.subject) else {
        return Ok(());
    };
    let Some(source) = sources
        .get(subject.source)
        .filter(|source| source.mapping.kind == SubjectKind::Order)
    else {
        return Ok(());
    };
    let data = serde_json::json!({"order_ids": [&*subject.key], "order_id": &*subject.key, "source": &*source.name,
        "event_id": escalation.event.to_string(), "waited_seconds": escalation.waited_s.round() as i64});
    let store = StoreId::new(&escalation.store);
    journal::append(transaction, &store, EventType::OrderUnanswered, &data).await?;
    Ok(())
}

/// Whether a panel of the store can ring now.
async fn has_panel(transaction: &Transaction<'_>, escalation: &OpenEscalation) -> Result<bool, QueryError> {
    const PANEL: &str = "select exists (select from vestnik.vst_presence p join vestnik.vst_node n on n.id = p.node_id \
         where p.store_id = $1 and n.until > clock_timestamp())";
    Ok(transaction.query_one(PANEL, &[&escalation.store]).await?.try_get(0)?)
}

/// Enqueues a reminder for each chat that already has the order. Returns whether at least one chat has the order, or
/// will get it soon.
async fn remind(transaction: &Transaction<'_>, escalation: &OpenEscalation) -> Result<bool, QueryError> {
    const REMIND: &str = "with enqueued as ( \
             insert into vestnik.vst_delivery (chat_id, store_id, about_id, note, subject, urgent) \
             select d.chat_id, d.store_id, $1, 'unanswered', d.subject, true \
             from vestnik.vst_delivery d join vestnik.vst_chat_link l on l.chat_id = d.chat_id and l.store_id = d.store_id \
             join vestnik.vst_chat c on c.id = d.chat_id \
             where d.event_id = $1 and d.state = 'sent' and l.blocked_at is null and c.disabled_at is null \
             on conflict (about_id, chat_id, note) do nothing returning chat_id), \
         woken as (update vestnik.vst_chat set waiting = true where id in (select chat_id from enqueued)) \
         select exists (select from enqueued) or exists (select from vestnik.vst_delivery d \
             join vestnik.vst_chat_link l on l.chat_id = d.chat_id and l.store_id = d.store_id \
             join vestnik.vst_chat c on c.id = d.chat_id \
             where d.event_id = $1 and d.state in ('pending', 'sending', 'retrying') and l.blocked_at is null and c.disabled_at is null)";
    Ok(transaction.query_one(REMIND, &[&escalation.event]).await?.try_get(0)?)
}

/// Enqueues the order for each chat whose mode belongs to this step. A chat that already has the order gets nothing. A
/// blocked chat gets the order when it takes messages again. Returns whether at least one chat gets the order now.
async fn enqueue(
    transaction: &Transaction<'_>,
    escalation: &OpenEscalation,
    step: EscalationStep,
) -> Result<bool, QueryError> {
    const ENQUEUE: &str = "with enqueued as ( \
             insert into vestnik.vst_delivery (chat_id, store_id, event_id, subject, urgent, step) \
             select l.chat_id, l.store_id, $1, $3, true, $5 from vestnik.vst_chat_link l join vestnik.vst_chat c on c.id = l.chat_id \
             where l.store_id = $2 and l.mode = $4 and c.disabled_at is null \
             on conflict (event_id, chat_id) do nothing returning chat_id), \
         woken as (update vestnik.vst_chat set waiting = true where id in (select chat_id from enqueued)) \
         select count(*) from enqueued e join vestnik.vst_chat_link l on l.chat_id = e.chat_id and l.store_id = $2 and l.blocked_at is null";
    let row = transaction
        .query_one(
            ENQUEUE,
            &[
                &escalation.event,
                &escalation.store,
                &escalation.subject,
                &step.as_str(),
                &(step as i16),
            ],
        )
        .await?;
    Ok(row.try_get::<_, i64>(0)? > 0)
}
