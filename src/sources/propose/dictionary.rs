//! Finds the shop's table that has a word for each number of a status column, such as `statuses` for `status_id`.

use super::columns::{Columns, is_text, is_whole};
use super::synonyms::{self, underscored};
use crate::domain::status::SubjectKind;
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};
use crate::sources::sql::ident;

/// Maximum number of status words that are read from one table of the shop.
const MAX_WORDS: i64 = 60;

/// The words for the values of a status column. The words come from another table of the shop, such as a table of
/// statuses.
#[derive(Debug, Default, Clone)]
pub(super) struct Dictionary {
    /// The table and column of the words, such as `public.statuses, status_name`. Empty: no table has such words.
    pub place: String,
    /// Each value of the status column with its word.
    pub words: Vec<(String, String)>,
}

impl Dictionary {
    /// The word for a value of the status column; the value itself if it has no word.
    pub fn word_of<'a>(&'a self, value: &'a str) -> &'a str {
        let found = self.words.iter().find(|(known, _)| known == value);
        found.map_or(value, |(_, word)| word)
    }

    /// The value of the status column as a person reads it, such as `3 (Preparation)`.
    pub fn told(&self, value: &str) -> String {
        match self.word_of(value) {
            word if word == value => value.to_owned(),
            word => format!("{value} ({word})"),
        }
    }
}

/// Finds the words for the values of the status column `column`. Searches the table to which the column's foreign key
/// points, and tables with a name similar to the column's.
pub(super) async fn find(
    client: &impl GenericClient,
    table: &Table,
    column: &TableColumn,
    kind: SubjectKind,
) -> Result<Dictionary, catalog::Error> {
    let name = underscored(&column.name);
    let stem = match name.strip_suffix("_id") {
        Some(stem) => stem,
        None if !column.references.is_empty() => &name,
        None => return Ok(Dictionary::default()),
    };
    if !is_whole(column) {
        return Ok(Dictionary::default());
    }
    for (named, key) in candidates(client, table, column, stem).await? {
        let found = Table::find(client, &named).await?;
        let mut columns = Columns::new(&found);
        columns.use_named(&key);
        let Some(word) = columns.take(synonyms::STATUS_NAMES, is_text) else {
            continue;
        };
        let subject = columns.take(synonyms::STATUS_SUBJECTS, is_text);
        let words = words(client, &found, &key, word, subject, kind).await?;
        if !words.is_empty() {
            let place = format!("{}, {}", found.quoted, word.name);
            return Ok(Dictionary { place, words });
        }
    }
    Ok(Dictionary::default())
}

/// The tables that may have the words for the values of `column`, each with its key column. The table to which a
/// foreign key of `column` points comes first.
async fn candidates(
    client: &impl GenericClient,
    table: &Table,
    column: &TableColumn,
    stem: &str,
) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
    const CANDIDATES: &str = "select format('%I.%I', n.nspname, c.relname), a.attname::text \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         join pg_index i on i.indrelid = c.oid and i.indisprimary and i.indnkeyatts = 1 \
         join pg_attribute a on a.attrelid = c.oid and a.attnum = (i.indkey::int2[])[0] \
         left join lateral (select true as is_target from pg_constraint f join pg_attribute o on o.attrelid = f.conrelid and o.attname = $2 \
             where f.contype = 'f' and f.conrelid = $1 and f.confrelid = c.oid and f.conkey = array[o.attnum] limit 1) f on true \
         where c.relkind in ('r', 'p') and c.oid <> $1 and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') \
             and (f.is_target \
                 or n.nspname = $3 and lower(replace(c.relname, '_', '')) = any ($4)) \
         order by f.is_target nulls last, c.relname";
    let last = stem.rsplit('_').next().unwrap_or(stem);
    let mut names = Vec::new();
    for stem in [stem.to_owned(), format!("order_{last}"), last.to_owned()] {
        let stem = stem.replace('_', "");
        names.extend([format!("{stem}s"), format!("{stem}es"), stem]);
    }
    let rows = client
        .query(CANDIDATES, &[&table.oid, &column.name, &table.schema, &names])
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Reads each key and its word from a table of statuses. The column `subject` says whether a row is a status of orders
/// or of something else, such as bookings. `None`: the table has no such column. If some rows fit `kind`, only these
/// rows are used.
async fn words(
    client: &impl GenericClient,
    table: &Table,
    key: &str,
    word: &TableColumn,
    subject: Option<&TableColumn>,
    kind: SubjectKind,
) -> Result<Vec<(String, String)>, catalog::Error> {
    let subject = subject.map_or_else(|| "null::text".to_owned(), |column| ident(&column.name));
    let sql = format!(
        "select {key}::text, {}::text, lower({subject}::text) from {} where {key} is not null and {} is not null order by {key} limit $1",
        ident(&word.name),
        table.quoted,
        ident(&word.name),
        key = ident(key),
    );
    let mut words: Vec<(String, String, Option<String>)> = Vec::new();
    for row in client.query(&sql, &[&MAX_WORDS]).await? {
        words.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    let is_ours = |(_, _, subject): &(String, String, Option<String>)| {
        let subject = subject.as_deref().unwrap_or_default();
        synonyms::kind_of(subject) == Some(kind)
    };
    if words.iter().any(is_ours) {
        words.retain(is_ours);
    }
    Ok(words.into_iter().map(|(value, word, _)| (value, word)).collect())
}
