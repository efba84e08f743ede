//! The role that a derived source's expressions run as: it may read the tables of the expressions, and nothing else.

use tokio_postgres::Transaction;

use super::super::catalog::Table;
use super::super::sql::ident;
use super::function;
use crate::domain::event::SourceId;

/// The role's name, one for all databases of a cluster; its rights are granted in each database.
pub(super) const ROLE: &str = "vestnik_reader";

/// Creates the role if it is missing and we may, and lets it read these tables. Returns whether the role may be used;
/// otherwise expressions run with the rights of the role that attaches.
pub(super) async fn prepare(
    transaction: &mut Transaction<'_>,
    reads: &[String],
) -> Result<bool, tokio_postgres::Error> {
    let savepoint = transaction.transaction().await?;
    let granted = grant(&savepoint, reads).await;
    match granted {
        Ok(()) => savepoint.commit().await.map(|()| true),
        Err(error) if error.as_db_error().is_some() => {
            savepoint.rollback().await?;
            tracing::debug!(
                error = crate::infra::db::reason(&error),
                "the role {ROLE} cannot be used"
            );
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn grant(savepoint: &Transaction<'_>, reads: &[String]) -> Result<(), tokio_postgres::Error> {
    // Two databases may be prepared at the same moment.
    const MAKE: &str = "do $$ begin \
             if to_regrole('vestnik_reader') is null then \
                 begin create role vestnik_reader nologin; exception when duplicate_object or unique_violation then null; end; \
             end if; \
             if not pg_has_role('vestnik_reader', 'member') then execute format('grant vestnik_reader to %I', current_user); end if; \
         end $$";
    const SCHEMAS: &str = "select distinct format('%I', n.nspname) from unnest($1::text[]) t(name) \
         join pg_class c on c.oid = to_regclass(t.name) join pg_namespace n on n.oid = c.relnamespace";
    savepoint.batch_execute(MAKE).await?;
    // The expressions' texts pass through a function there.
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

/// Makes the role the owner of a source's function. A new owner needs the right to create in the schema at that moment.
pub(super) async fn own(transaction: &Transaction<'_>, source: SourceId) -> Result<(), tokio_postgres::Error> {
    let own = format!(
        "grant usage, create on schema vestnik to {ROLE}; alter function {} owner to {ROLE}; revoke create on schema vestnik from {ROLE}",
        function::signature(source)
    );
    transaction.batch_execute(&own).await
}

/// Switches to the role's rights until the transaction ends; from then on the transaction may not write.
pub(super) async fn become_it(transaction: &Transaction<'_>, table: &Table) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "set local search_path = {}, pg_temp; set local role {ROLE}; set local transaction_read_only = on",
        ident(&table.schema)
    );
    transaction.batch_execute(&sql).await
}
