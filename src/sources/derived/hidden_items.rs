//! Finds open orders without items where row level security may hide the rows of their items from the role that runs
//! the mapping's SQL expressions. Postgres gives no error for hidden rows, so a kitchen would see an order of nothing.

use std::collections::HashSet;

use super::super::Source;
use super::super::statement_uses::tables;
use super::compute::Computed;
use super::failure::Failure;
use super::hidden_tables::{Hides, HidingTables};
use super::project::{Projected, PublishedResults};
use super::publish::{Publish, is_open};
use super::{Derived, HIDDEN};
use crate::domain::status::Status;
use crate::infra::db::Transaction;

/// Adds a failure to `computed` for each open order without items, if row level security holds for a table of the
/// mapping's query `items`, and its policies do not let the role read every row.
pub(super) async fn find(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    computed: &mut Computed,
    published: &PublishedResults,
    publish: Publish<'_>,
) -> Result<(), tokio_postgres::Error> {
    let Some(items) = &derived.items else {
        return Ok(());
    };
    let with_items = computed.orders.iter().filter(|order| order.has_items);
    let mut told: HashSet<&String> = with_items.map(|order| &order.key).collect();
    told.extend(computed.failures.iter().map(|failure| &failure.key));
    // The items of a new order may be written after it.
    let waits = |order: &Projected| {
        let is_held_back = matches!(publish, Publish::Usual(_)) && !derived.wait_for_items.is_zero();
        is_held_back && order.status == Status::Pending.as_str() && !published.is_known(&order.key)
    };
    let is_empty = |order: &&Projected| {
        order.status != HIDDEN && is_open(&order.status) && !waits(order) && !told.contains(&order.key)
    };
    let empty: HashSet<String> = computed
        .orders
        .iter()
        .filter(is_empty)
        .map(|order| order.key.clone())
        .collect();
    if empty.is_empty() {
        return Ok(());
    }
    if let Some(hiding) = HidingTables::find(transaction, source, &tables(items), Hides::SomeRows).await? {
        let reason = format!(
            "row level security of {} holds for role {}, which reads the expressions, and open orders have no items: {}",
            hiding.names, hiding.reader, hiding.advice
        );
        let failures = empty.iter().map(|key| Failure::hidden_row(key, &reason));
        computed.failures.extend(failures);
    }
    Ok(())
}
