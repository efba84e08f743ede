//! Finds written orders whose rows row level security hides from the role that reads the expressions. No write of the
//! shop follows when a policy lets the role read them, so the projector keeps their keys and looks for them again.

use std::collections::{BTreeSet, HashSet};

use super::super::Source;
use super::super::access;
use super::compute::Computed;
use super::failure::Failure;
use super::function;
use super::project::PublishedResults;
use crate::infra::db::Transaction;

/// What the changes of a batch say of the rows of the shop's table of orders, by the orders' keys.
#[derive(Debug, Default)]
pub(super) struct WrittenRows {
    /// Rows that were written and not deleted since.
    written: BTreeSet<String>,
    /// Rows that were deleted, or have another key now.
    gone: BTreeSet<String>,
    /// Orders that are tried again, because they failed before.
    pub retried: BTreeSet<String>,
}

impl WrittenRows {
    /// Records a change of a row. The changes of one row come in the order in which they were made.
    pub fn change(&mut self, key: &str, is_gone: bool) {
        let (now, before) = match is_gone {
            true => (&mut self.gone, &mut self.written),
            false => (&mut self.written, &mut self.gone),
        };
        before.remove(key);
        now.insert(key.to_owned());
    }
}

/// The failures of those orders with these keys that have no computed result, because row level security hides their
/// rows.
pub(super) async fn find(
    transaction: &Transaction<'_>,
    source: &Source,
    keys: &[String],
    computed: &Computed,
    published: &PublishedResults,
    rows: &WrittenRows,
) -> Result<Vec<Failure>, tokio_postgres::Error> {
    let found: HashSet<&String> = computed.orders.iter().map(|order| &order.key).collect();
    let is_missing = |key: &&String| {
        let was_there = rows.written.contains(*key) || rows.retried.contains(*key) || published.is_known(key);
        was_there && !rows.gone.contains(*key) && !found.contains(key) && !computed.without_store.contains(*key)
    };
    let mut missing: Vec<&String> = keys.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let Some(RowSecurity { reason, is_open }) = row_security(transaction, source).await? else {
        return Ok(Vec::new());
    };
    // The policy may have come after the orders were computed. So an order is looked for once more.
    if is_open {
        missing.retain(|key| !rows.retried.contains(*key));
    }
    let visible = format!("select {}($1::text[], $2)", function::name(source.id));
    for row in transaction.query(&visible, &[&missing, &function::KEY]).await? {
        let key = row.try_get::<_, Vec<Option<String>>>(0)?.into_iter().next().flatten();
        // The row can be read: the mapping's joins leave it out.
        missing.retain(|missing| key.as_ref() != Some(*missing));
    }
    Ok(missing.iter().map(|key| Failure::hidden_row(key, &reason)).collect())
}

/// Row level security that holds for the role that reads the expressions.
struct RowSecurity {
    /// What it does, and what to do.
    reason: String,
    /// Whether its policies let the role read every row.
    is_open: bool,
}

/// The row level security of the shop's table of orders; `None`: it does not hold for the role that reads.
async fn row_security(
    transaction: &Transaction<'_>,
    source: &Source,
) -> Result<Option<RowSecurity>, tokio_postgres::Error> {
    let active = format!(
        "select quote_ident(r.rolname), {} \
         from pg_proc f join pg_roles r on r.oid = f.proowner and not r.rolsuper and not r.rolbypassrls cross join pg_class c \
         where f.oid = to_regprocedure($1) and c.oid = to_regclass($2) and c.relrowsecurity \
           and (c.relforcerowsecurity or not pg_has_role(r.oid, c.relowner, 'usage'))",
        access::lets_every_row("c.oid", "'r'", "r.oid")
    );
    let table = &source.mapping.table;
    let found = transaction
        .query_opt(&active, &[&function::signature(source.id), table])
        .await?;
    let Some(row) = found else { return Ok(None) };
    let role: &str = row.try_get(0)?;
    Ok(Some(RowSecurity {
        reason: format!(
            "row level security of {table} hides written orders from role {role}, which reads the expressions, so nobody sees them: \
             create policy vestnik_select on {table} for select to {role} using (true), and give orders that are not to be seen the \
             status hidden"
        ),
        is_open: row.try_get(1)?,
    }))
}
