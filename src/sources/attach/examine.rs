//! Validates a mapping against its table, before the table is attached or without attaching it.

use tokio_postgres::Client;

use super::{Error, Table};
use crate::sources::mapping::Mapping;
use crate::sources::validate::{Findings, validate};
use crate::sources::{RecordedColumn, derived};

/// The result of examining a mapping without attaching it.
#[derive(Debug)]
pub struct Examined {
    /// The errors and warnings about the mapping.
    pub findings: Findings,
    /// The name and the SQL type of each expression of a derived mapping. Empty for any other mapping.
    pub expressions: Vec<RecordedColumn>,
}

/// Validates a mapping against its table, as [`attach`](super::attach) does, and changes nothing.
pub async fn examine(client: &mut Client, table: &Table, mapping: &Mapping) -> Result<Examined, Error> {
    let (findings, checked) = check(client, table, mapping).await?;
    Ok(Examined {
        findings,
        expressions: checked.map_or_else(Vec::new, |checked| checked.columns),
    })
}

/// Validates a mapping against its table. For a derived mapping (a mapping with SQL expressions instead of columns),
/// also returns the data that [`derived::install`] needs.
pub(super) async fn check(
    client: &mut Client,
    table: &Table,
    mapping: &Mapping,
) -> Result<(Findings, Option<derived::Checked>), Error> {
    let Some(derived) = &mapping.derived else {
        return Ok((validate(client, table, mapping).await?, None));
    };
    let mut transaction = client.transaction().await?;
    let mut checked = derived::check(&mut transaction, table, derived).await?;
    transaction.rollback().await?;
    Ok((std::mem::take(&mut checked.findings), Some(checked)))
}
