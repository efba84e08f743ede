//! Processes one batch of changes of a derived source (one whose orders come from SQL expressions). One transaction
//! takes the changes from the queue `vst_change`, computes the changed orders, and appends events for orders whose
//! values differ. If the transaction fails, the batch runs again, and no change becomes an event twice.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::infra::db::Transaction;
use time::OffsetDateTime;

use super::super::Source;
use super::affected_orders;
use super::batch_entries::{BatchEntries, Lead};
use super::compute::{Computed, DERIVE_MS, compute};
use super::existing_orders;
use super::failure::{self, Failure, NO_ORDER, WatchFailure};
use super::hidden_items;
use super::hidden_rows;
use super::hidden_tables;
use super::known_orders;
use super::missed::{project_again, project_all};
use super::project::{Projected, PublishedResults, publish_changes};
use super::publish::Publish;
use super::queue_progress::QueueProgress;
use super::queued_orders::QueuedOrders;
use super::seen_orders::SeenOrders;
use super::watch::NO_KEY;
use super::write;
use super::written_rows::WrittenRows;
use super::{Derived, projection};
use crate::infra::db::QueryError;

/// Maximum wait for a lock, milliseconds. The wait is short because the orders of other sources wait meanwhile.
const LOCK_MS: u32 = 1000;
/// Pause before Vestnik computes an order again, if the order's store could not be computed.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Pause before all open orders are computed again. Writes that may have changed any order can be many, and each open
/// order is computed once for all of them.
const RECOMPUTE_PAUSE: Duration = Duration::from_secs(1);

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
    let (mut entries, count) = BatchEntries::take(transaction, source, progress, retries).await?;
    let mut done = Done {
        taken: count,
        ..Done::default()
    };
    if count == 0 {
        return Ok(done);
    }
    if entries.is_truncated {
        write::truncate(transaction, source).await?;
    }
    if entries.is_without_keys {
        without_keys(transaction, source, derived, &mut entries).await?;
    }
    // Orders that changes of this batch affect are left out of `all_rows`, which appends no event for them.
    lead(transaction, source, &mut entries, &mut done).await?;
    if entries.is_any_changed {
        queue_open_orders(transaction, source).await?;
    }
    if entries.is_of_all_rows {
        all_rows(transaction, source, derived, &entries, &mut done).await?;
    }
    let usual = |key: &&String| !entries.due.contains(*key);
    let keys: Vec<String> = entries.orders.keys().filter(usual).cloned().collect();
    let due: Vec<String> = entries.due.iter().cloned().collect();
    for (keys, publish) in [
        (keys, Publish::Usual(&entries.orders)),
        (due, Publish::Now(&entries.orders)),
    ] {
        project(transaction, source, derived, &keys, publish, &entries.rows, &mut done).await?;
    }
    Ok(done)
}

/// Finds the orders whose rows were written while the column of the key was missing: each open order may have changed,
/// and new orders are among the rows that nobody saw. While the column is still missing, they wait for [`RETRY_PAUSE`].
async fn without_keys(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    entries: &mut BatchEntries,
) -> Result<(), QueryError> {
    const HAS_COLUMN: &str = "select exists (select from pg_attribute \
         where attrelid = to_regclass($1) and attname = $2 and not attisdropped)";
    let has_column: bool = transaction
        .query_one(HAS_COLUMN, &[&source.mapping.table, &derived.key])
        .await?
        .try_get(0)?;
    if has_column {
        (entries.is_any_changed, entries.is_of_all_rows) = (true, true);
        return Ok(());
    }
    Ok(write::hold_back(transaction, source, &[(None, NO_KEY.to_owned())], RETRY_PAUSE).await?)
}

/// Finds the orders that the written rows of watched tables affect, and adds the keys of these orders to the batch.
async fn lead(
    transaction: &mut Transaction<'_>,
    source: &Source,
    entries: &mut BatchEntries,
    done: &mut Done,
) -> Result<(), QueryError> {
    const AGAIN: &str =
        "insert into vestnik.vst_change (source, watch, key, at) select $1, $2, key, $4 from unnest($3::text[]) key";
    let Some(derived) = &source.mapping.derived else {
        return Ok(());
    };
    for (at, watch) in derived.watch.iter().enumerate() {
        let leads: Vec<Lead> = entries.leads.extract_if(.., |lead| lead.watch == at + 1).collect();
        let is_retried = entries.retried_watches.contains(&failure::place_of_watch(&watch.table));
        let now = is_retried.then(OffsetDateTime::now_utc);
        let Some(newest) = leads.iter().map(|lead| lead.at).max().or(now) else {
            continue;
        };
        if watch.keys.is_none() {
            for lead in leads {
                entries.add(lead.value, lead.at);
            }
            continue;
        }
        let values: Vec<String> = leads.into_iter().map(|lead| lead.value).collect();
        let affected = affected_orders::find(transaction, source, at + 1, values).await?;
        for key in affected.keys {
            entries.add(key, newest);
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
            queue_open_orders(transaction, source).await?;
            if ended == WatchFailure::OfAll {
                project_all(transaction, source.id).await?;
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
    let Orders { published, orders, .. } =
        compute_orders(transaction, source, derived, keys, publish, rows, done).await?;
    done.events += publish_changes(transaction, source, derived, published, orders, publish).await?;
    Ok(())
}

/// Computed orders, and the results that clients last received.
struct Orders {
    published: PublishedResults,
    orders: Vec<Projected>,
    /// The keys of the orders that other orders replace. They are in `published` only, and in the queue.
    replaced: BTreeSet<String>,
}

/// Computes the orders with these keys, and saves the failures. If an order's store cannot be computed, Vestnik computes the order again after [`RETRY_PAUSE`].
async fn compute_orders(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    keys: &[String],
    publish: Publish<'_>,
    rows: &WrittenRows,
    done: &mut Done,
) -> Result<Orders, QueryError> {
    let published = PublishedResults::lock(transaction, source, keys).await?;
    let mut computed = compute(transaction, source, derived, keys, &published).await?;
    hidden_rows::find(transaction, source, derived, keys, &mut computed, &published, rows).await?;
    hidden_tables::find(transaction, source, derived, keys, &mut computed, &published, rows).await?;
    hidden_items::find(transaction, source, derived, &mut computed, &published, publish).await?;
    let Computed {
        mut orders,
        without_store,
        hidden,
        failures,
    } = computed;
    let replaced = replace(transaction, source, derived, &mut orders, &published, rows, publish).await?;
    let written = without_store.iter().map(|key| (publish.at(key), key.clone()));
    write::hold_back(transaction, source, &written.collect::<Vec<_>>(), RETRY_PAUSE).await?;
    let mut unseen = without_store;
    unseen.extend(hidden);
    done.readable_again += failure::save(transaction, source.id, keys, &failures, &unseen).await?;
    done.failures.extend(failures);
    Ok(Orders {
        published,
        orders,
        replaced,
    })
}

/// Removes the orders from `orders` whose row replaces a row with the same key, so that this batch publishes that the
/// old order is gone. Returns their keys, and puts them into the queue again: the next batch publishes the new orders. In one
/// transaction, both events would be one change of one order.
async fn replace(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    orders: &mut Vec<Projected>,
    published: &PublishedResults,
    rows: &WrittenRows,
    publish: Publish<'_>,
) -> Result<BTreeSet<String>, QueryError> {
    const QUEUE: &str = "insert into vestnik.vst_change (source, key, at) \
         select $1, key, coalesce(at, clock_timestamp()) from unnest($2::text[], $3::timestamptz[]) w (key, at)";
    let is_replaced = |order: &mut Projected| {
        let is_another = || published.is_another(order, publish.identity(), derived);
        published.is_known(&order.key) && (rows.is_replaced(&order.key) || is_another())
    };
    let keys: BTreeSet<String> = orders.extract_if(.., is_replaced).map(|order| order.key).collect();
    if keys.is_empty() {
        return Ok(keys);
    }
    let written: Vec<_> = keys.iter().map(|key| publish.at(key)).collect();
    let queued: Vec<&String> = keys.iter().collect();
    transaction.execute(QUEUE, &[&source.id.0, &queued, &written]).await?;
    Ok(keys)
}

/// Computes the orders that existed before the source was attached, or before its mapping or a policy changed. See
/// [`Publish::Existing`] for the orders that make an event.
async fn all_rows(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    entries: &BatchEntries,
    done: &mut Done,
) -> Result<(), QueryError> {
    transaction.batch_execute(OF_MANY).await?;
    known_orders::remember(transaction, source).await?;
    let existing = existing_orders::find(transaction, source, derived, &entries.orders).await?;
    let mut queued = QueuedOrders::default();
    let seen = &SeenOrders::read(transaction, source).await?;
    for (keys, is_written) in [(existing.older, false), (existing.newer, true)] {
        let told = entries.told.as_deref();
        let publish = Publish::Existing { seen, is_written, told };
        for chunk in keys.chunks(existing_orders::CHUNK) {
            let rows = WrittenRows::default();
            let Orders {
                mut published,
                mut orders,
                replaced,
            } = compute_orders(transaction, source, derived, chunk, publish, &rows, done).await?;
            // The shop may have changed some of these orders since this batch took its changes. A later batch publishes
            // them with an event.
            queued.read(transaction, source, derived).await?;
            let mut later = queued.among(chunk, &published);
            later.retain(|key| !replaced.contains(key));
            if queued.is_incomplete() {
                let later: Vec<String> = later.iter().cloned().collect();
                project_again(transaction, source.id, &later).await?;
            }
            orders.retain(|order| !later.contains(&order.key));
            published.leave_out(&later);
            done.events += publish_changes(transaction, source, derived, published, orders, publish).await?;
        }
    }
    Ok(transaction.batch_execute(&of_usual()).await?)
}

/// Has the open orders computed again, [`RECOMPUTE_PAUSE`] later: orders that are not completed, rejected or cancelled.
/// They are many, so they wait beside the queue of changes, and new changes pass them.
async fn queue_open_orders(transaction: &Transaction<'_>, source: &Source) -> Result<(), QueryError> {
    let sql = format!(
        "select distinct key from {} where status not in ('completed', 'rejected', 'cancelled')",
        projection(source.id)
    );
    transaction.batch_execute(OF_MANY).await?;
    let mut open = Vec::new();
    for row in transaction.query(&sql, &[]).await? {
        open.push((None, row.try_get(0)?));
    }
    write::hold_back(transaction, source, &open, RECOMPUTE_PAUSE).await?;
    Ok(transaction.batch_execute(&of_usual()).await?)
}

/// Sets the limit of a statement about all orders of a source.
const OF_MANY: &str = "set local statement_timeout = '60s'";

/// Sets the usual limit of a statement again.
fn of_usual() -> String {
    format!("set local statement_timeout = {DERIVE_MS}")
}
