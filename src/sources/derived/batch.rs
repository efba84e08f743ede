//! Processes one batch of changes of a derived source (one whose orders come from SQL expressions). One transaction
//! takes the changes from the queue `vst_change`, computes the changed orders, and appends events for orders whose
//! values differ. If the transaction fails, the batch runs again, and no change becomes an event twice.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::infra::db::Transaction;
use time::OffsetDateTime;

use super::super::Source;
use super::affected_orders;
use super::compute::{Computed, DERIVE_MS, compute};
use super::existing_orders;
use super::failure::{self, Failure, NO_ORDER, WatchFailure};
use super::hidden_items;
use super::hidden_rows;
use super::install;
use super::known_orders;
use super::missed::project_again;
use super::project::{Projected, Publish, PublishedResults, WrittenAt, publish_changes};
use super::queue_progress::{BATCH_CHANGES, QueueProgress};
use super::queued_orders::QueuedOrders;
use super::watch::{AGAIN, GONE};
use super::write;
use super::written_rows::WrittenRows;
use super::{Derived, projection};
use crate::infra::db::QueryError;

/// Maximum wait for a lock, milliseconds. The wait is short because the orders of other sources wait meanwhile.
const LOCK_MS: u32 = 1000;
/// Pause before Vestnik computes an order again, if the order's store could not be computed.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The result of one batch of the projector, the background task that computes orders.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Number of processed entries: changes from the queue, orders that were held back until now, and retried failures.
    pub taken: usize,
    /// Number of events that were appended to the journal.
    pub events: u64,
    /// The mapping's expressions that failed, each with the key of the order for which the expression failed.
    pub failures: Vec<Failure>,
    /// Number of earlier failures that have ended, because the expression works again.
    pub readable_again: usize,
}

/// The entries that one batch processes: changes from the queue, orders that were held back until now, and failures to
/// retry.
#[derive(Debug, Default)]
struct Taken {
    /// The time when each order of the batch was last written, by the order's key. For an order that was held back, it
    /// is the time of the first write.
    orders: WrittenAt,
    /// The keys of the orders that were held back until now. An order is held back until the shop writes its items, or
    /// because its store could not be computed.
    due: BTreeSet<String>,
    /// The orders whose rows in the shop's table were written or deleted. The trigger recorded these changes.
    rows: WrittenRows,
    /// Values from written rows of watched tables, which are other tables whose rows affect orders. The mapping's
    /// `keys` queries turn these values into keys of orders.
    leads: Vec<Lead>,
    /// The `keys` queries to run again, because they failed before. A `keys` query finds the orders that a row of a
    /// watched table affects. Each query is named by its place in the mapping, such as `derived.watch of items: keys`.
    retried_watches: Vec<String>,
    is_truncated: bool,
    is_watched_truncated: bool,
    all_rows: bool,
}

impl Taken {
    /// Adds the order with this key, which was written at the time `at`.
    fn add(&mut self, key: String, at: OffsetDateTime) {
        let newest = self.orders.entry(key).or_insert(at);
        *newest = at.max(*newest);
    }
}

/// The value of one column in a written row of a watched table. The value tells which orders the row affects: it is an
/// order's key, or the mapping's `keys` query finds the orders for it.
#[derive(Debug)]
struct Lead {
    /// The number of the written table in the mapping's list of watched tables, counted from 1.
    watch: usize,
    value: String,
    at: OffsetDateTime,
}

/// Processes the next changes of a source in the caller's transaction. Also retries at most `retries` earlier failures.
/// Failures are orders that could not be computed, and failed `keys` queries, which find the orders that a row of
/// another table affects.
pub(super) async fn batch(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    progress: &mut QueueProgress,
    retries: i64,
) -> Result<Done, QueryError> {
    let limits =
        format!("set local jit = off; set local lock_timeout = {LOCK_MS}; set local statement_timeout = {DERIVE_MS}");
    transaction.batch_execute(&limits).await?;
    let (mut taken, count) = take(transaction, source, progress, retries).await?;
    let mut done = Done {
        taken: count,
        ..Done::default()
    };
    if count == 0 {
        return Ok(done);
    }
    if taken.is_truncated {
        write::truncate(transaction, source).await?;
    }
    // Orders that changes of this batch affect are left out of `all_rows`, which appends no event for them.
    lead(transaction, source, &mut taken, &mut done).await?;
    if taken.all_rows {
        all_rows(transaction, source, derived, &taken.orders, &mut done).await?;
    }
    if taken.is_watched_truncated {
        let now = OffsetDateTime::now_utc();
        for key in open_keys(transaction, source).await? {
            taken.add(key, now);
        }
    }
    let usual = |key: &&String| !taken.due.contains(*key);
    let keys: Vec<String> = taken.orders.keys().filter(usual).cloned().collect();
    let due: Vec<String> = taken.due.iter().cloned().collect();
    for (keys, publish) in [
        (keys, Publish::Usual(&taken.orders)),
        (due, Publish::Now(&taken.orders)),
    ] {
        project(transaction, source, derived, &keys, publish, &taken.rows, &mut done).await?;
    }
    Ok(done)
}

async fn take(
    transaction: &Transaction<'_>,
    source: &Source,
    progress: &mut QueueProgress,
    retries: i64,
) -> Result<(Taken, usize), QueryError> {
    const CHANGES: &str = "delete from vestnik.vst_change where source = $1 and id = any (array( \
             select id from vestnik.vst_change where source = $1 and id > $2 order by id limit $3)) \
         returning id, watch, vestnik.vst_readable(key), at, xid::text";
    const DUE: &str = "delete from vestnik.vst_wait where source = $1 and key = any (array( \
             select key from vestnik.vst_wait where source = $1 and until <= clock_timestamp() order by until limit $2)) \
         returning vestnik.vst_readable(key), since";
    const SNAPSHOT: &str = "select pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text from pg_current_snapshot() s";
    let snapshot = transaction.query_one(SNAPSHOT, &[]).await?;
    let number = |at: usize| -> Result<u64, QueryError> {
        let text: &str = snapshot.try_get(at)?;
        text.parse()
            .map_err(|_| QueryError::Inconsistent("a snapshot is no number"))
    };
    let bounds = (number(0)?, number(1)?);
    let statement = transaction.prepare_cached(CHANGES).await?;
    let rows = transaction
        .query(&statement, &[&source.id.0, &progress.through(), &BATCH_CHANGES])
        .await?;
    let mut taken = Taken::default();
    let mut newest = None;
    let mut in_order: Vec<&tokio_postgres::Row> = rows.iter().collect();
    // Sort the changes by id. The last change of an order then shows whether the order's row still exists.
    in_order.sort_by_key(|row| row.try_get::<_, i64>(0).unwrap_or_default());
    for row in in_order {
        newest = newest.max(Some(row.try_get::<_, i64>(0)?));
        let (watch, key): (i16, Option<String>) = (row.try_get(1)?, row.try_get(2)?);
        match (watch, key) {
            (-1, _) => taken.all_rows = true,
            (0, None) => {
                taken.is_truncated = true;
                taken.rows.truncate();
            }
            (_, None) => taken.is_watched_truncated = true,
            (0 | GONE, Some(key)) => {
                let xid: &str = row.try_get(4)?;
                taken.rows.change(&key, watch == GONE, xid.parse().unwrap_or_default());
                taken.add(key, row.try_get(3)?);
            }
            (AGAIN, Some(key)) => taken.add(key, row.try_get(3)?),
            (number, Some(value)) => taken.leads.push(Lead {
                watch: usize::from(number.unsigned_abs()),
                value,
                at: row.try_get(3)?,
            }),
        }
    }
    progress.pass(newest, bounds);
    let statement = transaction.prepare_cached(DUE).await?;
    for row in transaction.query(&statement, &[&source.id.0, &BATCH_CHANGES]).await? {
        let key: String = row.try_get(0)?;
        taken.add(key.clone(), row.try_get(1)?);
        taken.due.insert(key);
    }
    let mut count = rows.len() + taken.due.len();
    if retries > 0 {
        let retried = failure::retry(transaction, source.id, retries).await?;
        count += retried.keys.len() + retried.watches.len();
        let now = OffsetDateTime::now_utc();
        for key in retried.keys {
            if !taken.is_truncated {
                taken.rows.retried.insert(key.clone());
            }
            taken.add(key, now);
        }
        taken.retried_watches = retried.watches;
    }
    Ok((taken, count))
}

/// Finds the orders that the written rows of watched tables affect, and adds the keys of these orders to the batch.
async fn lead(
    transaction: &mut Transaction<'_>,
    source: &Source,
    taken: &mut Taken,
    done: &mut Done,
) -> Result<(), QueryError> {
    const AGAIN: &str =
        "insert into vestnik.vst_change (source, watch, key, at) select $1, $2, key, $4 from unnest($3::text[]) key";
    let Some(derived) = &source.mapping.derived else {
        return Ok(());
    };
    for (at, watch) in derived.watch.iter().enumerate() {
        let leads: Vec<Lead> = taken.leads.extract_if(.., |lead| lead.watch == at + 1).collect();
        let is_retried = taken.retried_watches.contains(&failure::place_of_watch(&watch.table));
        let now = is_retried.then(OffsetDateTime::now_utc);
        let Some(newest) = leads.iter().map(|lead| lead.at).max().or(now) else {
            continue;
        };
        if watch.keys.is_none() {
            for lead in leads {
                taken.add(lead.value, lead.at);
            }
            continue;
        }
        let values: Vec<String> = leads.into_iter().map(|lead| lead.value).collect();
        let affected = affected_orders::find(transaction, source, at + 1, values).await?;
        for key in affected.keys {
            taken.add(key, newest);
        }
        let (number, left_over) = (i16::try_from(at + 1).unwrap_or_default(), affected.left_over);
        if !left_over.is_empty() {
            transaction
                .execute(AGAIN, &[&source.id.0, &number, &left_over, &newest])
                .await?;
        }
        if let Some(error) = affected.error {
            let failed = Failure::of_watch(&watch.table, &error);
            let unseen = affected.is_broken.then(|| NO_ORDER.to_owned());
            failure::save(
                transaction,
                source.id,
                &[],
                std::slice::from_ref(&failed),
                unseen.as_slice(),
            )
            .await?;
            done.failures.push(failed);
        } else if let Some(ended) = failure::end_of_watch(transaction, source.id, &watch.table).await? {
            // While the `keys` query failed, writes to this table may have changed any open order. So all open orders
            // are computed again. An order that was hidden may have become visible, so all others follow.
            done.readable_again += 1;
            for key in open_keys(transaction, source).await? {
                taken.add(key, newest);
            }
            if ended == WatchFailure::OfAll {
                transaction.execute(install::ALL_ROWS, &[&source.id.0]).await?;
            }
        }
    }
    Ok(())
}

/// Computes and publishes the orders with these keys.
async fn project(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    keys: &[String],
    publish: Publish<'_>,
    rows: &WrittenRows,
    done: &mut Done,
) -> Result<(), QueryError> {
    if keys.is_empty() {
        return Ok(());
    }
    let (published, orders) = compute_orders(transaction, source, derived, keys, publish, rows, done).await?;
    done.events += publish_changes(transaction, source, derived, published, orders, publish).await?;
    Ok(())
}

/// Computes the orders with these keys, and saves the failures. Returns also the results that clients last received. If
/// an order's store cannot be computed, Vestnik computes the order again after [`RETRY_PAUSE`].
async fn compute_orders(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    keys: &[String],
    publish: Publish<'_>,
    rows: &WrittenRows,
    done: &mut Done,
) -> Result<(PublishedResults, Vec<Projected>), QueryError> {
    const AGAIN: &str = "insert into vestnik.vst_wait (source, key, since, until) \
         select $1, key, coalesce(at, clock_timestamp()), clock_timestamp() + $3::float8 * interval '1 second' \
         from unnest($2::text[], $4::timestamptz[]) w (key, at) on conflict do nothing";
    let published = PublishedResults::lock(transaction, source, keys).await?;
    let mut computed = compute(transaction, source, derived, keys, &published).await?;
    hidden_rows::find(transaction, source, derived, keys, &mut computed, &published, rows).await?;
    hidden_items::find(transaction, source, derived, &mut computed, &published, publish).await?;
    let Computed {
        mut orders,
        without_store,
        hidden,
        failures,
    } = computed;
    replace(transaction, source, &mut orders, &published, rows, publish).await?;
    if !without_store.is_empty() {
        let written: Vec<_> = without_store.iter().map(|key| publish.at(key)).collect();
        let pause = RETRY_PAUSE.as_secs_f64();
        transaction
            .execute(AGAIN, &[&source.id.0, &without_store, &pause, &written])
            .await?;
    }
    let mut unseen = without_store;
    unseen.extend(hidden);
    done.readable_again += failure::save(transaction, source.id, keys, &failures, &unseen).await?;
    done.failures.extend(failures);
    Ok((published, orders))
}

/// Removes the orders from `orders` whose row replaces a row with the same key, so that this batch publishes that the
/// old order is gone. Puts their keys into the queue again: the next batch publishes the new orders. In one
/// transaction, both events would be one change of one order.
async fn replace(
    transaction: &Transaction<'_>,
    source: &Source,
    orders: &mut Vec<Projected>,
    published: &PublishedResults,
    rows: &WrittenRows,
    publish: Publish<'_>,
) -> Result<(), QueryError> {
    const QUEUE: &str = "insert into vestnik.vst_change (source, key, at) \
         select $1, key, coalesce(at, clock_timestamp()) from unnest($2::text[], $3::timestamptz[]) w (key, at)";
    let is_replaced = |order: &mut Projected| published.is_known(&order.key) && rows.is_replaced(&order.key);
    let keys: BTreeSet<String> = orders.extract_if(.., is_replaced).map(|order| order.key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let written: Vec<_> = keys.iter().map(|key| publish.at(key)).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    transaction.execute(QUEUE, &[&source.id.0, &keys, &written]).await?;
    Ok(())
}

/// Computes the orders that existed before the source was attached or its mapping changed. Appends events only for
/// orders that were written since the source was attached, but that nobody saw with the mapping of that time.
async fn all_rows(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    taken: &WrittenAt,
    done: &mut Done,
) -> Result<(), QueryError> {
    transaction.batch_execute("set local statement_timeout = '60s'").await?;
    known_orders::remember(transaction, source).await?;
    let existing = existing_orders::find(transaction, source, derived, taken).await?;
    let mut queued = QueuedOrders::default();
    for (keys, publish) in [(existing.older, Publish::Nobody), (existing.newer, Publish::Unseen)] {
        for chunk in keys.chunks(existing_orders::CHUNK) {
            let rows = WrittenRows::default();
            let (mut published, mut orders) =
                compute_orders(transaction, source, derived, chunk, publish, &rows, done).await?;
            // The shop may have changed some of these orders since this batch took its changes. A later batch publishes
            // them with an event.
            queued.read(transaction, source, derived).await?;
            let later = queued.among(chunk, &published);
            if queued.is_incomplete() {
                let later: Vec<String> = later.iter().cloned().collect();
                project_again(transaction, source.id, &later).await?;
            }
            orders.retain(|order| !later.contains(&order.key));
            published.leave_out(&later);
            done.events += publish_changes(transaction, source, derived, published, orders, publish).await?;
        }
    }
    let limit = format!("set local statement_timeout = {DERIVE_MS}");
    Ok(transaction.batch_execute(&limit).await?)
}

/// The keys of the open orders: orders that are not completed, rejected or cancelled.
async fn open_keys(transaction: &Transaction<'_>, source: &Source) -> Result<Vec<String>, QueryError> {
    let sql = format!(
        "select distinct key from {} where status not in ('completed', 'rejected', 'cancelled')",
        projection(source.id)
    );
    let rows = transaction.query(&sql, &[]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}
