//! The lists that a panel shows: a store's orders or bookings in their present state, together with the cursor of the
//! snapshot that they were read in. So a list, and the stream opened with its cursor, meet exactly.

mod entry;
mod table;

use crate::infra::db::{Pool, Transaction};
use futures::TryStreamExt as _;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};

use super::{Source, Sources};
use crate::domain::event::StoreId;
use crate::domain::status::{Status, SubjectKind};
use crate::infra::db;
use crate::journal;
use entry::entries;
pub use table::StatusFilter;
pub(super) use table::TypedColumn;
use table::{Anchor, SourceTable};

/// Rows of one page at most.
pub const MAX_ROWS: usize = 500;
/// Bytes of rows after which a page ends, whatever its limit.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// How long a table that somebody holds is waited for, milliseconds.
const LOCK_MS: u32 = 500;

impl StatusFilter {
    /// What somebody still has to do something for.
    pub fn active(kind: SubjectKind) -> Self {
        let open = Status::ALL.into_iter().filter(|status| status.is_open());
        Self::These(
            open.filter(|status| kind == SubjectKind::Order || *status != Status::Delivering)
                .collect(),
        )
    }
}

/// What is asked for.
#[derive(Debug)]
pub struct ListQuery<'a> {
    /// Whose.
    pub store: &'a StoreId,
    /// Orders or bookings.
    pub kind: SubjectKind,
    /// Which of them.
    pub statuses: StatusFilter,
    /// Of this source only.
    pub source: Option<&'a str>,
    /// Rows behind this one, by its key: the next page.
    pub before: Option<&'a str>,
    /// The source of that row, where its key may stand in several.
    pub before_source: Option<&'a str>,
    /// Rows at most.
    pub limit: usize,
}

/// A page of a list.
#[derive(Debug)]
pub struct ListPage {
    /// The newest first, each a JSON object.
    pub rows: Vec<Map<String, Value>>,
    /// Covers what the list shows.
    pub cursor: String,
    /// Whether there are rows behind the last one.
    pub more: bool,
    /// Sources that could not be read now: their orders are missing.
    pub unavailable: Vec<String>,
}

/// What a read brought.
#[derive(Debug)]
pub enum ListResult {
    /// A page.
    Page(ListPage),
    /// The store has no row of the key that the page was to begin behind.
    UnknownBefore,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres says so, or is gone.
    #[error("a list cannot be read: {0}")]
    Failed(#[from] db::QueryError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// Postgres is silent.
    #[error(transparent)]
    Unanswered(#[from] db::Unanswered),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<crate::infra::db::PoolError> for Error {
    fn from(error: crate::infra::db::PoolError) -> Self {
        Self::Failed(error.into())
    }
}

/// A row, and where it stands in the list.
struct Row<'a> {
    source: &'a Source,
    key: String,
    at: Option<OffsetDateTime>,
    data: String,
}

/// What one table has for the page.
struct Part<'a> {
    rows: Vec<Row<'a>>,
    /// Whether the table has more than these.
    more: bool,
}

/// Reads a page.
pub async fn list(pool: &Pool, sources: &Sources, query: &ListQuery<'_>) -> Result<ListResult, Error> {
    db::with_timeout(read(pool, sources, query)).await
}

async fn read(pool: &Pool, sources: &Sources, query: &ListQuery<'_>) -> Result<ListResult, Error> {
    let mut client = pool.get().await?;
    let mut transaction = db::snapshot(&mut client).await?;
    // For a page, compiling its plan takes longer than running it. A table that somebody holds is waited for a moment.
    let limits = format!("set local jit = off; set local lock_timeout = {LOCK_MS}");
    transaction.batch_execute(&limits).await?;
    let cursor = journal::cursor_here(&transaction).await?;
    let mut unavailable = Vec::new();
    let mut tables = Vec::new();
    let wanted = sources.all().into_iter().filter(|source| {
        source.mapping.kind == query.kind && query.source.is_none_or(|name| source.name.as_ref() == name)
    });
    for source in wanted {
        let savepoint = transaction.savepoint().await?;
        let looked = SourceTable::look(&savepoint, source).await;
        match end(savepoint, looked, source, &mut unavailable).await? {
            Some(Some(table)) => tables.push(table),
            Some(None) => unavailable.push(source.name.to_string()),
            None => {}
        }
    }
    let mut anchored = None;
    let mut parts = Vec::with_capacity(tables.len());
    // The anchor's table says where the others begin, so it is looked for first. Each look has a savepoint: what is wrong
    // with one table costs nobody the others' orders.
    if let Some(before) = query.before {
        for (place, table) in tables.iter().enumerate() {
            let savepoint = transaction.savepoint().await?;
            let found = anchor(&savepoint, table, place, query, before).await;
            anchored = end(savepoint, found, table.source, &mut unavailable).await?.flatten();
            if anchored.is_some() {
                break;
            }
        }
        if anchored.is_none() {
            return Ok(ListResult::UnknownBefore);
        }
    }
    for (place, table) in tables.iter().enumerate() {
        let savepoint = transaction.savepoint().await?;
        let read = part(&savepoint, table, place, anchored.as_ref(), query).await;
        parts.extend(end(savepoint, read, table.source, &mut unavailable).await?);
    }
    let (rows, more) = merged(parts, query.limit);
    db::read_by_index(&transaction).await?;
    let rows = entries(&mut transaction, sources, query.store, rows).await?;
    transaction.commit().await?;
    unavailable.sort();
    unavailable.dedup();
    Ok(ListResult::Page(ListPage {
        rows,
        cursor,
        more,
        unavailable,
    }))
}

/// Ends a look at one source's table: what is wrong with it is its owner's, and is noted.
async fn end<T>(
    savepoint: Transaction<'_>,
    looked: Result<T, tokio_postgres::Error>,
    source: &Source,
    unavailable: &mut Vec<String>,
) -> Result<Option<T>, tokio_postgres::Error> {
    match looked {
        Ok(found) => {
            savepoint.commit().await?;
            Ok(Some(found))
        }
        Err(error) if error.as_db_error().is_some() => {
            savepoint.rollback().await?;
            tracing::warn!(
                source = &*source.name,
                error = db::reason(&error),
                "a source is missing in a list"
            );
            unavailable.push(source.name.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Where the row of a key stands.
async fn anchor(
    transaction: &Transaction<'_>,
    table: &SourceTable<'_>,
    place: usize,
    query: &ListQuery<'_>,
    before: &str,
) -> Result<Option<Anchor>, tokio_postgres::Error> {
    let store = query.store.as_str();
    let is_meant = query
        .before_source
        .is_none_or(|name| table.source.name.as_ref() == name);
    if !is_meant || !table.can_have(store) || !table.key.can_hold(before) {
        return Ok(None);
    }
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&store, Type::TEXT), (&before, Type::TEXT)];
    let row = transaction.query_typed_opt(&table.anchor_sql(), &parameters).await?;
    let at = row.map(|row| row.try_get(0)).transpose()?;
    Ok(at.map(|at| Anchor {
        place,
        at,
        key: before.to_owned(),
    }))
}

/// Reads what one table has.
async fn part<'a>(
    transaction: &Transaction<'_>,
    table: &SourceTable<'a>,
    place: usize,
    anchor: Option<&Anchor>,
    query: &ListQuery<'_>,
) -> Result<Part<'a>, tokio_postgres::Error> {
    let mut part = Part {
        rows: Vec::new(),
        more: false,
    };
    if !table.can_have(query.store.as_str()) {
        return Ok(part);
    }
    let words = &table.source.mapping.status;
    let wanted: Vec<&str> = match &query.statuses {
        StatusFilter::Any => Status::ALL
            .iter()
            .flat_map(|status| words.words_of(*status))
            .map(String::as_str)
            .collect(),
        StatusFilter::These(statuses) => statuses
            .iter()
            .flat_map(|status| words.words_of(*status))
            .map(String::as_str)
            .collect(),
    };
    let mapped: Vec<&str> = words.all().collect();
    let sql = table.list_sql(place, anchor, &query.statuses);
    let (store, limit) = (query.store.as_str(), query.limit as i64 + 1);
    let (at, key) = (
        anchor.and_then(|anchor| anchor.at),
        anchor.map(|anchor| anchor.key.as_str()),
    );
    // Not prepared: each has its own best plan, and the statements would be many.
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&store, Type::TEXT),
        (&limit, Type::INT8),
        (&wanted, Type::TEXT_ARRAY),
        (&at, Type::TIMESTAMPTZ),
        (&key, Type::TEXT),
        (&mapped, Type::TEXT_ARRAY),
    ];
    let mut rows = transaction.query_typed_raw(&sql, &parameters).await?;
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        if part.rows.len() == query.limit || bytes > PAGE_BYTES {
            part.more = true;
            break;
        }
        let data: String = row.try_get(2)?;
        bytes += data.len();
        part.rows.push(Row {
            source: table.source,
            key: row.try_get(1)?,
            at: row.try_get(0)?,
            data,
        });
    }
    rows.leave();
    Ok(part)
}

/// The rows of several tables in one order: the newest first, those without a time before them. Where a part was cut
/// short, what stands behind its last row may not be told, for it may have more in between.
fn merged<'a>(parts: Vec<Part<'a>>, limit: usize) -> (Vec<Row<'a>>, bool) {
    let mut more = false;
    let mut rows = Vec::new();
    for part in parts {
        more |= part.more;
        let last = part.rows.len().saturating_sub(1);
        let cut = part.more;
        let part = part.rows.into_iter().enumerate();
        rows.extend(part.map(|(number, row)| (row, cut && number == last)));
    }
    // Stable: rows of one table keep their order.
    rows.sort_by(|(one, _), (other, _)| match (one.at, other.at) {
        (Some(one), Some(other)) => other.cmp(&one),
        (one, other) => one.is_some().cmp(&other.is_some()),
    });
    let whole = rows
        .iter()
        .position(|(_, is_cut)| *is_cut)
        .map_or(rows.len(), |at| at + 1);
    let keep = whole.min(limit);
    more |= rows.len() > keep;
    rows.truncate(keep);
    (rows.into_iter().map(|(row, _)| row).collect(), more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::fixtures::{REFERENCE, source};

    fn part<'a>(source: &'a Source, seconds: &[i64], more: bool) -> Part<'a> {
        let row = |second: &i64| Row {
            source,
            key: second.to_string(),
            at: Some(OffsetDateTime::from_unix_timestamp(*second).unwrap()),
            data: "{}".into(),
        };
        Part {
            rows: seconds.iter().map(row).collect(),
            more,
        }
    }

    fn keys(rows: &[Row<'_>]) -> String {
        rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rows_of_several_tables_are_one_list() {
        let source = source(REFERENCE, &[]);
        let parts = || vec![part(&source, &[9, 5, 1], false), part(&source, &[7, 6], false)];
        let (rows, more) = merged(parts(), 10);
        assert_eq!((keys(&rows).as_str(), more), ("9 7 6 5 1", false));
        let (rows, more) = merged(parts(), 3);
        assert_eq!((keys(&rows).as_str(), more), ("9 7 6", true));
    }

    #[test]
    fn nothing_is_told_from_behind_a_part_that_was_cut_short() {
        let source = source(REFERENCE, &[]);
        let (rows, more) = merged(vec![part(&source, &[9, 8], true), part(&source, &[7, 6], false)], 10);
        assert_eq!((keys(&rows).as_str(), more), ("9 8", true));
    }
}
