//! Tables of the mapping's SQL expressions whose rows are hidden by row level security. Postgres gives no error for
//! hidden rows: an expression then gives another value, and an inner join leaves out the order. If no row of a table can
//! be read, an open order that people see is not removed for this reason. It keeps its last values.

use std::collections::{BTreeSet, HashSet};

use super::super::Source;
use super::super::row_policy;
use super::super::table_name::TableName;
use super::compute::Computed;
use super::failure::Failure;
use super::project::PublishedResults;
use super::written_rows::WrittenRows;
use super::{Derived, HIDDEN, function, hidden_rows, reader, tables_read};
use crate::infra::db::Transaction;

/// Finds the open orders among `keys` that clients see, and that are now hidden or left out, while row level security
/// hides all rows of a table. Gives them their last values, and adds a failure for each to `computed`.
pub(super) async fn find(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    keys: &[String],
    computed: &mut Computed,
    published: &PublishedResults,
    rows: &WrittenRows,
) -> Result<(), tokio_postgres::Error> {
    let mut lost = lost(keys, computed, published);
    lost.retain(|key| rows.is_gone(key) != Some(true));
    if lost.is_empty() {
        return Ok(());
    }
    let tables = tables_read(derived);
    let Some(hiding) = HidingTables::find(transaction, source, &tables, Hides::EveryRow).await? else {
        return Ok(());
    };
    let reason = format!(
        "row level security of {} hides every row from role {}, which reads the expressions, so orders that people see keep \
         their last values: {}",
        hiding.names, hiding.reader, hiding.advice
    );
    let readable: BTreeSet<String> = hidden_rows::readable(transaction, source, &lost)
        .await?
        .into_iter()
        .collect();
    for key in readable {
        computed.orders.retain(|order| order.key != key);
        computed.failures.push(Failure::hidden_row(&key, &reason));
        computed.orders.extend(published.kept(&key, derived));
    }
    Ok(())
}

/// The keys among `keys` of the orders that are open for clients of a store, and that this store no longer gets.
pub(super) fn lost<'a>(keys: &'a [String], computed: &Computed, published: &PublishedResults) -> Vec<&'a String> {
    let shown = computed.orders.iter().filter(|order| order.status != HIDDEN);
    let shown: HashSet<(&str, &str)> = shown.map(|order| (order.key.as_str(), order.store.as_str())).collect();
    let is_lost = |key: &&String| {
        let is_unreadable = computed.without_store.contains(*key) || computed.hidden.contains(*key);
        let mut stores = published.open_stores(key);
        !is_unreadable && stores.any(|store| !shown.contains(&(key.as_str(), store)))
    };
    keys.iter().filter(is_lost).collect()
}

/// Which rows of a table row level security hides from the role that runs the expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hides {
    /// Every row: no policy lets the role read a row.
    EveryRow,
    /// Perhaps some rows: the policies do not let the role read every row.
    SomeRows,
}

/// Tables whose rows are hidden.
pub(super) struct HidingTables {
    /// The tables, as SQL names.
    pub names: String,
    /// The role that runs the expressions, as an SQL name.
    pub reader: String,
    /// What to do so that the role can read every row.
    pub advice: String,
}

impl HidingTables {
    /// Finds the tables among those with the names `named` that hide rows. `None`: no table does.
    pub async fn find(
        transaction: &Transaction<'_>,
        source: &Source,
        named: &[String],
        hides: Hides,
    ) -> Result<Option<Self>, tokio_postgres::Error> {
        let lets = match hides {
            Hides::EveryRow => row_policy::has_policy("c.oid", "'r'", "r.oid"),
            Hides::SomeRows => row_policy::lets_every_row("c.oid", "'r'", "r.oid"),
        };
        let hidden = format!(
            "select distinct quote_ident(r.rolname), format('%I.%I', n.nspname, c.relname), {} \
             from pg_proc f join pg_roles r on r.oid = f.proowner and not r.rolsuper and not r.rolbypassrls \
             cross join pg_class orders join pg_namespace home on home.oid = orders.relnamespace \
             cross join unnest($3::text[], $4::text[]) named (schema, name) \
             join pg_namespace n on n.nspname = coalesce(named.schema, home.nspname) \
             join pg_class c on c.relnamespace = n.oid and c.relname = named.name \
             where f.oid = to_regprocedure($1) and orders.oid = to_regclass($2) and c.relrowsecurity \
               and (c.relforcerowsecurity or not pg_has_role(r.oid, c.relowner, 'usage')) and not {lets} \
             order by 2",
            row_policy::remedy("c.oid", "'r'", "r.oid", "orders.oid")
        );
        let signature = function::signature(source.id);
        let read: Vec<TableName> = named.iter().filter_map(|name| TableName::read(name)).collect();
        let schemas: Vec<&Option<String>> = read.iter().map(|name| &name.schema).collect();
        let bare: Vec<&str> = read.iter().map(|name| name.name.as_str()).collect();
        let rows = transaction
            .query(&hidden, &[&signature, &source.mapping.table, &schemas, &bare])
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
        Ok((!names.is_empty()).then(|| Self {
            names: names.join(", "),
            reader: reader.to_owned(),
            advice: advice.join("; "),
        }))
    }
}
