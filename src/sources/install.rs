//! Installs, checks and removes the trigger function and the triggers of a source in the database.

use tokio_postgres::Transaction;

use crate::infra::db::GenericClient;

use super::attach_error::Error;
use super::catalog::Table;
use super::mapping::Mapping;
use super::recorder::{self, FunctionOwner};
use super::trigger::{body_of, function_name, function_sql, triggers, triggers_sql};
use super::trigger_form::are_installed;
use crate::domain::event::SourceId;
use crate::infra::table_lock::Progress;

/// Says which parts of a source [`install`] has installed, because they were missing or outdated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Installed {
    /// Whether the trigger function was installed.
    pub function: bool,
    /// Whether triggers were installed, because the table lacked some or all of them.
    pub triggers: bool,
    /// Whether triggers were removed from another table, because they called the source's function.
    pub moved: bool,
}

impl Installed {
    /// Whether the call of [`install`] changed anything in the database.
    pub fn any(self) -> bool {
        self.function || self.triggers || self.moved
    }
}

/// Installs the function and the triggers of a source where they are missing or outdated.
pub(super) async fn install(
    transaction: &Transaction<'_>,
    id: SourceId,
    table: &Table,
    mapping: &Mapping,
    owner: FunctionOwner,
    progress: Progress<'_>,
) -> Result<Installed, Error> {
    let sql = function_sql(id, table, mapping);
    let function = function_name(id);
    let mut done = Installed::default();
    if !has_function(transaction, &function, body_of(&sql), owner).await? {
        transaction.batch_execute(&sql).await?;
        transaction
            .batch_execute(&format!("revoke all on function {function}() from public"))
            .await?;
        done.function = true;
    }
    if !has_right_triggers(transaction, &function, table).await? {
        transaction.batch_execute(&triggers_sql(id, table)).await?;
        done.triggers = true;
    }
    let strange = triggers_elsewhere(transaction, &function, table).await?;
    for table_name in tables_of(&strange) {
        let is_partition = |it: &Carried| it.table == *table_name && it.root == Some(table.oid);
        progress(&match strange.iter().any(is_partition) {
            true => format!(
                "took the earlier triggers off {table_name}: it is a partition of {} now",
                table.quoted
            ),
            false => format!(
                "took the triggers off {table_name}: it is no part of {} now",
                table.quoted
            ),
        });
        done.moved = true;
    }
    transaction.batch_execute(&drop_sql(&strange)).await?;
    if done.any() && owner == FunctionOwner::Role {
        recorder::own(transaction, &function).await?;
    }
    Ok(done)
}

/// Whether the function exists with this body and this owner. The owner must be the recorder role, if this role can be
/// used.
pub(super) async fn has_function(
    client: &impl GenericClient,
    function: &str,
    body: &str,
    owner: FunctionOwner,
) -> Result<bool, Error> {
    const FUNCTION: &str =
        "select prosrc, pg_get_userbyid(proowner) from pg_proc where oid = to_regprocedure($1 || '()')";
    let row = client.query_opt(FUNCTION, &[&function]).await?;
    let Some(row) = row else { return Ok(false) };
    let owned = owner == FunctionOwner::Attacher || row.try_get::<_, &str>(1)? == recorder::ROLE;
    Ok(owned && row.try_get::<_, &str>(0)? == body)
}

/// Whether the table has all triggers of the source, in the form that this program gives them.
pub(super) async fn has_right_triggers(
    client: &impl GenericClient,
    function: &str,
    table: &Table,
) -> Result<bool, tokio_postgres::Error> {
    are_installed(client, &table.with_children(), &triggers(table), function).await
}

/// A trigger that calls a source's function. The copies that Postgres makes for the partitions of a table are left out:
/// they belong to the trigger of the partitioned table, and cannot be dropped alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Carried {
    /// The table of the trigger, with its schema, quoted for SQL.
    pub table: String,
    /// The trigger's name, quoted for SQL.
    trigger: String,
    /// The partitioned table at the top, if the trigger's table is a partition.
    pub root: Option<u32>,
}

/// All triggers that call the function, ordered by their tables.
pub(super) async fn carried(
    client: &impl GenericClient,
    function: &str,
) -> Result<Vec<Carried>, tokio_postgres::Error> {
    const CARRIED: &str = "select format('%I.%I', n.nspname, c.relname), quote_ident(g.tgname), \
             case when c.relispartition then pg_partition_root(c.oid)::oid end \
         from pg_trigger g join pg_class c on c.oid = g.tgrelid join pg_namespace n on n.oid = c.relnamespace \
         where g.tgfoid = to_regprocedure($1 || '()') and g.tgparentid = 0 order by 1, 2";
    let carried = |row: &tokio_postgres::Row| {
        Ok(Carried {
            table: row.try_get(0)?,
            trigger: row.try_get(1)?,
            root: row.try_get(2)?,
        })
    };
    client.query(CARRIED, &[&function]).await?.iter().map(carried).collect()
}

/// The triggers that call the function on tables that are neither the source's table nor inherit from it. For example,
/// the shop has renamed the source's table and created a new table with the old name.
pub(super) async fn triggers_elsewhere(
    client: &impl GenericClient,
    function: &str,
    table: &Table,
) -> Result<Vec<Carried>, tokio_postgres::Error> {
    let mut strange = carried(client, function).await?;
    strange.retain(|it| !table.with_children().contains(&&it.table));
    Ok(strange)
}

/// The tables of these triggers, each once.
pub(super) fn tables_of(triggers: &[Carried]) -> Vec<&String> {
    let mut tables: Vec<&String> = triggers.iter().map(|it| &it.table).collect();
    tables.dedup();
    tables
}

/// SQL that drops these triggers.
pub(super) fn drop_sql(triggers: &[Carried]) -> String {
    let drop = |it: &Carried| format!("drop trigger if exists {} on {};\n", it.trigger, it.table);
    triggers.iter().map(drop).collect()
}
