//! Installs the parts of a derived source (one whose orders come from SQL expressions) in the database. The parts are
//! the SQL function that computes orders, the projection table with the results, and the triggers of all watched
//! tables.

use tokio_postgres::Transaction;

use super::super::attach_error::Error;
use super::super::install::Installed;
use super::super::recorder::FunctionOwner;
use super::super::trigger::body_of;
use super::check::Checked;
use super::kept_answer::ONLY_ANSWER;
use super::missed::{project_all, tell_all};
use super::{Derived, RecordedColumn, function, has_projection, order_identity, projection, reader};
use crate::domain::event::SourceId;
use crate::infra::db::GenericClient;
use crate::infra::table_lock::Progress;

/// What a derived source was before it is installed again. It was attached, and derived.
#[derive(Debug)]
pub(in crate::sources) struct Earlier {
    /// Whether its mapping was the same.
    pub is_same_mapping: bool,
    /// The names of the values that tell one order from another, see `order_identity.rs`.
    identity: String,
}

impl Earlier {
    /// `before` and `now` have the types of the expressions before and now.
    pub fn new(is_same_mapping: bool, before: &[RecordedColumn], now: &[RecordedColumn]) -> Self {
        let identity = match is_same_mapping {
            true => order_identity::comparable(before, now),
            false => String::new(),
        };
        Self {
            is_same_mapping,
            identity,
        }
    }
}

/// What is known of a source before [`install`].
#[derive(Debug, Clone, Copy)]
pub(in crate::sources) struct Before<'a> {
    /// Whether the source is new, was detached, or has changed.
    pub reads_other_columns: bool,
    /// The source as it was. `None`: it was not attached, or not derived.
    pub earlier: Option<&'a Earlier>,
}

/// Installs the parts of a derived source that are missing or outdated. If the source reads other columns than `before`,
/// or if a part was installed, the projector (a background task)
/// computes all existing orders again. No event is appended for these orders, unless the triggers of an earlier source
/// were missing: then what the shop wrote meanwhile is told.
pub(in crate::sources) async fn install(
    transaction: &mut Transaction<'_>,
    source: SourceId,
    derived: &Derived,
    checked: &Checked,
    owner: FunctionOwner,
    before: Before<'_>,
    progress: Progress<'_>,
) -> Result<Installed, Error> {
    const WATCHES: &str = "delete from vestnik.vst_projection_failure where source = $1 and key = ''";
    let mut done = Installed::default();
    let mut known = Vec::new();
    for watched in &checked.watched {
        known.push(watched.has_function(transaction, source).await?);
    }
    drop_strange(transaction, source, checked).await?;
    let mut missed_writes = None;
    for (watched, was_known) in checked.watched.iter().zip(known) {
        let put = watched.put(transaction, source, owner).await?;
        // In another mapping, a watched table may have the number of an earlier one.
        let is_lost =
            |earlier: &&Earlier| was_known && put.triggers && (watched.number == 0 || earlier.is_same_mapping);
        missed_writes = missed_writes.or(before.earlier.filter(is_lost));
        done.function |= put.function;
        done.triggers |= put.triggers;
    }
    transaction.batch_execute(&table_sql(source)).await?;
    let Some(own) = checked.watched.first() else {
        return Ok(done);
    };
    let sql = function::sql(source, &own.table, derived);
    if !has_function(transaction, source, body_of(&sql)).await? {
        let replace = format!(
            "drop function if exists {0}; {sql} revoke all on function {0} from public",
            function::signature(source)
        );
        transaction.batch_execute(&replace).await?;
        if reader::prepare(transaction, &checked.reads).await? {
            reader::own(transaction, source).await?;
            let grant = format!(
                "grant execute on function {} to current_user",
                function::signature(source)
            );
            transaction.batch_execute(&grant).await?;
        } else {
            progress(&format!(
                "the expressions run with your rights: the role {} can neither be made nor given its rights",
                reader::ROLE
            ));
        }
        done.function = true;
    } else if reader::lacks_right(transaction, source, &checked.reads).await? {
        // For example, the shop has dropped a table and created it again.
        done.function |= reader::prepare(transaction, &checked.reads).await?;
    }
    if done.any() {
        transaction.batch_execute(&grant_sql(source)).await?;
    }
    if done.any() || before.reads_other_columns {
        match missed_writes {
            Some(earlier) => tell_all(transaction, source, &earlier.identity).await?,
            None => project_all(transaction, source).await?,
        }
        transaction.execute(WATCHES, &[&source.0]).await?;
    }
    Ok(done)
}

/// SQL that creates the source's projection table. The table has one row for each order and store, with the values that
/// clients last received.
fn table_sql(source: SourceId) -> String {
    let table = projection(source);
    format!(
        "create table if not exists {table} ( \
             key text not null, store_id text not null, \
             status text not null, \
             created_at timestamptz not null, \
             data json not null, \
             shop_status text not null, \
             answered_over text, \
             told_at timestamptz not null default clock_timestamp(), \
             primary key (key, store_id)); \
         create index if not exists vst_projection_{source}_store on {table} (store_id, status, created_at); \
         create index if not exists vst_projection_{source}_closed on {table} (told_at) where {closed}",
        source = source.0,
        closed = super::trim::CLOSED,
    )
}

/// SQL that grants rights on the source's projection table, which holds the computed orders, and on its SQL function.
/// Each role that may update the journal gets the rights, because `vestnik serve` probably runs with one of these
/// roles.
fn grant_sql(source: SourceId) -> String {
    format!(
        "do $$ declare it record; begin \
             for it in select distinct a.grantee::regrole::text as role from pg_class c, aclexplode(c.relacl) a \
                 where c.oid = 'vestnik.vst_event'::regclass and a.privilege_type = 'UPDATE' and a.grantee <> 0 loop \
                 execute 'grant select, insert, update, delete on {} to ' || it.role; \
                 execute 'grant execute on function {} to ' || it.role; \
             end loop; end $$",
        projection(source),
        function::signature(source)
    )
}

async fn has_function(
    client: &impl GenericClient,
    source: SourceId,
    body: &str,
) -> Result<bool, tokio_postgres::Error> {
    const FUNCTION: &str = "select prosrc = $2 from pg_proc where oid = to_regprocedure($1)";
    let row = client
        .query_opt(FUNCTION, &[&function::signature(source), &body])
        .await?;
    row.map_or(Ok(false), |row| row.try_get(0))
}

/// Drops the trigger functions of tables that the mapping no longer watches. Dropping a function also drops its
/// triggers.
async fn drop_strange(
    transaction: &Transaction<'_>,
    source: SourceId,
    checked: &Checked,
) -> Result<(), tokio_postgres::Error> {
    const FUNCTIONS: &str = "select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where n.nspname = 'vestnik' and p.proname like $1 and 'vestnik.' || p.proname <> all ($2)";
    const ELSEWHERE: &str = "select distinct p.oid::regprocedure::text from pg_trigger g join pg_proc p on p.oid = g.tgfoid \
         where p.oid = to_regprocedure($1 || '()') and g.tgparentid = 0 \
             and g.tgrelid not in (select to_regclass(t) from unnest($2::text[]) t)";
    let functions: Vec<String> = checked.watched.iter().map(|watched| watched.function(source)).collect();
    let like = format!("vst\\_watch\\_{}\\_%", source.0);
    let mut strange = Vec::new();
    for row in transaction.query(FUNCTIONS, &[&like, &functions]).await? {
        strange.push(row.try_get::<_, String>(0)?);
    }
    for watched in &checked.watched {
        for row in transaction
            .query(ELSEWHERE, &[&watched.function(source), &watched.tables()])
            .await?
        {
            strange.push(row.try_get::<_, String>(0)?);
        }
    }
    for function in strange {
        transaction
            .batch_execute(&format!("drop function if exists {function} cascade"))
            .await?;
    }
    Ok(())
}

/// SQL that drops the parts of a derived source (one whose orders come from SQL expressions). The triggers and the
/// trigger function of the shop's table of orders stay. The answers that Vestnik keeps stay too, without the customers'
/// data: they hold if the source becomes derived again and the shop has not changed the orders.
pub(in crate::sources) async fn drop_sql(
    client: &impl GenericClient,
    source: SourceId,
) -> Result<String, tokio_postgres::Error> {
    const FUNCTIONS: &str = "select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where n.nspname = 'vestnik' and (p.proname like $1 or p.proname = $2)";
    let like = format!("vst\\_watch\\_{}\\_%", source.0);
    let derive = format!("vst_derive_{}", source.0);
    let mut sql = String::new();
    for row in client.query(FUNCTIONS, &[&like, &derive]).await? {
        sql.push_str(&format!("drop function {} cascade;\n", row.try_get::<_, &str>(0)?));
    }
    let (table, number) = (projection(source), source.0);
    if !has_projection(client, source).await? {
        return Ok(sql);
    }
    // A batch of the projector, or an answer, may be writing these rows.
    client
        .batch_execute(&format!("lock table {table} in access exclusive mode"))
        .await?;
    let kept = format!("select exists (select from {table} where answered_over is not null)");
    let has_answers: bool = client.query_one(&kept, &[]).await?.try_get(0)?;
    sql.push_str(&match has_answers {
        false => format!("drop table {table};\n"),
        true => format!("delete from {table} where answered_over is null;\nupdate {table} set data = {ONLY_ANSWER} where data::text is distinct from ({ONLY_ANSWER})::text;\n"),
    });
    sql.push_str(&format!(
        "delete from vestnik.vst_change where source = {number};\ndelete from vestnik.vst_wait where source = {number};\n\
         delete from vestnik.vst_projection_failure where source = {number};\n"
    ));
    Ok(sql)
}

/// Returns the SQL that installs all parts of a derived source (one whose orders come from SQL expressions). A person
/// can read the SQL before it runs.
pub(in crate::sources) fn install_sql(source: SourceId, derived: &Derived, checked: &Checked) -> String {
    let mut sql = String::new();
    for watched in &checked.watched {
        sql.push_str(&format!(
            "{}\n{}\n",
            watched.function_sql(source),
            watched.triggers_sql(source)
        ));
    }
    if let Some(own) = checked.watched.first() {
        sql.push_str(&format!(
            "{}\n{};\n",
            function::sql(source, &own.table, derived),
            table_sql(source)
        ));
    }
    sql
}
