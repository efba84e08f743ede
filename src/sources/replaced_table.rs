//! Finds out whether another table has taken the place of a source's table. For example, the shop has put a renamed copy
//! in its place, or has dropped the table and created it again. The new table has none of the source's triggers.

use super::trigger::function_name;
use crate::domain::event::SourceId;
use crate::infra::db::GenericClient;

/// Another table has the place of a source's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replaced {
    /// The name of the table that is there now, with its schema, quoted for SQL.
    pub now: String,
    /// The name of the earlier table, which still has the triggers. `None`: the earlier table is gone, or is a part of
    /// the new one.
    pub former: Option<String>,
}

/// Whether another table has the place of the source's table. `table` is the name of the source's table, quoted and with
/// its schema.
pub(super) async fn find(
    client: &impl GenericClient,
    source: SourceId,
    table: &str,
) -> Result<Option<Replaced>, tokio_postgres::Error> {
    const OID: &str = "select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where format('%I.%I', n.nspname, c.relname) = $1";
    let Some(row) = client.query_opt(OID, &[&table]).await? else {
        return Ok(None);
    };
    of_function(client, &function_name(source), row.try_get(0)?).await
}

/// Whether the table `oid` has the place of another table, whose triggers call this function.
pub(super) async fn of_function(
    client: &impl GenericClient,
    function: &str,
    oid: u32,
) -> Result<Option<Replaced>, tokio_postgres::Error> {
    const REPLACED: &str = "with f as (select oid from pg_proc where oid = to_regprocedure($1 || '()')) \
         select format('%I.%I', n.nspname, c.relname), \
             (select format('%I.%I', fn.nspname, fc.relname) from pg_trigger g \
                 join pg_class fc on fc.oid = g.tgrelid join pg_namespace fn on fn.oid = fc.relnamespace \
                 where g.tgfoid = f.oid and g.tgparentid = 0 and (not fc.relispartition or pg_partition_root(fc.oid) <> c.oid) \
                     and not exists (select from pg_inherits i where i.inhrelid = fc.oid and i.inhparent = c.oid) \
                 order by 1 limit 1) \
         from f, pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.oid = $2 and not exists (select from pg_trigger g where g.tgfoid = f.oid and g.tgrelid = c.oid)";
    let row = client.query_opt(REPLACED, &[&function, &oid]).await?;
    row.map(|row| {
        Ok(Replaced {
            now: row.try_get(0)?,
            former: row.try_get(1)?,
        })
    })
    .transpose()
}

impl Replaced {
    /// The problem for a health report, if the earlier table is still there: its triggers are on the wrong table.
    pub fn trouble(&self) -> Option<String> {
        let Self { now, former } = self;
        former.as_ref().map(|former| {
            format!(
                "another table has the name {now} now, and the triggers are on {former}, so its rows make no events: run `vestnik migrate`"
            )
        })
    }
}
