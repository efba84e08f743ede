//! Finds the GRANT statement for a right that a role lacks, from the error of Postgres.

use super::sql::ident;
use super::statement_uses::uses;
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
    grant_for(client, reason, "select", role, schema).await
}

/// The GRANT statement for the right without which the shop's trigger or function failed with `error`. Returns `None`
/// in the same cases as [`grant_of`]. The context of the error has the statement that failed, and so the commands that
/// it runs on the table.
pub(super) async fn grant_of_nested(
    client: &impl GenericClient,
    error: &tokio_postgres::Error,
    role: &str,
    schema: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    let Some(db) = error.as_db_error() else { return Ok(None) };
    let failed = db
        .where_()
        .and_then(|context| context.split_once("SQL statement \""))
        .map(|(_, sql)| sql);
    let mut commands: Vec<&str> = Vec::new();
    for used in failed.map(uses).unwrap_or_default() {
        let name = used.name.rsplit('.').next().unwrap_or_default().trim_matches('"');
        if db.message().ends_with(&format!(" {name}")) && !commands.contains(&used.command.as_str()) {
            commands.push(used.command.as_str());
        }
    }
    let commands = if commands.is_empty() {
        "select".to_owned()
    } else {
        commands.join(", ")
    };
    grant_for(client, db.message(), &commands, role, schema).await
}

async fn grant_for(
    client: &impl GenericClient,
    reason: &str,
    commands: &str,
    role: &str,
    schema: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    const TABLE: &str = "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f') \
         order by coalesce(has_table_privilege(to_regrole(nullif($3, '')), c.oid, 'select'), false), n.nspname <> $2 limit 1";
    const SEQUENCE: &str = "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relname = $1 and c.relkind = 'S' \
         order by coalesce(has_sequence_privilege(to_regrole(nullif($3, '')), c.oid, 'usage'), false), n.nspname <> $2 limit 1";
    const ROUTINE: &str = "select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace where p.proname = $1 \
         order by coalesce(has_function_privilege(to_regrole(nullif($3, '')), p.oid, 'execute'), false), n.nspname <> $2 limit 1";
    let Some((_, denied)) = reason.split_once(DENIED) else {
        return Ok(None);
    };
    let denied = denied.split(" (42501)").next().unwrap_or(denied);
    let (kind, name) = denied.rsplit_once(' ').unwrap_or(("", denied));
    let (found, right) = match kind {
        "table" | "view" | "foreign table" | "materialized view" => (TABLE, format!("{commands} on")),
        "sequence" => (SEQUENCE, "usage on sequence".to_owned()),
        "function" | "procedure" => (ROUTINE, format!("execute on {kind}")),
        "schema" => return Ok(Some(format!("grant usage on schema {} to {role}", ident(name)))),
        _ => return Ok(None),
    };
    let found = client.query_opt(found, &[&name, &schema, &role]).await?;
    let object: Option<String> = found.map(|row| row.try_get(0)).transpose()?;
    Ok(object.map(|object| format!("grant {right} {object} to {role}")))
}

/// Whether one of the `lines` names a GRANT on the same object and for the same role as `grant`.
pub(super) fn is_named(lines: &[String], grant: &str) -> bool {
    let Some((_, on_object)) = grant.split_once(" on ") else {
        return false;
    };
    let on_object = format!(" on {on_object}");
    lines.iter().any(|line| line.ends_with(&on_object))
}
