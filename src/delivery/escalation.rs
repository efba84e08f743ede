//! The ladder of an order that nobody answers for. Its rungs are rows: it survives restarts, and two nodes make one
//! alarm, for who climbs holds the row.

use crate::db::{self, Failed, Pool, Transaction};
use crate::event::{EventType, StoreId};
use crate::journal;

/// Ladders looked at in one transaction.
const BATCH: i64 = 200;
/// Batches in a row: then the loop looks around.
const BATCHES_AT_ONCE: usize = 100;

/// The rungs, from the first on. One that leads to nobody is passed over at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    /// The panels ring again.
    Panels = 1,
    /// The chats that are there for it.
    Fallback = 2,
    /// The second chat.
    Manager = 3,
    /// The store's own address.
    Webhook = 4,
}

const RUNGS: [Rung; 4] = [Rung::Panels, Rung::Fallback, Rung::Manager, Rung::Webhook];

impl Rung {
    fn as_str(self) -> &'static str {
        match self {
            Self::Panels => "panels",
            Self::Fallback => "fallback",
            Self::Manager => "manager",
            Self::Webhook => "webhook",
        }
    }
}

/// An order whose time on its rung is over.
struct Ladder {
    event: i64,
    store: String,
    subject: String,
    rung: i16,
    /// Of each rung, seconds. None: the store is not set up any more.
    answer_s: Option<i32>,
    waited_s: f64,
}

/// Climbs what is due. How many rungs were climbed.
pub async fn climb(pool: &Pool) -> Result<u64, Failed> {
    let mut climbed = 0;
    for _ in 0..BATCHES_AT_ONCE {
        let (looked_at, more) = db::answered(climb_batch(pool)).await?;
        climbed += more;
        if looked_at < BATCH as usize {
            break;
        }
    }
    Ok(climbed)
}

/// How many ladders were due, and how many of them climbed.
async fn climb_batch(pool: &Pool) -> Result<(usize, u64), Failed> {
    // Answered: acknowledged over any way, no longer as it came, or written as one that waits for nobody. The changes of a
    // store are read once for all of its orders, from the oldest of them on: read for each order, a store that writes
    // thousands at once would hold up everybody's ladders.
    const DUE: &str = "with due as materialized ( \
             select l.event_id, l.store_id, l.subject, l.rung, l.due_at, e.xid, e.at, \
                 e.data ->> 'order_id' as key, e.data ->> 'status' as status \
             from vestnik.escalation l join vestnik.event e on e.id = l.event_id \
             where l.ended_at is null and l.due_at <= clock_timestamp() order by l.due_at limit $1 for update of l skip locked), \
         oldest as (select distinct on (store_id) store_id, xid from due order by store_id, xid), \
         change as materialized ( \
             select o.store_id, c.key, c.id from oldest o cross join lateral ( \
                 select c.data ->> 'order_id' as key, max(c.id) as id from vestnik.event c \
                 where c.store_id = o.store_id and c.xid >= o.xid and c.type in ('order_status_changed', 'order_cancelled') \
                 group by 1) c) \
         select d.event_id, d.store_id, d.subject, d.rung, s.answer_seconds, \
             extract(epoch from clock_timestamp() - d.at)::float8, \
             c.id is not null or exists (select from vestnik.ack a where a.event_id = d.event_id) \
                 or d.status in ('preparing', 'ready', 'delivering', 'completed', 'rejected', 'cancelled') \
         from due d left join vestnik.store s on s.id = d.store_id \
         left join change c on c.store_id = d.store_id and c.key = d.key and c.id > d.event_id order by d.due_at";
    const ANSWERED: &str =
        "update vestnik.escalation set ended_at = clock_timestamp(), outcome = 'answered' where event_id = any ($1)";
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    db::bound_silence(&transaction).await?;
    db::read_by_index(&transaction).await?;
    let statement = transaction.prepare_cached(DUE).await?;
    let rows = transaction.query(&statement, &[&BATCH]).await?;
    let (mut answered, mut climbed) = (Vec::new(), 0);
    for row in &rows {
        let ladder = Ladder {
            event: row.try_get(0)?,
            store: row.try_get(1)?,
            subject: row.try_get(2)?,
            rung: row.try_get(3)?,
            answer_s: row.try_get(4)?,
            waited_s: row.try_get(5)?,
        };
        if row.try_get::<_, Option<bool>>(6)? == Some(true) {
            answered.push(ladder.event);
        } else {
            climbed += u64::from(step(&transaction, &ladder).await?);
        }
    }
    if !answered.is_empty() {
        let statement = transaction.prepare_cached(ANSWERED).await?;
        transaction.execute(&statement, &[&answered]).await?;
    }
    transaction.commit().await?;
    Ok((rows.len(), climbed))
}

/// Takes the next rung of a ladder, or ends it. Whether it climbed.
async fn step(transaction: &Transaction<'_>, ladder: &Ladder) -> Result<bool, Failed> {
    const END: &str =
        "update vestnik.escalation set ended_at = clock_timestamp(), outcome = 'exhausted' where event_id = $1";
    const NEXT: &str = "update vestnik.escalation set rung = $2, \
             due_at = clock_timestamp() + make_interval(secs => $3) where event_id = $1";
    for rung in RUNGS.into_iter().filter(|rung| *rung as i16 > ladder.rung) {
        // A store that is not set up any more wants no alarms.
        let Some(answer_s) = ladder.answer_s else { break };
        if take(transaction, ladder, rung).await? {
            transaction
                .execute(NEXT, &[&ladder.event, &(rung as i16), &f64::from(answer_s)])
                .await?;
            metrics::counter!("vestnik_escalations_total", "rung" => rung.as_str()).increment(1);
            tracing::info!(
                event = ladder.event,
                store = ladder.store,
                rung = rung.as_str(),
                "an order is unanswered"
            );
            return Ok(true);
        }
    }
    transaction.execute(END, &[&ladder.event]).await?;
    Ok(false)
}

/// Takes a rung; whether it leads to anybody.
async fn take(transaction: &Transaction<'_>, ladder: &Ladder, rung: Rung) -> Result<bool, Failed> {
    match rung {
        Rung::Panels => {
            let key = ladder.subject.split_once(' ').map_or("", |(_, key)| key);
            let data = serde_json::json!({"order_ids": [key], "order_id": key,
                "event_id": ladder.event.to_string(), "waited_seconds": ladder.waited_s.round() as i64});
            let store = StoreId::new(&ladder.store);
            journal::append(transaction, &store, EventType::OrderUnanswered, &data).await?;
            Ok(true)
        }
        Rung::Fallback | Rung::Manager => tell(transaction, ladder, rung.as_str()).await,
        Rung::Webhook => {
            const POST: &str = "insert into vestnik.webhook (event_id, store_id) \
                 select $1, id from vestnik.store where id = $2 and webhook_url is not null on conflict do nothing";
            Ok(transaction.execute(POST, &[&ladder.event, &ladder.store]).await? > 0)
        }
    }
}

/// Plans the order for the chats of a mode. One that has had it is not told twice.
async fn tell(transaction: &Transaction<'_>, ladder: &Ladder, mode: &str) -> Result<bool, Failed> {
    const TELL: &str = "with planned as ( \
             insert into vestnik.delivery (chat_id, store_id, event_id, subject, urgent) \
             select l.chat_id, l.store_id, $1, $3, true from vestnik.link l join vestnik.chat c on c.id = l.chat_id \
             where l.store_id = $2 and l.mode = $4 and c.disabled_at is null \
             on conflict (event_id, chat_id) do nothing returning chat_id), \
         woken as (update vestnik.chat set waiting = true where id in (select chat_id from planned)) \
         select count(*) from planned";
    let row = transaction
        .query_one(TELL, &[&ladder.event, &ladder.store, &ladder.subject, &mode])
        .await?;
    Ok(row.try_get::<_, i64>(0)? > 0)
}
