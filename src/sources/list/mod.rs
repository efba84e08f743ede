//! Reads the lists that a panel shows: a store's orders or bookings in their current state. Each page has a cursor, a
//! text that says which journal events the page already contains. A stream that is opened with this cursor sends
//! exactly the later events.

mod entry;
mod table;

use crate::infra::db::{Pool, Transaction};
use futures::TryStreamExt as _;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};

use super::{Source, Sources};
use crate::domain::event::{StoreId, SubjectId};
use crate::domain::status::{Status, SubjectKind};
use crate::infra::db;
use crate::journal;
use entry::{Entries, entries};
pub use table::StatusFilter;
pub(super) use table::TypedColumn;
use table::{Anchor, SourceTable};

/// Maximum number of rows in one page.
pub const MAX_ROWS: usize = 500;
/// Maximum size of the rows of one table in a page, bytes. A page with larger rows ends early.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Maximum wait for the lock on a shop's table, milliseconds.
const LOCK_MS: u32 = 500;

impl StatusFilter {
    /// The statuses of orders or bookings that still need work. For bookings, `Delivering` is left out, because a
    /// booking is never delivered.
    pub fn active(kind: SubjectKind) -> Self {
        let open = Status::ALL.into_iter().filter(|status| status.is_open());
        Self::These(
            open.filter(|status| kind == SubjectKind::Order || *status != Status::Delivering)
                .collect(),
        )
    }
}

/// A request for one page of a store's orders or bookings.
#[derive(Debug)]
pub struct ListQuery<'a> {
    /// The id of the store.
    pub store: &'a StoreId,
    /// Whether to list orders or bookings.
    pub kind: SubjectKind,
    /// The statuses to list.
    pub statuses: StatusFilter,
    /// The name of the only source to list; `None`: all sources.
    pub source: Option<&'a str>,
    /// The key of the last row of the previous page. This page begins after that row. `None`: the first page.
    pub before: Option<&'a str>,
    /// The name of the source of the row with the key `before`, because rows of several sources may have the same key.
    /// `None`: any source.
    pub before_source: Option<&'a str>,
    /// Maximum number of rows in the page.
    pub limit: usize,
}

/// One page of a list.
#[derive(Debug)]
pub struct ListPage {
    /// The orders or bookings as JSON objects, newest first.
    pub rows: Vec<Map<String, Value>>,
    /// The cursor of the page: a text that says which journal events the page already contains. A stream that is opened
    /// with this cursor sends exactly the later events.
    pub cursor: String,
    /// Whether more rows follow the last row of this page.
    pub more: bool,
    /// The names of the sources that could not be read. The page lacks their orders.
    pub unavailable: Vec<String>,
    /// The orders that come without their items or details, because the look-up failed.
    pub incomplete: Vec<SubjectId>,
}

/// The result of reading a page.
#[derive(Debug)]
pub enum ListResult {
    /// The page.
    Page(ListPage),
    /// The store has no row with the key `before` of the query, so the start of the page is unknown.
    UnknownBefore,
}

/// Why a page could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres reported an error, or the connection failed.
    #[error("a list cannot be read: {0}")]
    Failed(#[from] db::QueryError),
    /// The journal could not be read.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// Postgres did not answer in time.
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

/// A row of a shop's table. `at` is the row's creation time, by which the list is sorted. `data` has the recorded
/// columns as a JSON object.
struct Row<'a> {
    source: &'a Source,
    key: String,
    at: Option<OffsetDateTime>,
    data: String,
}

/// The candidate rows of one table. The page is chosen from the candidate rows of all tables.
struct TableRows<'a> {
    rows: Vec<Row<'a>>,
    /// Whether the table has more rows after these rows.
    more: bool,
}

/// Reads one page of a list. All tables are read in one snapshot.
pub async fn list(pool: &Pool, sources: &Sources, query: &ListQuery<'_>) -> Result<ListResult, Error> {
    db::with_timeout(read(pool, sources, query)).await
}

async fn read(pool: &Pool, sources: &Sources, query: &ListQuery<'_>) -> Result<ListResult, Error> {
    let mut client = pool.get().await?;
    let mut transaction = db::snapshot(&mut client).await?;
    // JIT compilation would take longer than the query for one page. The lock timeout is short, because one locked
    // table must not delay the whole list.
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
    // The row with the key `before` decides where the page begins in every table, so it is read first. Each read has
    // its own savepoint, so that an error in one table does not end the reads of the other tables.
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
        let read = table_rows(&savepoint, table, place, anchored.as_ref(), query).await;
        parts.extend(end(savepoint, read, table.source, &mut unavailable).await?);
    }
    let (rows, more) = merged(parts, query.limit);
    db::read_by_index(&transaction).await?;
    let Entries { rows, incomplete } = entries(&mut transaction, sources, query.store, rows).await?;
    transaction.commit().await?;
    unavailable.sort();
    unavailable.dedup();
    Ok(ListResult::Page(ListPage {
        rows,
        cursor,
        more,
        unavailable,
        incomplete,
    }))
}

/// Ends the savepoint in which one source was read. Commits it after a success. After an error of Postgres, rolls it
/// back, logs the error, adds the source to `unavailable`, and returns `None`.
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

/// Finds the row with the key `before`, after which the page begins. `None`: this table does not have the row.
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

/// Reads the rows of one table that may belong to the page, sorted as in the list.
async fn table_rows<'a>(
    transaction: &Transaction<'_>,
    table: &SourceTable<'a>,
    place: usize,
    anchor: Option<&Anchor>,
    query: &ListQuery<'_>,
) -> Result<TableRows<'a>, tokio_postgres::Error> {
    let mut part = TableRows {
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
    let trimmed = |words: Vec<&'a str>| words.into_iter().map(str::trim).collect::<Vec<&str>>();
    let (wanted, mapped) = (trimmed(wanted), trimmed(words.all().collect()));
    let sql = table.list_sql(place, anchor, &query.statuses);
    let (store, limit) = (query.store.as_str(), query.limit as i64 + 1);
    let (at, key) = (
        anchor.and_then(|anchor| anchor.at),
        anchor.map(|anchor| anchor.key.as_str()),
    );
    // These statements are not kept as prepared statements. They have too many variants, and each run needs a plan for
    // its own parameter values.
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

/// Merges the rows of several tables: first the rows without a creation time, then the others, newest first. If a table
/// has more rows than were read, the merge stops after its last read row. Its next row may come before the later rows
/// of other tables. Returns the merged rows, and whether more rows follow.
fn merged<'a>(parts: Vec<TableRows<'a>>, limit: usize) -> (Vec<Row<'a>>, bool) {
    let mut more = false;
    let mut rows = Vec::new();
    for part in parts {
        more |= part.more;
        let last = part.rows.len().saturating_sub(1);
        let cut = part.more;
        let part = part.rows.into_iter().enumerate();
        rows.extend(part.map(|(number, row)| (row, cut && number == last)));
    }
    // The sort is stable, so the rows of one table keep their order.
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

    fn table_rows<'a>(source: &'a Source, seconds: &[i64], more: bool) -> TableRows<'a> {
        let row = |second: &i64| Row {
            source,
            key: second.to_string(),
            at: Some(OffsetDateTime::from_unix_timestamp(*second).unwrap()),
            data: "{}".into(),
        };
        TableRows {
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
        let parts = || {
            vec![
                table_rows(&source, &[9, 5, 1], false),
                table_rows(&source, &[7, 6], false),
            ]
        };
        let (rows, more) = merged(parts(), 10);
        assert_eq!((keys(&rows).as_str(), more), ("9 7 6 5 1", false));
        let (rows, more) = merged(parts(), 3);
        assert_eq!((keys(&rows).as_str(), more), ("9 7 6", true));
    }

    #[test]
    fn nothing_is_listed_after_a_part_that_was_cut_short() {
        let source = source(REFERENCE, &[]);
        let (rows, more) = merged(
            vec![table_rows(&source, &[9, 8], true), table_rows(&source, &[7, 6], false)],
            10,
        );
        assert_eq!((keys(&rows).as_str(), more), ("9 8", true));
    }
}
