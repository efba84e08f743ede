//! Logs an answer that failed because a right is missing, with the grants and policies that the role of `vestnik serve`
//! lacks.

use super::super::catalog::{self, Table};
use super::super::missing_right::{grant_of_nested, is_named};
use super::super::{Source, access, derived};
use crate::infra::db::{self, GenericClient};

/// Logs that an answer failed because of a missing right. The log entry names the grants and policies that the current
/// role lacks.
pub(super) async fn report_denied(client: &impl GenericClient, source: &Source, error: &tokio_postgres::Error) {
    let mut missing = missing_rights(client, source).await.unwrap_or_default();
    let nested = nested_right(client, source, error).await.unwrap_or_default();
    // If the role has all rights that the mapping shows, the missing right is needed inside a trigger or function of the
    // shop.
    let is_known = match &nested {
        Some(grant) => is_named(&missing, grant),
        None => !missing.is_empty(),
    };
    if !is_known {
        let grant = nested.map_or_else(String::new, |grant| format!(": {grant}"));
        let is_own = grant.contains(" vestnik.") || grant.contains("schema \"vestnik\"");
        let says = match is_own {
            true => "the role of `vestnik serve` lacks a right on the schema vestnik",
            false => "a trigger or a function of the shop needs a right that the role of `vestnik serve` lacks",
        };
        missing.insert(0, format!("{says}{grant}"));
    }
    let missing = missing.join("; ");
    tracing::error!(
        source = &*source.name,
        error = db::reason(error),
        missing,
        "an answer was not written: a right is missing"
    );
}

/// The GRANT statement of the right that the error of Postgres names.
async fn nested_right(
    client: &impl GenericClient,
    source: &Source,
    error: &tokio_postgres::Error,
) -> Result<Option<String>, catalog::Error> {
    let table = Table::find(client, &source.table).await?;
    let row = client.query_one("select quote_ident(current_user)", &[]).await?;
    let role: &str = row.try_get(0)?;
    Ok(grant_of_nested(client, error, role, &table.schema).await?)
}

/// The rights on the source's tables that the current role lacks, one line each, as `vestnik source list` prints them.
async fn missing_rights(client: &impl GenericClient, source: &Source) -> Result<Vec<String>, catalog::Error> {
    let table = Table::find(client, &source.table).await?;
    match &source.mapping.derived {
        Some(derived) => Ok(derived::of_current_role(client, &table, derived).await?),
        None => Ok(access::check(client, &table, &source.mapping).await?.missing),
    }
}
