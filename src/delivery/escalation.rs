//! The ladder of an order that nobody answers for. Its rungs are rows: it survives restarts, and two nodes make one
//! alarm, for who climbs holds the row.

use std::sync::LazyLock;

use deadpool_postgres::{Pool, Transaction};

use crate::db::{self, Failed};
use crate::event::{EventType, StoreId};
use crate::journal;

/// Ladders looked at in one transaction.
const BATCH: i64 = 200;
/// Between two looks at whether a store that was closed has opened, seconds.
const CLOSED_LOOK_S: f64 = 15.0;
/// Batches in a row: then the loop looks around.
const BATCHES_AT_ONCE: usize = 100;

/// The rungs, from the first on. One that leads to nobody is passed over at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    /// The panels ring again, and the chats that have the order are reminded.
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

/// Which order or booking an event is about.
const SUBJECT_OF: &str = "case when $e.type like 'order%' or $e.type = 'new_order' then 'order ' || ($e.data ->> 'order_id') \
     else 'booking ' || ($e.data ->> 'booking_id') end";

/// What is due. Answered: acknowledged over any way, no longer as it came, or written as one that waits for nobody. The
/// changes of a store are read once for all of its orders, from the oldest of them on: read for each order, a store that
/// writes thousands at once would hold up everybody's escalations.
static DUE: LazyLock<String> = LazyLock::new(|| {
    let of = |event: &str| SUBJECT_OF.replace("$e", event);
    format!(
        "with due as materialized ( \
             select l.event_id, l.store_id, l.subject, l.rung, l.due_at, l.is_held, e.xid, e.at, {} as about, e.data ->> 'status' as status \
             from vestnik.escalation l join vestnik.event e on e.id = l.event_id \
             where l.ended_at is null and l.due_at <= clock_timestamp() order by l.due_at limit $1 for update of l skip locked), \
         oldest as (select distinct on (store_id) store_id, xid from due order by store_id, xid), \
         open as materialized (select store_id from vestnik.open_now where store_id in (select store_id from due where is_held)), \
         change as materialized ( \
             select o.store_id, c.about, c.id from oldest o cross join lateral ( \
                 select {} as about, max(c.id) as id from vestnik.event c \
                 where c.store_id = o.store_id and c.xid >= o.xid \
                   and c.type in ('order_status_changed', 'order_cancelled', 'booking_status_changed', 'booking_cancelled') \
                 group by 1) c) \
         select d.event_id, d.store_id, d.subject, d.rung, s.answer_seconds, \
             extract(epoch from clock_timestamp() - d.at)::float8, \
             c.id is not null or exists (select from vestnik.ack a where a.event_id = d.event_id) \
                 or d.status in ('preparing', 'ready', 'delivering', 'completed', 'rejected', 'cancelled'), \
             d.is_held, d.is_held and s.escalates = 'open' and d.store_id not in (select store_id from open) \
                 and exists (select from vestnik.opening o where o.store_id = d.store_id) \
         from due d left join vestnik.store s on s.id = d.store_id \
         left join change c on c.store_id = d.store_id and c.about = d.about and c.id > d.event_id order by d.due_at",
        of("e"),
        of("c")
    )
});

/// How many were due, and how many of them climbed.
async fn climb_batch(pool: &Pool) -> Result<(usize, u64), Failed> {
    const ANSWERED: &str =
        "update vestnik.escalation set ended_at = clock_timestamp(), outcome = 'answered' where event_id = any ($1)";
    const CLOSED: &str = "update vestnik.escalation set due_at = clock_timestamp() + make_interval(secs => $2) where event_id = any ($1)";
    const OPENED: &str = "update vestnik.escalation l set is_held = false, due_at = clock_timestamp() + make_interval(secs => s.answer_seconds) \
         from vestnik.store s where l.event_id = any ($1) and s.id = l.store_id";
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    db::bound_silence(&transaction).await?;
    db::read_by_index(&transaction).await?;
    let statement = transaction.prepare_cached(&DUE).await?;
    let rows = transaction.query(&statement, &[&BATCH]).await?;
    let (mut answered, mut closed, mut opened, mut climbed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for row in &rows {
        let ladder = Ladder {
            event: row.try_get(0)?,
            store: row.try_get(1)?,
            subject: row.try_get(2)?,
            rung: row.try_get(3)?,
            answer_s: row.try_get(4)?,
            waited_s: row.try_get(5)?,
        };
        let (is_answered, is_held, is_closed) = (row.try_get(6)?, row.try_get(7)?, row.try_get(8)?);
        match (is_answered, is_held, is_closed, ladder.answer_s) {
            (Some(true), ..) => answered.push(ladder.event),
            (_, true, Some(true), _) => closed.push(ladder.event),
            (_, true, _, Some(_)) => opened.push(ladder.event),
            _ => climbed += u64::from(step(&transaction, &ladder).await?),
        }
    }
    if !answered.is_empty() {
        transaction.execute(ANSWERED, &[&answered]).await?;
    }
    if !closed.is_empty() {
        transaction.execute(CLOSED, &[&closed, &CLOSED_LOOK_S]).await?;
    }
    if !opened.is_empty() {
        transaction.execute(OPENED, &[&opened]).await?;
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
    if ladder.answer_s.is_some() {
        metrics::counter!("vestnik_escalations_exhausted_total").increment(1);
        tracing::warn!(
            event = ladder.event,
            store = ladder.store,
            waited_s = ladder.waited_s.round() as i64,
            "nobody answers an order, and there is nobody left to tell: `vestnik telegram link --mode manager` adds somebody"
        );
    }
    Ok(false)
}

/// Takes a rung; whether it leads to anybody.
async fn take(transaction: &Transaction<'_>, ladder: &Ladder, rung: Rung) -> Result<bool, Failed> {
    match rung {
        Rung::Panels => {
            ring(transaction, ladder).await?;
            let reminded = remind(transaction, ladder).await?;
            Ok(reminded || has_panel(transaction, ladder).await?)
        }
        Rung::Fallback | Rung::Manager => tell(transaction, ladder, rung).await,
        Rung::Webhook => {
            const POST: &str = "insert into vestnik.webhook (event_id, store_id) \
                 select $1, id from vestnik.store where id = $2 and webhook_url is not null on conflict do nothing";
            Ok(transaction.execute(POST, &[&ladder.event, &ladder.store]).await? > 0)
        }
    }
}

/// The panels ring again. For a booking they ring until it is answered anyway.
async fn ring(transaction: &Transaction<'_>, ladder: &Ladder) -> Result<(), Failed> {
    let Some(("order", key)) = ladder.subject.split_once(' ') else {
        return Ok(());
    };
    let data = serde_json::json!({"order_ids": [key], "order_id": key,
        "event_id": ladder.event.to_string(), "waited_seconds": ladder.waited_s.round() as i64});
    let store = StoreId::new(&ladder.store);
    journal::append(transaction, &store, EventType::OrderUnanswered, &data).await?;
    Ok(())
}

/// Whether the store has a panel that can ring.
async fn has_panel(transaction: &Transaction<'_>, ladder: &Ladder) -> Result<bool, Failed> {
    const PANEL: &str = "select exists (select from vestnik.presence p join vestnik.node n on n.id = p.node_id \
         where p.store_id = $1 and n.until > clock_timestamp())";
    Ok(transaction.query_one(PANEL, &[&ladder.store]).await?.try_get(0)?)
}

/// Reminds the chats that have the order, or are about to; whether there are any.
async fn remind(transaction: &Transaction<'_>, ladder: &Ladder) -> Result<bool, Failed> {
    const REMIND: &str = "with planned as ( \
             insert into vestnik.delivery (chat_id, store_id, about_id, note, subject, urgent) \
             select d.chat_id, d.store_id, $1, 'unanswered', d.subject, true \
             from vestnik.delivery d join vestnik.link l on l.chat_id = d.chat_id and l.store_id = d.store_id \
             join vestnik.chat c on c.id = d.chat_id \
             where d.event_id = $1 and d.state <> 'dead' and l.blocked_at is null and c.disabled_at is null \
             on conflict (about_id, chat_id, note) do nothing returning chat_id), \
         woken as (update vestnik.chat set waiting = true where id in (select chat_id from planned)) \
         select exists (select from planned)";
    Ok(transaction.query_one(REMIND, &[&ladder.event]).await?.try_get(0)?)
}

/// Plans the order for the chats of a mode. One that has had it is not told twice.
async fn tell(transaction: &Transaction<'_>, ladder: &Ladder, rung: Rung) -> Result<bool, Failed> {
    const TELL: &str = "with planned as ( \
             insert into vestnik.delivery (chat_id, store_id, event_id, subject, urgent, step) \
             select l.chat_id, l.store_id, $1, $3, true, $5 from vestnik.link l join vestnik.chat c on c.id = l.chat_id \
             where l.store_id = $2 and l.mode = $4 and l.blocked_at is null and c.disabled_at is null \
             on conflict (event_id, chat_id) do nothing returning chat_id), \
         woken as (update vestnik.chat set waiting = true where id in (select chat_id from planned)) \
         select count(*) from planned";
    let row = transaction
        .query_one(
            TELL,
            &[
                &ladder.event,
                &ladder.store,
                &ladder.subject,
                &rung.as_str(),
                &(rung as i16),
            ],
        )
        .await?;
    Ok(row.try_get::<_, i64>(0)? > 0)
}
