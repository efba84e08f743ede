//! The ladder of an order that nobody answers for. Its rungs are rows: it survives restarts, and two nodes make one
//! alarm, for who climbs holds the row.

use deadpool_postgres::{Pool, Transaction};

use crate::db::{self, Failed};
use crate::event::{EventType, StoreId};
use crate::journal;

/// Ladders climbed in one transaction.
const BATCH: i64 = 50;

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
    answered: bool,
    waited_s: f64,
}

/// Climbs what is due. How many rungs were climbed.
pub async fn climb(pool: &Pool) -> Result<u64, Failed> {
    // Answered: acknowledged over any way, or no longer as it came.
    const DUE: &str = "select l.event_id, l.store_id, l.subject, l.rung, \
             exists (select from vestnik.ack a where a.event_id = l.event_id) \
               or exists (select from vestnik.event c where c.store_id = l.store_id and c.xid >= e.xid and c.id > e.id \
                   and c.type in ('order_status_changed', 'order_cancelled') and c.data ->> 'order_id' = e.data ->> 'order_id'), \
             extract(epoch from clock_timestamp() - e.at)::float8 \
         from vestnik.escalation l join vestnik.event e on e.id = l.event_id \
         where l.ended_at is null and l.due_at <= clock_timestamp() order by l.due_at limit $1 for update of l skip locked";
    db::answered(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        let statement = transaction.prepare_cached(DUE).await?;
        let mut climbed = 0;
        for row in transaction.query(&statement, &[&BATCH]).await? {
            let ladder = Ladder {
                event: row.try_get(0)?,
                store: row.try_get(1)?,
                subject: row.try_get(2)?,
                rung: row.try_get(3)?,
                answered: row.try_get(4)?,
                waited_s: row.try_get(5)?,
            };
            climbed += u64::from(step(&transaction, &ladder).await?);
        }
        transaction.commit().await?;
        Ok(climbed)
    })
    .await
}

/// Ends a ladder, or takes its next rung. Whether it climbed.
async fn step(transaction: &Transaction<'_>, ladder: &Ladder) -> Result<bool, Failed> {
    const END: &str = "update vestnik.escalation set ended_at = clock_timestamp(), outcome = $2 where event_id = $1";
    const NEXT: &str = "update vestnik.escalation l set rung = $2, \
             due_at = clock_timestamp() + make_interval(secs => s.answer_seconds) \
         from vestnik.store s where s.id = l.store_id and l.event_id = $1";
    if ladder.answered {
        transaction.execute(END, &[&ladder.event, &"answered"]).await?;
        return Ok(false);
    }
    for rung in RUNGS.into_iter().filter(|rung| *rung as i16 > ladder.rung) {
        if take(transaction, ladder, rung).await? {
            transaction.execute(NEXT, &[&ladder.event, &(rung as i16)]).await?;
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
    transaction.execute(END, &[&ladder.event, &"exhausted"]).await?;
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
