//! Finds the current problems of a derived source (one whose orders come from SQL expressions), for the source's health
//! report.

use crate::infra::db::GenericClient;

use super::super::access::Access;
use super::super::catalog::Table;
use super::super::missing_right::is_named;
use super::super::replaced_table::{self, Replaced};
use super::super::sql::ident;

use super::answer::BrokenStatement;
use super::rights::{self, named_table};
use super::watch::watch_function;
use super::{Derived, UNREADABLE_STATUS, failure, function, has_projection, projection, tables_read, watch_column};
use crate::domain::event::SourceId;

/// The lines of a health report about a derived source. Each line says what to do.
#[derive(Debug, Default)]
pub(in crate::sources) struct State {
    /// The current problems of the derived source, one line each.
    pub troubles: Vec<String>,
    /// Warnings for the source's owner. A source with warnings only has no current problem.
    pub notes: Vec<String>,
}

/// Finds the current problems of a derived source (one whose orders come from SQL expressions). `name` is the source's
/// name, and `table` the shop's table of orders.
pub(in crate::sources) async fn examine(
    client: &impl GenericClient,
    source: SourceId,
    name: &str,
    table: &Table,
    derived: &Derived,
) -> Result<State, tokio_postgres::Error> {
    const THERE: &str = "select to_regprocedure($1) is not null and to_regclass($2) is not null";
    let mut troubles = failure::lines(client, source, name, &table.schema).await?;
    let mut reads = vec![table.quoted.clone()];
    reads.extend(tables_read(derived));
    let hidden = rights::of_expressions(client, Some(source), table, reads.iter()).await?;
    troubles.extend(hidden.missing);
    let Access { missing, mut notes } = rights::of_serving_roles(client, table, derived).await?;
    notes.extend(hidden.notes);
    for BrokenStatement { line, grant } in super::answer::broken(client, table, derived).await? {
        match grant {
            // `missing` has this right already.
            Some(grant) if is_named(&missing, &grant) => {}
            Some(grant) => troubles.push(format!("an answer cannot be saved: {line}: {grant}")),
            None => troubles.push(format!(
                "an answer cannot be saved: {line}: `vestnik source edit {name}`"
            )),
        }
    }
    troubles.extend(missing);
    let (table, schema) = (table.quoted.as_str(), table.schema.as_str());
    let is_there: bool = client
        .query_one(THERE, &[&function::signature(source), &projection(source)])
        .await?
        .try_get(0)?;
    if is_there {
        troubles.extend(without_store(client, source).await?);
    } else {
        troubles.push("its function or its table is gone: run `vestnik migrate`".to_owned());
    }
    troubles.extend(without_triggers(client, source, table, schema, derived).await?);
    for watch in &derived.watch {
        if watch_column::is_gone(client, &watch.table, &watch.column, schema).await? {
            troubles.push(format!(
                "{} has no column {} now, so each write to it computes all open orders again: `vestnik source edit {name}`",
                watch.table, watch.column
            ));
        }
    }
    Ok(State { troubles, notes })
}

/// Reports tables without triggers: somebody has dropped the triggers or switched them off, or another table has taken the
/// table's place. `table` is the shop's table of orders, quoted and with its schema.
async fn without_triggers(
    client: &impl GenericClient,
    source: SourceId,
    table: &str,
    schema: &str,
    derived: &Derived,
) -> Result<Vec<String>, tokio_postgres::Error> {
    const CARRIED: &str = "select exists (select from pg_trigger g where g.tgfoid = to_regprocedure($1 || '()') and g.tgenabled in ('O', 'A'))";
    let watched = format!("select {}::oid", named_table("$1", "$2"));
    let mut troubles = Vec::new();
    for number in 0..=derived.watch.len() {
        let watch = number.checked_sub(1).and_then(|at| derived.watch.get(at));
        let (function, replaced) = match watch {
            None => (
                super::super::trigger::function_name(source),
                replaced_table::find(client, source, table).await?,
            ),
            Some(watch) => {
                let function = watch_function(source, number);
                let oid = client.query_one(&watched, &[&watch.table, &ident(schema)]).await?;
                let replaced = match oid.try_get::<_, Option<u32>>(0)? {
                    Some(oid) => replaced_table::of_function(client, &function, oid).await?,
                    None => None,
                };
                (function, replaced)
            }
        };
        let trouble = replaced.as_ref().and_then(Replaced::trouble);
        let is_carried: bool = client.query_one(CARRIED, &[&function]).await?.try_get(0)?;
        if trouble.is_some() {
            troubles.extend(trouble);
        } else if !is_carried || replaced.is_some() {
            let of = watch.map_or(table, |watch| watch.table.as_str());
            troubles.push(format!(
                "the triggers of {of} are gone, so its rows make no events: run `vestnik migrate`"
            ));
        }
    }
    Ok(troubles)
}

/// Reports open orders that have no store, because no client sees an order without a store.
async fn without_store(client: &impl GenericClient, source: SourceId) -> Result<Option<String>, tokio_postgres::Error> {
    let sql = format!(
        "select count(*), (array_agg(key order by created_at desc, told_at desc))[1] from {} \
         where store_id = '' and status not in ('completed', 'rejected', 'cancelled')",
        projection(source)
    );
    let row = client.query_one(&sql, &[]).await?;
    let count: i64 = row.try_get(0)?;
    Ok((count > 0).then(|| {
        let newest: Option<&str> = row.try_get(1).unwrap_or_default();
        let newest = newest.unwrap_or_default();
        let orders = if count == 1 { "order" } else { "orders" };
        format!(
            "open orders have no store, so nobody sees them: correct `derived.store`, or give them the status hidden{}{count} {orders}, the newest with key {newest}",
            failure::COUNTED
        )
    }))
}

/// The values that clients last received for the orders with these keys, as JSON objects with the status. Hidden orders
/// have none, and neither have orders whose status cannot be read: [`examine`] reports their failures, and a missing
/// projection table, too.
pub(in crate::sources) async fn published(
    client: &impl GenericClient,
    source: SourceId,
    keys: &[&str],
) -> Result<Vec<String>, tokio_postgres::Error> {
    if !has_projection(client, source).await? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "select distinct json_build_object('status', p.status)::text from {} p where p.key = any ($1) and not (p.status = $3 \
             and exists (select from vestnik.vst_projection_failure f where f.source = $2 and f.key = p.key))",
        projection(source)
    );
    let rows = client.query(&sql, &[&keys, &source.0, &UNREADABLE_STATUS]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
