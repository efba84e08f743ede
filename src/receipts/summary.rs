//! Computes figures about a store's new orders in a time span. The figures show which channel was the first to carry an
//! order, and how long orders waited for an answer.

use crate::infra::db::GenericClient;
use crate::infra::db::Pool;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};

use crate::domain::event::{EventType, JournalEvent, StoreId};
use crate::domain::status::Status;
use crate::infra::db::{self, QueryError};
use crate::journal;
use crate::sources::lookup_results::Lookups;
use crate::sources::sql::{self, literal};
use crate::sources::{Source, Sources};

/// The upper bounds of the buckets in `Summary::buckets`, seconds. One more bucket counts longer times.
pub const BUCKETS_S: [i32; 7] = [5, 15, 30, 60, 120, 300, 600];

/// Figures about a store's new orders in a time span.
#[derive(Debug, Default, PartialEq)]
pub struct Summary {
    /// The number of new orders.
    pub orders: i64,
    /// The number of orders for each channel that was the first to carry them. Orders that no channel has carried are
    /// not counted.
    pub first_seen: Vec<(String, i64)>,
    /// Counts orders by the time until a person acknowledged or answered them. Element `i` counts the times up to
    /// `BUCKETS_S[i]` that are longer than `BUCKETS_S[i - 1]`. The last element counts longer times.
    pub buckets: [i64; BUCKETS_S.len() + 1],
    /// The median time until a person acknowledged or answered an order, seconds. `None`: nobody acknowledged or
    /// answered an order.
    pub p50: Option<f64>,
    /// The 90th percentile of the time until a person acknowledged or answered an order, seconds. `None`: nobody
    /// acknowledged or answered an order.
    pub p90: Option<f64>,
    /// The number of orders that were escalated (sent to further chats or to a webhook), because nobody answered in
    /// time.
    pub escalated: i64,
    /// Figures about the preparation of orders that people accepted and made ready through Vestnik.
    pub prepared: Prepared,
}

/// Figures about preparation times. The preparation time begins when a person accepts an order, and ends when the order
/// is ready, handed over or completed.
#[derive(Debug, Default, PartialEq)]
pub struct Prepared {
    /// The number of orders with a known preparation time.
    pub orders: i64,
    /// The median preparation time, seconds. `None`: no order has a known preparation time.
    pub p50: Option<f64>,
    /// The 90th percentile of the preparation time, seconds. `None`: no order has a known preparation time.
    pub p90: Option<f64>,
    /// The number of orders with a known preparation time for which the store promised a time.
    pub promised: i64,
    /// The number of orders that were ready after the promised time. If the store has promised a new time for an order,
    /// only the newest promise counts.
    pub late: i64,
}

/// Computes the figures of a store's new orders. An order counts if it was new at or after `from`, and before `to`.
pub async fn summary(
    pool: &Pool,
    sources: &Sources,
    store: &StoreId,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> Result<Summary, QueryError> {
    // The statement ignores receipts of webhooks, because a webhook reaches no person.
    const COUNT: &str = "with orders as materialized (select id, at, source, key, store_id from vestnik.vst_event where id = any ($1)), \
         seen as (select (select r.channel from vestnik.vst_receipt r where r.event_id = o.id and r.channel <> 'webhook' \
                 and least(r.sent_at, r.rendered_at, r.sounded_at) is not null \
                 order by least(r.sent_at, r.rendered_at, r.sounded_at), r.channel limit 1) as channel from orders o), \
         answered as (select extract(epoch from least( \
                 (select min(k.at) from vestnik.vst_acknowledgement k where k.event_id = o.id), \
                 (select min(a.at) from vestnik.vst_status_change a where a.source = o.source and a.key = o.key \
                    and a.store_id = o.store_id and a.at >= o.at)) - o.at)::float8 as seconds from orders o), \
         counted as (select width_bucket(seconds, $2::float8[]) as bucket, count(*) as count \
             from answered where seconds is not null group by 1), \
         prepared as (select extract(epoch from r.at - a.at)::float8 as seconds, r.at > p.at as late from orders o, \
             lateral (select min(c.at) as at from vestnik.vst_status_change c where c.source = o.source and c.key = o.key \
                 and c.store_id = o.store_id and c.at >= o.at and c.previous = 'pending' and c.status = 'preparing') a, \
             lateral (select min(c.at) as at from vestnik.vst_status_change c where c.source = o.source and c.key = o.key \
                 and c.store_id = o.store_id and c.at > a.at and c.status in ('ready', 'delivering', 'completed')) r left join \
             lateral (select c.at + make_interval(mins => c.minutes) as at from vestnik.vst_status_change c where c.source = o.source \
                 and c.key = o.key and c.store_id = o.store_id and c.at between a.at and r.at and c.minutes is not null order by c.id desc limit 1) p on true \
             where r.at is not null) \
         select (select count(*) from orders), \
             array(select channel from seen where channel is not null group by channel order by channel), \
             array(select count(*) from seen where channel is not null group by channel order by channel), \
             array(select coalesce((select count from counted c where c.bucket = b), 0) from generate_series(0, $3) b order by b), \
             (select percentile_cont(0.5) within group (order by seconds) from answered), \
             (select percentile_cont(0.9) within group (order by seconds) from answered), \
             (select count(*) from orders o join vestnik.vst_escalation l on l.event_id = o.id where l.step > 0), \
             (select count(*) from prepared), \
             (select percentile_cont(0.5) within group (order by seconds) from prepared), \
             (select percentile_cont(0.9) within group (order by seconds) from prepared), \
             (select count(late) from prepared), (select count(*) from prepared where late)";
    // A bucket includes its upper bound, but `width_bucket` of Postgres excludes it.
    let bounds: Vec<f64> = BUCKETS_S.iter().map(|bound| f64::from(*bound).next_up()).collect();
    let last = BUCKETS_S.len() as i32;
    let row = db::with_timeout::<_, QueryError>(async {
        let mut client = pool.get().await?;
        let transaction = db::snapshot(&mut client).await?;
        db::read_by_index(&transaction).await?;
        let orders = new_orders(&transaction, sources, store, from, to).await?;
        let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
            (&orders, Type::INT8_ARRAY),
            (&bounds, Type::FLOAT8_ARRAY),
            (&last, Type::INT4),
        ];
        let row = transaction.query_typed_one(COUNT, &parameters).await?;
        transaction.commit().await?;
        Ok(row)
    })
    .await?;
    let (channels, counts): (Vec<String>, Vec<i64>) = (row.try_get(1)?, row.try_get(2)?);
    let mut buckets = [0; BUCKETS_S.len() + 1];
    let counted: Vec<i64> = row.try_get(3)?;
    buckets
        .iter_mut()
        .zip(counted)
        .for_each(|(bucket, count)| *bucket = count);
    Ok(Summary {
        orders: row.try_get(0)?,
        first_seen: channels.into_iter().zip(counts).collect(),
        buckets,
        p50: row.try_get(4)?,
        p90: row.try_get(5)?,
        escalated: row.try_get(6)?,
        prepared: Prepared {
            orders: row.try_get(7)?,
            p50: row.try_get(8)?,
            p90: row.try_get(9)?,
            promised: row.try_get(10)?,
            late: row.try_get(11)?,
        },
    })
}

/// Returns the ids of the events that announced a new order of the store, from `from` (inclusive) to `to` (exclusive).
async fn new_orders(
    client: &impl GenericClient,
    sources: &Sources,
    store: &StoreId,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> Result<Vec<i64>, tokio_postgres::Error> {
    let may_be_new: Vec<String> = sources.all().into_iter().map(|source| may_be_new_sql(source)).collect();
    let condition = format!(
        "store_id = $1 and at >= $2 and at < $3 and (type = 'insert' or type = 'update' and ({}))",
        if may_be_new.is_empty() {
            "false".to_owned()
        } else {
            may_be_new.join(" or ")
        }
    );
    let store = store.as_str();
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
        (&store, Type::TEXT),
        (&from, Type::TIMESTAMPTZ),
        (&to, Type::TIMESTAMPTZ),
    ];
    let rows = journal::read_where(client, &format!("{condition} order by id"), &parameters).await?;
    let rows: Vec<&JournalEvent> = rows.iter().collect();
    let events = sources.partner_events(&rows, &Lookups::default());
    Ok(events
        .iter()
        .filter(|event| event.kind == EventType::NewOrder)
        .map(|event| event.id.0)
        .collect())
}

/// Returns an SQL condition that selects updates after which an order may be new (pending). Before the update, the
/// status must be hidden from panels (such as a cart), or a known status other than pending. After the update, it must
/// be pending or unknown. Statuses are compared as JSON text, because a value in a JSON column may be of any type.
fn may_be_new_sql(source: &Source) -> String {
    let words = &source.mapping.status;
    let other = Status::ALL.into_iter().filter(|status| *status != Status::Pending);
    let other = other.flat_map(|status| words.words_of(status)).chain(&words.hidden);
    let texts = other.flat_map(|word| {
        [
            literal(word),
            literal(&serde_json::Value::from(word.as_str()).to_string()),
        ]
    });
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() {
        return "false".to_owned();
    }
    let path = sql::path_array(std::iter::once(&words.column.name).chain(&words.column.path));
    let texts = texts.join(", ");
    format!(
        "source = {} and (old #> {path})::text in ({texts}) and (data #> {path})::text not in ({texts})",
        source.id.0
    )
}
