//! Finds orders that are not ready at the promised time, and enqueues a note with a sound for each chat that has the
//! order.

use crate::infra::db::{Pool, Transaction};

use super::due_event::DueEvent;
use crate::domain::event::EventId;
use crate::domain::status::{Status, SubjectKind};
use crate::infra::db::{self, QueryError};

/// Maximum number of late orders that one transaction handles.
const BATCH: i64 = 200;

/// Saves the promised time of each order that is in preparation after these events. Deletes the saved time of an order
/// that is not in preparation any more.
pub(super) async fn promise(transaction: &Transaction<'_>, due: &[DueEvent]) -> Result<(), tokio_postgres::Error> {
    // If an event promises no time, the earlier promise is kept. If nobody has promised a time, the time for which the
    // customer wants the order counts as the promise.
    const KEEP: &str = "insert into vestnik.vst_promise as p (store_id, subject, event_id, due_at, minutes) \
         select distinct on (e.store_id, d.subject) e.store_id, d.subject, e.id, \
             coalesce(e.at + make_interval(mins => d.minutes), d.wanted_at), d.minutes \
         from unnest($1::bigint[], $2::text[], $3::int[], $4::timestamptz[]) d(id, subject, minutes, wanted_at) \
         join vestnik.vst_event e on e.id = d.id join vestnik.vst_store s on s.id = e.store_id \
         where coalesce(e.at + make_interval(mins => d.minutes), d.wanted_at) > clock_timestamp() \
         order by e.store_id, d.subject, e.id desc \
         on conflict (store_id, subject) do update set event_id = excluded.event_id, due_at = excluded.due_at, \
             minutes = excluded.minutes, is_told = false \
         where excluded.minutes is not null or p.minutes is null and excluded.due_at <> p.due_at";
    const FORGET: &str = "delete from vestnik.vst_promise where (store_id, subject) in ( \
         select e.store_id, d.subject from unnest($1::bigint[], $2::text[]) d(id, subject) join vestnik.vst_event e on e.id = d.id)";
    let (mut kept, mut over) = (Vec::new(), Vec::new());
    for due in due.iter().filter(|due| !due.is_stale) {
        let Some(order) = due.event.subject.as_ref().filter(|it| it.kind == SubjectKind::Order) else {
            continue;
        };
        match order.visible_status() {
            Some(Status::Preparing) => kept.push((due, order)),
            _ => over.push(due),
        }
    }
    // Save a promise only if no later event of the batch ends the preparation of its order.
    let ids = |id: &EventId| id.0;
    if !over.is_empty() {
        let events: Vec<i64> = over.iter().map(|due| ids(&due.event.id)).collect();
        let subjects: Vec<&str> = over.iter().map(|due| due.subject.as_str()).collect();
        let statement = transaction.prepare_cached(FORGET).await?;
        transaction.execute(&statement, &[&events, &subjects]).await?;
    }
    let is_last = |(kept, _): &&(&DueEvent, _)| {
        !over
            .iter()
            .any(|due| due.is_about_same(kept) && due.event.id > kept.event.id)
    };
    let kept: Vec<_> = kept.iter().filter(is_last).collect();
    if !kept.is_empty() {
        let events: Vec<i64> = kept.iter().map(|(due, _)| ids(&due.event.id)).collect();
        let subjects: Vec<&str> = kept.iter().map(|(due, _)| due.subject.as_str()).collect();
        let minutes: Vec<Option<i32>> = kept
            .iter()
            .map(|(due, order)| order.promised_minutes.filter(|_| promises(due)))
            .collect();
        let wanted_at: Vec<_> = kept.iter().map(|(_, order)| order.due_at).collect();
        let statement = transaction.prepare_cached(KEEP).await?;
        transaction
            .execute(&statement, &[&events, &subjects, &minutes, &wanted_at])
            .await?;
    }
    Ok(())
}

/// Whether the store promised a time with this event. An event may also repeat the minutes of an earlier promise, which
/// is no new promise.
fn promises(due: &DueEvent) -> bool {
    due.event.previous != Some(Status::Preparing) || due.event.changed.contains(&"promised_minutes")
}

/// Enqueues a note for each chat that has an order which is late now. Returns the number of late orders.
pub async fn report(pool: &Pool) -> Result<u64, QueryError> {
    const REPORT: &str = "with late as (update vestnik.vst_promise set is_told = true where (store_id, subject) in ( \
             select store_id, subject from vestnik.vst_promise where due_at <= clock_timestamp() and not is_told \
             order by due_at limit $1 for update skip locked) returning store_id, subject, event_id), \
         enqueued as (insert into vestnik.vst_delivery (chat_id, store_id, about_id, note, subject, urgent) \
             select l.chat_id, p.store_id, p.event_id, 'late', p.subject, true \
             from late p join vestnik.vst_chat_link l on l.store_id = p.store_id and l.blocked_at is null \
             join vestnik.vst_chat c on c.id = l.chat_id and c.disabled_at is null \
             where exists (select from vestnik.vst_delivery d where d.chat_id = l.chat_id and d.store_id = p.store_id \
                 and d.subject = p.subject and d.event_id is not null and d.state = 'sent') \
             on conflict (about_id, chat_id, note) do nothing returning chat_id), \
         woken as (update vestnik.vst_chat set waiting = true where id in (select chat_id from enqueued)) \
         select count(*) from late";
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(REPORT).await?;
        let row = client.query_one(&statement, &[&BATCH]).await?;
        let late = row.try_get::<_, i64>(0)?.unsigned_abs();
        metrics::counter!("vestnik_orders_late_total").increment(late);
        Ok(late)
    })
    .await
}
