//! Finds open orders without items where row level security may hide the rows of their items from the role that runs
//! the mapping's SQL expressions. Postgres gives no error for hidden rows, so a kitchen would see an order of nothing.

use std::collections::HashSet;

use super::super::Source;
use super::super::row_policy;
use super::super::statement_uses::tables;
use super::compute::Computed;
use super::failure::Failure;
use super::project::{Projected, Publish, PublishedResults};
use super::{Derived, HIDDEN, function, reader, rights};
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
    let is_empty = |order: &&Projected| is_open(&order.status) && !waits(order) && !told.contains(&order.key);
    let empty: HashSet<String> = computed
        .orders
        .iter()
        .filter(is_empty)
        .map(|order| order.key.clone())
        .collect();
    if empty.is_empty() {
        return Ok(());
    }
    if let Some(reason) = reason(transaction, source, items).await? {
        let failures = empty.iter().map(|key| Failure::hidden_row(key, &reason));
        computed.failures.extend(failures);
    }
    Ok(())
}

/// Whether people still work on an order with this status. Panels also show a status that the mapping does not know.
fn is_open(status: &str) -> bool {
    status != HIDDEN && Status::from_name(status).is_none_or(Status::is_open)
}

/// The text for the health report, about the tables of the query `items` whose rows may be hidden. `None`: the role
/// reads every row.
async fn reason(
    transaction: &Transaction<'_>,
    source: &Source,
    items: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    let hidden = format!(
        "select distinct quote_ident(r.rolname), format('%I.%I', n.nspname, c.relname), {} \
         from pg_proc f join pg_roles r on r.oid = f.proowner and not r.rolsuper and not r.rolbypassrls \
         cross join pg_class orders join pg_namespace home on home.oid = orders.relnamespace cross join unnest($3::text[]) named (name) \
         join pg_class c on c.oid = {} join pg_namespace n on n.oid = c.relnamespace \
         where f.oid = to_regprocedure($1) and orders.oid = to_regclass($2) and c.relrowsecurity \
           and (c.relforcerowsecurity or not pg_has_role(r.oid, c.relowner, 'usage')) and not {} \
         order by 2",
        row_policy::remedy("c.oid", "'r'", "r.oid", "orders.oid"),
        rights::named_table("named.name", "quote_ident(home.nspname)"),
        row_policy::lets_every_row("c.oid", "'r'", "r.oid"),
    );
    let (signature, tables) = (function::signature(source.id), tables(items));
    let rows = transaction
        .query(&hidden, &[&signature, &source.mapping.table, &tables])
        .await?;
    let (mut names, mut advice, mut reader): (Vec<&str>, Vec<String>, &str) = Default::default();
    for row in &rows {
        reader = row.try_get(0)?;
        names.push(row.try_get(1)?);
        let advised = row_policy::advice(row.try_get(2)?, reader, &reader::own_role(reader));
        if !advice.contains(&advised) {
            advice.push(advised);
        }
    }
    let (names, advice) = (names.join(", "), advice.join("; "));
    Ok((!names.is_empty()).then(|| {
        format!(
            "row level security of {names} holds for role {reader}, which reads the expressions, and open orders have no items: {advice}"
        )
    }))
}
