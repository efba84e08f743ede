//! Finds a source in the database, and detaches it.

use tokio_postgres::Client;

use super::Error;
use crate::domain::event::SourceId;
use crate::infra::db::GenericClient;
use crate::infra::table_lock::{Progress, with_lock_retries};
use crate::sources::derived;
use crate::sources::install::{carried, drop_sql, tables_of};
use crate::sources::registry::bump_version;
use crate::sources::trigger::function_name;

/// An attached source, as its row in the table `vst_source` describes it.
#[derive(Debug)]
pub struct Kept {
    /// The source's id.
    pub id: SourceId,
    /// The source's name.
    pub name: String,
    /// The name of the source's table, quoted and with its schema, as in `public."order"`.
    pub table: String,
    /// The source's mapping as TOML.
    pub mapping_toml: String,
    /// Whether the source was attached although another role owns its table (`--trust-owner`).
    pub owner_trusted: bool,
}

/// Finds an attached source by its name or by the name of its table. [`Error::Unknown`]: no attached source has this
/// name.
pub async fn find(client: &impl GenericClient, name: &str) -> Result<Kept, Error> {
    const FIND: &str = "select id, name, table_name, mapping, owner_trusted from vestnik.vst_source \
             where detached_at is null and (name = $1 or table_name in ($1, 'public.' || $1) \
                 or to_regclass(table_name) = (select oid from pg_class where oid = to_regclass($1))) order by name = $1 desc limit 1";
    const BY_NAME: &str = "select id, name, table_name, mapping, owner_trusted from vestnik.vst_source \
             where detached_at is null and (name = $1 or table_name in ($1, 'public.' || $1)) order by name = $1 desc limit 1";
    let row = match client.query_opt(FIND, &[&name]).await {
        // Postgres rejects `name` as a table name, but it may still be the name of a source.
        Err(error)
            if error
                .code()
                .is_some_and(|code| ["42601", "42602"].contains(&code.code())) =>
        {
            client.query_opt(BY_NAME, &[&name]).await?
        }
        row => row?,
    };
    let row = row.ok_or_else(|| Error::Unknown(name.to_owned()))?;
    Ok(Kept {
        id: SourceId(row.try_get(0)?),
        name: row.try_get(1)?,
        table: row.try_get(2)?,
        mapping_toml: row.try_get(3)?,
        owner_trusted: row.try_get(4)?,
    })
}

/// Drops the triggers and the function of a source, even if its table was renamed. Later writes make no events, and
/// clients no longer receive the earlier events. The earlier events stay in the journal, in case the table is attached
/// again.
pub async fn detach(client: &mut Client, name: &str, progress: Progress<'_>) -> Result<Kept, Error> {
    let kept = find(client, name).await?;
    let function = function_name(kept.id);
    let triggers = carried(client, &function).await?;
    let locked: Vec<String> = tables_of(&triggers).into_iter().cloned().collect();
    with_lock_retries(
        client,
        &locked,
        progress,
        async |client: &mut Client, _: Progress<'_>| {
            let transaction = client.transaction().await?;
            let triggers = carried(&transaction, &function).await?;
            transaction.batch_execute(&drop_sql(&triggers)).await?;
            transaction
                .batch_execute(&format!("drop function if exists {function}()"))
                .await?;
            let derived = derived::drop_sql(&transaction, kept.id).await?;
            transaction.batch_execute(&derived).await?;
            transaction
                .execute(
                    "update vestnik.vst_source set detached_at = now() where id = $1",
                    &[&kept.id.0],
                )
                .await?;
            bump_version(&transaction).await?;
            transaction.commit().await?;
            Ok::<_, Error>(())
        },
    )
    .await?;
    Ok(kept)
}

/// Returns the SQL that [`detach`] would run, so that a person can read it first.
pub async fn detach_sql(client: &Client, name: &str) -> Result<String, Error> {
    let kept = find(client, name).await?;
    let function = function_name(kept.id);
    let drops = drop_sql(&carried(client, &function).await?);
    Ok(format!("{drops}drop function if exists {function}();"))
}
