//! Collects the words that a column can hold, such as those of a status.

use super::columns::is_text;
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Reference, Table, TableColumn};
use crate::sources::check_lists;
use crate::sources::sql::ident;

/// Maximum number of rows from which words are collected.
const SAMPLED_ROWS: i64 = 200_000;
/// Maximum number of words that are read from one column.
const MAX_WORDS: usize = 60;

/// The words that a column can hold.
pub(super) struct ColumnWords {
    /// Each word with the number of rows that have it.
    pub words: Vec<(String, i64)>,
    /// Whether the column's type, a CHECK constraint or a foreign key forbids every other word.
    pub is_closed: bool,
}

/// Collects the words that a column can hold. They come from the enum type, the CHECK constraints or the table to which
/// a foreign key refers, from the column's default, and from the rows.
pub(super) async fn words_of(
    client: &impl GenericClient,
    table: &Table,
    column: &TableColumn,
) -> Result<ColumnWords, catalog::Error> {
    let mut words: Vec<(String, i64)> = column.labels.iter().map(|label| (label.clone(), 0)).collect();
    if words.is_empty() {
        let listed = check_lists::words(client, table, column).await?;
        words.extend(listed.into_iter().map(|word| (word, 0)));
    }
    if let Some(reference) = column
        .references
        .first()
        .filter(|_| words.is_empty() && is_text(column))
    {
        words = referenced(client, reference).await?;
    }
    let is_closed = !words.is_empty();
    words.extend(default_word(column).filter(|_| !is_closed).map(|word| (word, 0)));
    let name = ident(&column.name);
    let occurring = format!(
        "select word, count(*) from (select {name}::text as word from {} limit $1) sample where word is not null group by 1 order by 2 desc, 1 limit $2",
        table.quoted
    );
    for row in client.query(&occurring, &[&SAMPLED_ROWS, &(MAX_WORDS as i64)]).await? {
        let (word, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, rows)) => *rows = count,
            None => words.push((word, count)),
        }
    }
    let mut seen = Vec::new();
    words.retain(|(word, _)| {
        let is_new = !seen.contains(word);
        seen.push(word.clone());
        is_new
    });
    words.truncate(MAX_WORDS);
    Ok(ColumnWords { words, is_closed })
}

/// The values of a column to which a foreign key refers, such as the words of a table `order_statuses`. Empty: the
/// current role may not read the table.
async fn referenced(
    client: &impl GenericClient,
    reference: &Reference,
) -> Result<Vec<(String, i64)>, tokio_postgres::Error> {
    const MAY_READ: &str = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where format('%I.%I', n.nspname, c.relname) = $1 and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))";
    if !client.query_one(MAY_READ, &[&reference.table]).await?.try_get(0)? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "select {name}::text from {} where {name} is not null limit $1",
        reference.table,
        name = ident(&reference.column)
    );
    let rows = client.query(&sql, &[&(MAX_WORDS as i64)]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, 0))).collect()
}

/// The word of a new row, from the column's default, such as `'pending'::text` or `0`. `None`: the default is missing or
/// computed.
pub(super) fn default_word(column: &TableColumn) -> Option<String> {
    let default = column.default.as_deref()?;
    if let Some(rest) = default.strip_prefix('\'') {
        return rest.split('\'').next().map(str::to_owned);
    }
    default.parse::<i64>().is_ok().then(|| default.to_owned())
}
