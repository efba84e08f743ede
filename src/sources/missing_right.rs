//! Finds the GRANT statement for a right that a role lacks, from the error of Postgres.

use super::sql::ident;
use crate::infra::db::GenericClient;

/// The start of Postgres' error text about a missing right.
pub(super) const DENIED: &str = "permission denied for ";

/// The GRANT statement for a right that `role` lacks. `reason` is the error of Postgres about the missing right. It
/// names a table without its schema. Of several tables with this name, one that the role may not read is chosen, and
/// first one in `schema`. `None`: the error is not about a right that one GRANT gives.
pub(super) async fn grant_of(
    client: &impl GenericClient,
    reason: &str,
    role: &str,
    schema: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    const TABLE: &str = "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f') \
         order by coalesce(has_table_privilege(to_regrole(nullif($3, '')), c.oid, 'select'), false), n.nspname <> $2 limit 1";
    let Some((_, denied)) = reason.split_once(DENIED) else {
        return Ok(None);
    };
    let denied = denied.split(" (42501)").next().unwrap_or(denied);
    let (kind, name) = denied.rsplit_once(' ').unwrap_or(("", denied));
    Ok(match kind {
        "table" | "view" | "foreign table" | "materialized view" => {
            let found = client.query_opt(TABLE, &[&name, &schema, &role]).await?;
            let table: Option<String> = found.map(|row| row.try_get(0)).transpose()?;
            table.map(|table| format!("grant select on {table} to {role}"))
        }
        "schema" => Some(format!("grant usage on schema {} to {role}", ident(name))),
        "function" => Some(format!("grant execute on function {} to {role}", ident(name))),
        _ => None,
    })
}
