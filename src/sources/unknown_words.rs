//! Finds status words that the mapping does not contain, although the newest orders have them.

use super::attach::Kept;
use super::catalog::Table;
use super::derived;
use super::json::{Json, at_path};
use super::mapping::Mapping;
use super::sql::{ident, value_text};
use crate::infra::db::GenericClient;

/// Maximum number of unmapped status words that one line of the report names.
const NAMED_WORDS: usize = 10;
const NULL: &str = "NULL";

/// The unmapped words of the newest orders, as a person reads them.
pub(super) struct UnknownWords {
    words: Vec<String>,
    /// The keys of the orders that were recorded with the status NULL.
    with_null: Vec<String>,
}

impl UnknownWords {
    /// Finds the unmapped words. `newest` has the keys of the newest orders, and their columns as JSON objects.
    pub fn find<'a>(mapping: &Mapping, newest: impl Iterator<Item = (Option<&'a str>, &'a str)>) -> Self {
        let column = &mapping.status.column;
        let path: Vec<String> = std::iter::once(&column.name).chain(&column.path).cloned().collect();
        let (mut words, mut with_null) = (Vec::new(), Vec::new());
        for (key, data) in newest {
            // The event is of the time when the mapping was derived, and has words of that time.
            if mapping.derived.is_none() && derived::has_form(data) {
                continue;
            }
            // A row whose status could not be recorded has no word to check.
            if at_path(data, &path[..1]).is_none() {
                continue;
            }
            let value = at_path(data, &path);
            let value = value.as_deref().map(Json::read);
            let word = value.as_ref().and_then(|value| Some(value.plain()?.into_owned()));
            let told = match word {
                Some(word) if mapping.status.meaning(&word).is_some() => continue,
                Some(word) => format!("`{word}`"),
                None if matches!(value, Some(Json::Text(_))) => "'', an empty text".to_owned(),
                None => {
                    with_null.extend(key.map(str::to_owned));
                    NULL.to_owned()
                }
            };
            if !words.contains(&told) && words.len() < NAMED_WORDS {
                words.push(told);
            }
        }
        Self { words, with_null }
    }

    /// Leaves out NULL if no row has it now. A row is recorded with NULL while its status column has another name.
    pub async fn forget_former_nulls(
        &mut self,
        client: &impl GenericClient,
        table: &Table,
        mapping: &Mapping,
    ) -> Result<(), tokio_postgres::Error> {
        if !self.words.iter().any(|word| word == NULL) {
            return Ok(());
        }
        let (Some(key), column) = (table.column(&mapping.key), &mapping.status.column) else {
            return Ok(());
        };
        let sql = format!(
            "select exists (select from unnest($1::text[]) l (key) join {} t on t.{} = l.key::{} where {} is null)",
            table.quoted,
            ident(&key.name),
            key.kind,
            value_text(&column.name, &column.path, "text"),
        );
        let has_null = match client.query_one(&sql, &[&self.with_null]).await {
            Ok(row) => row.try_get(0)?,
            // The rows cannot be read, or the key has another type now.
            Err(error) if error.as_db_error().is_some() => true,
            Err(error) => return Err(error),
        };
        if !has_null {
            self.words.retain(|word| word != NULL);
        }
        Ok(())
    }

    /// The line of the health report. `None`: the mapping has all words.
    pub fn trouble(&self, kept: &Kept) -> Option<String> {
        (!self.words.is_empty()).then(|| {
            format!(
                "{} has the status {}, which means nothing in its mapping, so such orders ring: `vestnik source edit {}`",
                kept.table,
                self.words.join(", "),
                kept.name
            )
        })
    }
}
