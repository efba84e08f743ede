//! Installs, checks and removes the trigger function and the triggers of a source in the database.

use tokio_postgres::Transaction;

use crate::infra::db::GenericClient;

use super::attach_error::Error;
use super::catalog::Table;
use super::mapping::Mapping;
use super::recorder::{self, FunctionOwner};
use super::trigger::{body_of, function_name, function_sql, trigger_names, triggers, triggers_sql};
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
    for strange in triggers_elsewhere(transaction, &function, table).await? {
        progress(&format!(
            "took the triggers off {strange}: its name is another table's now"
        ));
        transaction.batch_execute(&drop_triggers_sql(&strange)).await?;
        done.moved = true;
    }
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

/// The names of other tables whose triggers call the function. For example, the shop has renamed the source's table and
/// created a new table with the old name.
async fn triggers_elsewhere(client: &impl GenericClient, function: &str, table: &Table) -> Result<Vec<String>, Error> {
    const ELSEWHERE: &str = "select distinct format('%I.%I', n.nspname, c.relname) from pg_trigger g \
         join pg_class c on c.oid = g.tgrelid join pg_namespace n on n.oid = c.relnamespace \
         where g.tgfoid = to_regprocedure($1 || '()') and g.tgparentid = 0 and format('%I.%I', n.nspname, c.relname) <> all ($2)";
    let rows = client.query(ELSEWHERE, &[&function, &table.with_children()]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// SQL that drops the triggers of a source from a table.
pub(super) fn drop_triggers_sql(table: &str) -> String {
    let drop = |name: &&str| format!("drop trigger if exists {name} on {table};\n");
    trigger_names().iter().map(drop).collect()
}

/// The names of the tables whose triggers call the function, with their schemas, quoted for SQL.
pub(super) async fn carriers(client: &impl GenericClient, function: &str) -> Result<Vec<String>, Error> {
    const CARRIERS: &str = "select distinct format('%I.%I', n.nspname, c.relname) from pg_trigger g \
         join pg_class c on c.oid = g.tgrelid join pg_namespace n on n.oid = c.relnamespace \
         where g.tgfoid = to_regprocedure($1 || '()') and g.tgparentid = 0 order by 1";
    let rows = client.query(CARRIERS, &[&function]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}
