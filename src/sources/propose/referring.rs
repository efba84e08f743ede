//! Names the tables that refer to the attached table and that the proposal does not read, such as a table of tickets or
//! payments.

use super::{Draft, Items};
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table};

/// Maximum number of tables that the hint names.
const NAMED_TABLES: usize = 12;

/// The hint about the tables with a foreign key to `table`, except the table of the items. `None`: there are none.
pub(super) async fn hint(
    client: &impl GenericClient,
    table: &Table,
    draft: &Draft,
) -> Result<Option<String>, catalog::Error> {
    const REFERRING: &str = "select distinct format('%I.%I', n.nspname, c.relname) from pg_constraint f \
         join pg_class c on c.oid = f.conrelid join pg_namespace n on n.oid = c.relnamespace \
         where f.contype = 'f' and f.confrelid = $1 and f.conrelid <> $1 and not c.relispartition order by 1";
    let mut tables: Vec<String> = Vec::new();
    for row in client.query(REFERRING, &[&table.oid]).await? {
        tables.push(row.try_get(0)?);
    }
    if let Some(Items::Table { table: of_items, .. }) = &draft.items {
        tables.retain(|name| name != of_items);
    }
    let more = tables.len().saturating_sub(NAMED_TABLES);
    tables.truncate(NAMED_TABLES);
    if more > 0 {
        tables.push(format!("and {more} more"));
    }
    Ok((!tables.is_empty()).then(|| {
        format!(
            "Tables that refer to this one: {}: read them with [derived], docs/derived-sources.md",
            tables.join(", ")
        )
    }))
}
