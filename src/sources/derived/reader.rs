//! Manages the Postgres role `vestnik_reader`. The expressions of derived sources run with the rights of this role,
//! which may only read the tables that the expressions name.

use tokio_postgres::Transaction;

use super::super::catalog::Table;
use super::super::sql::ident;
use super::function;
use crate::domain::event::SourceId;
use crate::infra::db::{self, GenericClient};

/// The name of the Postgres role. All databases of a Postgres cluster share the role; each database grants it rights.
pub(super) const ROLE: &str = "vestnik_reader";

/// How the expressions get a role of their own, if they run with the rights of `role`, which attached the table.
pub(super) fn own_role(role: &str) -> String {
    format!(
        "run `grant {ROLE} to {role}` as a superuser, after `create role {ROLE} nologin` if there is no such role, and attach the table again as {role}"
    )
}

/// Creates the role `vestnik_reader` if it is missing, and lets it read the tables `reads`. Returns false if the
/// current role may not create `vestnik_reader` or grant it these rights. Then the expressions run with the rights of
/// the role that attaches the table.
pub(super) async fn prepare(
    transaction: &mut Transaction<'_>,
    reads: &[String],
) -> Result<bool, tokio_postgres::Error> {
    let savepoint = db::savepoint(transaction).await?;
    let granted = grant(&savepoint, reads).await;
    match granted {
        Ok(()) => savepoint.commit().await.map(|()| true),
        Err(error) if error.as_db_error().is_some() => {
            db::roll_back(savepoint).await?;
            tracing::debug!(error = db::reason(&error), "the role {ROLE} cannot be used");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn grant(savepoint: &Transaction<'_>, reads: &[String]) -> Result<(), tokio_postgres::Error> {
    // Another process may create the role at the same moment, for another database.
    const MAKE: &str = "do $$ begin \
             if to_regrole('vestnik_reader') is null then \
                 begin create role vestnik_reader nologin; exception when duplicate_object or unique_violation then null; end; \
             end if; \
             if not pg_has_role('vestnik_reader', 'member') then execute format('grant vestnik_reader to %I', current_user); end if; \
         end $$";
    const SCHEMAS: &str = "select distinct format('%I', n.nspname) from unnest($1::text[]) t(name) \
         join pg_class c on c.oid = to_regclass(t.name) join pg_namespace n on n.oid = c.relnamespace";
    savepoint.batch_execute(MAKE).await?;
    // The source's function calls `vestnik.vst_readable`, so the role needs the right to use the schema `vestnik`.
    savepoint
        .batch_execute(&format!("grant usage on schema vestnik to {ROLE}"))
        .await?;
    for row in savepoint.query(SCHEMAS, &[&reads]).await? {
        let schema: &str = row.try_get(0)?;
        savepoint
            .batch_execute(&format!("grant usage on schema {schema} to {ROLE}"))
            .await?;
    }
    for table in reads {
        savepoint
            .batch_execute(&format!("grant select on {table} to {ROLE}"))
            .await?;
    }
    Ok(())
}

/// Whether `vestnik_reader` owns the source's SQL function, but may read no column of one of the tables `reads`. If a
/// person has limited the role to some columns of a table, the role lacks no right.
pub(super) async fn lacks_right(
    client: &impl GenericClient,
    source: SourceId,
    reads: &[String],
) -> Result<bool, tokio_postgres::Error> {
    const LACKS: &str = "select exists (select from pg_proc p cross join unnest($3::text[]) t (name) \
             join pg_class c on c.oid = to_regclass(t.name) \
         where p.oid = to_regprocedure($1) and p.proowner = to_regrole($2) \
             and not (has_any_column_privilege(p.proowner, c.oid, 'select') \
                 and has_schema_privilege(p.proowner, c.relnamespace, 'usage')))";
    let signature = function::signature(source);
    client.query_one(LACKS, &[&signature, &ROLE, &reads]).await?.try_get(0)
}

/// Makes `vestnik_reader` the owner of a source's SQL function, so that the function runs with the rights of
/// `vestnik_reader`. Postgres requires that a new owner may create objects in the function's schema. So
/// `vestnik_reader` has this right during the change.
pub(super) async fn own(transaction: &Transaction<'_>, source: SourceId) -> Result<(), tokio_postgres::Error> {
    let own = format!(
        "grant usage, create on schema vestnik to {ROLE}; alter function {} owner to {ROLE}; revoke create on schema vestnik from {ROLE}",
        function::signature(source)
    );
    transaction.batch_execute(&own).await
}

/// Makes the rest of the transaction run with the rights of the role `vestnik_reader`, and makes the transaction
/// read-only. Names without a schema then refer to the schema of `table`.
pub(super) async fn become_it(transaction: &Transaction<'_>, table: &Table) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "set local search_path = {}, pg_temp; set local role {ROLE}; set local transaction_read_only = on",
        ident(&table.schema)
    );
    transaction.batch_execute(&sql).await
}
