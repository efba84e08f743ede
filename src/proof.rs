//! The proof of a store's alerts as a panel shows it: each event with whom it reached, and the figures of a day.
//! `reach` stores it; `replay` tells the same on the command line.

use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};

use crate::db::{self, Failed, Pool};
use crate::event::{EventId, StoreId};
use crate::journal::{SUBJECT, SUBJECT_CHARACTERS};

/// Upper bounds of the summary's buckets, seconds; what took longer is in one more.
pub const BUCKETS_S: [i32; 7] = [5, 15, 30, 60, 120, 300, 600];

/// Which events.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Whose.
    pub store: &'a StoreId,
    /// From then on.
    pub from: Option<OffsetDateTime>,
    /// Before then.
    pub to: Option<OffsetDateTime>,
    /// Of this order or booking.
    pub subject: Option<&'a str>,
    /// Behind this one: the next page.
    pub before: Option<EventId>,
    /// At most.
    pub limit: usize,
}

/// A page of events.
#[derive(Debug)]
pub struct Proven {
    /// The newest first, each a JSON object in its text.
    pub events: Vec<String>,
    /// Whether there are more.
    pub more: bool,
}

/// SQL that writes a time as the wire has it.
fn wire_time(expression: &str) -> String {
    format!(r#"to_char({expression} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#)
}

/// Reads a page. The store's own index carries it, in whichever order the planner would like to guess.
pub async fn events(pool: &Pool, wanted: &Wanted<'_>) -> Result<Proven, Failed> {
    let sql = events_sql(wanted.subject.is_some(), wanted.before.is_some());
    let (store, limit) = (wanted.store.as_str(), wanted.limit as i64 + 1);
    let before = wanted.before.map(|id| id.0);
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&store, Type::TEXT),
        (&wanted.from, Type::TIMESTAMPTZ),
        (&wanted.to, Type::TIMESTAMPTZ),
        (&wanted.subject, Type::TEXT),
        (&before, Type::INT8),
        (&limit, Type::INT8),
    ];
    let rows = db::answered::<_, Failed>(async {
        let client = pool.get().await?;
        Ok(client.query_typed(&sql, &parameters).await?)
    })
    .await?;
    let more = rows.len() > wanted.limit;
    let events = rows.iter().take(wanted.limit).map(|row| row.try_get(0));
    Ok(Proven {
        events: events.collect::<Result<_, _>>()?,
        more,
    })
}

fn events_sql(by_subject: bool, behind: bool) -> String {
    let mut wheres = vec!["e.store_id = $1 and ($2 is null or e.at >= $2) and ($3 is null or e.at < $3)".to_owned()];
    if by_subject {
        wheres.push(format!("e.subject = left($4, {SUBJECT_CHARACTERS}) and {SUBJECT} = $4"));
    }
    if behind {
        wheres.push(
            "(e.xid, e.id) < (select b.xid, b.id from vestnik.event b where b.id = $5 and b.store_id = $1)".into(),
        );
    }
    let ways = format!(
        "select json_agg(json_strip_nulls(json_build_object('way', r.way, 'recipient', r.recipient, 'sent', {}, 'rendered', {}, \
             'rung', {}, 'acknowledged', {}, 'by', r.acknowledged_by)) order by r.way, r.recipient) \
         from vestnik.reach r where r.event_id = e.id",
        wire_time("r.sent_at"),
        wire_time("r.rendered_at"),
        wire_time("r.rung_at"),
        wire_time("r.acknowledged_at"),
    );
    let chats = format!(
        "select json_agg(json_strip_nulls(json_build_object('chat', coalesce(c.title, c.telegram_id::text), 'state', d.state, \
             'attempts', d.attempts, 'reason', d.reason, 'settled', {})) order by d.id) \
         from vestnik.delivery d join vestnik.chat c on c.id = d.chat_id where d.event_id = e.id",
        wire_time("d.settled_at"),
    );
    let ladder = format!(
        "select json_strip_nulls(json_build_object('rung', l.rung, 'outcome', l.outcome, 'ended', {})) \
         from vestnik.escalation l where l.event_id = e.id",
        wire_time("l.ended_at"),
    );
    format!(
        "select json_build_object('id', e.id::text, 'type', e.type, 'at', {at}, 'subject', {SUBJECT}, \
             'status', e.data ->> 'status', 'ways', coalesce(({ways}), '[]'), 'chats', coalesce(({chats}), '[]'), \
             'ladder', coalesce(({ladder}), '{{}}'))::text \
         from (select * from vestnik.event e where {wheres} order by e.xid desc, e.id desc limit $6) e \
         order by e.xid desc, e.id desc",
        at = wire_time("e.at"),
        wheres = wheres.join(" and "),
    )
}

/// The figures of a span of time.
#[derive(Debug, Default, PartialEq)]
pub struct Summary {
    /// New orders.
    pub orders: i64,
    /// By which way an order was seen first, and how many; those that nobody has seen are in none.
    pub first_seen: Vec<(String, i64)>,
    /// How many took at most each of [`BUCKETS_S`] until somebody acknowledged or answered them, and more than the bound
    /// before; the last of all took longer.
    pub buckets: [i64; BUCKETS_S.len() + 1],
    /// Half of those that were answered took no longer, seconds.
    pub p50: Option<f64>,
    /// Nine of ten took no longer, seconds.
    pub p90: Option<f64>,
    /// Orders that nobody answered in time.
    pub escalated: i64,
}

/// Counts the new orders of a store.
pub async fn summary(
    pool: &Pool,
    store: &StoreId,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> Result<Summary, Failed> {
    // The window stands beside the store, whose own index carries it. A delivery to the store's address is no person.
    let sql = format!(
        "with orders as materialized ( \
             select e.id, e.at, {SUBJECT} as subject from vestnik.event e \
             where e.store_id = $1 and e.type = 'new_order' and e.at >= $2 and e.at < $3), \
         seen as (select (select r.way from vestnik.reach r where r.event_id = o.id and r.way <> 'webhook' \
                 and least(r.sent_at, r.rendered_at, r.rung_at) is not null \
                 order by least(r.sent_at, r.rendered_at, r.rung_at), r.way limit 1) as way from orders o), \
         answered as (select extract(epoch from least( \
                 (select min(k.at) from vestnik.ack k where k.event_id = o.id), \
                 (select min(a.at) from vestnik.answer a where a.store_id = $1 and a.kind = 'order' and a.key = o.subject \
                    and a.at >= o.at)) - o.at)::float8 as seconds from orders o), \
         counted as (select width_bucket(seconds, $4::float8[]) as bucket, count(*) as count \
             from answered where seconds is not null group by 1) \
         select (select count(*) from orders), \
             array(select way from seen where way is not null group by way order by way), \
             array(select count(*) from seen where way is not null group by way order by way), \
             array(select coalesce((select count from counted c where c.bucket = b), 0) from generate_series(0, $5) b order by b), \
             (select percentile_cont(0.5) within group (order by seconds) from answered), \
             (select percentile_cont(0.9) within group (order by seconds) from answered), \
             (select count(*) from orders o join vestnik.escalation l on l.event_id = o.id where l.rung > 0)"
    );
    let store = store.as_str();
    // A bucket holds what is at most its bound, where Postgres would have it below.
    let bounds: Vec<f64> = BUCKETS_S.iter().map(|bound| f64::from(*bound).next_up()).collect();
    let last = BUCKETS_S.len() as i32;
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&store, Type::TEXT),
        (&from, Type::TIMESTAMPTZ),
        (&to, Type::TIMESTAMPTZ),
        (&bounds, Type::FLOAT8_ARRAY),
        (&last, Type::INT4),
    ];
    let row = db::answered::<_, Failed>(async {
        let client = pool.get().await?;
        Ok(client.query_typed_one(&sql, &parameters).await?)
    })
    .await?;
    let (ways, counts): (Vec<String>, Vec<i64>) = (row.try_get(1)?, row.try_get(2)?);
    let mut buckets = [0; BUCKETS_S.len() + 1];
    let counted: Vec<i64> = row.try_get(3)?;
    buckets
        .iter_mut()
        .zip(counted)
        .for_each(|(bucket, count)| *bucket = count);
    Ok(Summary {
        orders: row.try_get(0)?,
        first_seen: ways.into_iter().zip(counts).collect(),
        buckets,
        p50: row.try_get(4)?,
        p90: row.try_get(5)?,
        escalated: row.try_get(6)?,
    })
}
