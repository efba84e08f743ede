//! The lists that a panel shows: a store's orders or bookings as they stand, together with the cursor of the very
//! snapshot that they were read in. So a list, and the stream opened with its cursor, meet exactly.

mod table;

use futures::TryStreamExt as _;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};

use crate::attachment::Kind;
use crate::db::{self, Pool, Transaction};
use crate::event::StoreId;
use crate::journal;
use crate::order::Status;
use table::{Anchor, Of, Table};

/// Rows of one page at most.
pub const MAX_ROWS: usize = 500;
/// Bytes of rows after which a page ends, whatever its limit.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Which rows, by their status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statuses {
    /// Whatever it is.
    Any,
    /// One of these.
    These(Vec<Status>),
}

impl Statuses {
    /// What somebody still has to do something for.
    pub fn active(kind: Kind) -> Self {
        let mut active = vec![Status::Pending, Status::Preparing, Status::Ready];
        if kind == Kind::Order {
            active.push(Status::Delivering);
        }
        Self::These(active)
    }
}

/// What is asked for.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Whose.
    pub store: &'a StoreId,
    /// Orders or bookings.
    pub kind: Kind,
    /// Which of them.
    pub statuses: Statuses,
    /// Rows behind this one, by its id: the next page.
    pub before: Option<&'a str>,
    /// Rows at most.
    pub limit: usize,
}

/// A page of a list.
#[derive(Debug)]
pub struct Board {
    /// The newest first, each a JSON object in its text.
    pub rows: Vec<String>,
    /// Covers what the list shows.
    pub cursor: String,
    /// Whether there are rows behind the last one.
    pub more: bool,
}

/// What a read brought.
#[derive(Debug)]
pub enum Listed {
    /// A page.
    Board(Board),
    /// The store has no row of the id that the page was to begin behind.
    UnknownBefore,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres says so, or is gone.
    #[error("a list cannot be read: {0}")]
    Failed(#[from] db::Failed),
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

impl From<db::PoolError> for Error {
    fn from(error: db::PoolError) -> Self {
        Self::Failed(error.into())
    }
}

/// A row, and where it stands in the list.
struct Row {
    at: Option<OffsetDateTime>,
    text: String,
}

/// What one table has for the page.
struct Part {
    rows: Vec<Row>,
    /// Whether the table has more than these.
    more: bool,
}

/// Reads a page.
pub async fn list(pool: &Pool, wanted: &Wanted<'_>) -> Result<Listed, Error> {
    db::answered(read(pool, wanted)).await
}

async fn read(pool: &Pool, wanted: &Wanted<'_>) -> Result<Listed, Error> {
    let mut client = pool.get().await?;
    let transaction = db::snapshot(&mut client).await?;
    // For a page, compiling its plan takes longer than running it.
    transaction.batch_execute("set local jit = off").await?;
    let cursor = journal::cursor_here(&transaction).await?;
    let tables = table::tables(&transaction, wanted.kind).await?;
    let anchor = match wanted.before {
        None => None,
        Some(before) => match anchor(&transaction, &tables, wanted.store, before).await? {
            None => return Ok(Listed::UnknownBefore),
            found => found,
        },
    };
    let mut parts = Vec::with_capacity(tables.len());
    for (place, table) in tables.iter().enumerate() {
        parts.push(part(&transaction, table, place, anchor.as_ref(), wanted).await?);
    }
    transaction.commit().await?;
    let (rows, more) = merged(parts, wanted.limit);
    Ok(Listed::Board(Board { rows, cursor, more }))
}

/// Where the row of an id stands.
async fn anchor(
    transaction: &Transaction<'_>,
    tables: &[Table],
    store: &StoreId,
    before: &str,
) -> Result<Option<Anchor>, tokio_postgres::Error> {
    for (place, table) in tables.iter().enumerate() {
        if !table.can_have(store.as_str()) || !table.id.can_hold(before) {
            continue;
        }
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&store.as_str(), Type::TEXT), (&before, Type::TEXT)];
        let row = transaction.query_typed_opt(&table.anchor_sql(), &parameters).await?;
        if let Some(row) = row {
            return Ok(Some(Anchor {
                place,
                at: row.try_get(0)?,
                id: before.to_owned(),
            }));
        }
    }
    Ok(None)
}

/// Reads what one table has.
async fn part(
    transaction: &Transaction<'_>,
    table: &Table,
    place: usize,
    anchor: Option<&Anchor>,
    wanted: &Wanted<'_>,
) -> Result<Part, tokio_postgres::Error> {
    let mut part = Part {
        rows: Vec::new(),
        more: false,
    };
    let statuses = match &wanted.statuses {
        Statuses::Any => None,
        Statuses::These(these) => Some(table.known(these)),
    };
    if !table.can_have(wanted.store.as_str()) || statuses.as_ref().is_some_and(Vec::is_empty) {
        return Ok(part);
    }
    let of = match statuses {
        Some(_) => Of::These,
        None => Of::Any,
    };
    let sql = table.list_sql(wanted.kind, place, anchor, of);
    let (store, limit) = (wanted.store.as_str(), wanted.limit as i64 + 1);
    let (at, id) = (
        anchor.and_then(|anchor| anchor.at),
        anchor.map(|anchor| anchor.id.as_str()),
    );
    // Not prepared: each has its own best plan, and the statements would be many.
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&store, Type::TEXT),
        (&limit, Type::INT8),
        (&statuses, Type::TEXT_ARRAY),
        (&at, Type::TIMESTAMPTZ),
        (&id, Type::TEXT),
    ];
    let mut rows = transaction.query_typed_raw(&sql, &parameters).await?;
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        if part.rows.len() == wanted.limit || bytes > PAGE_BYTES {
            part.more = true;
            break;
        }
        let text: &str = row.try_get(3)?;
        bytes += text.len();
        let status = row.try_get::<_, Option<&str>>(1)?.and_then(Status::from_name);
        let next = match status {
            Some(status) => status.next(wanted.kind, row.try_get(2)?),
            None => &[],
        };
        part.rows.push(Row {
            at: row.try_get(0)?,
            text: with_next(text, next),
        });
    }
    rows.leave();
    Ok(part)
}

/// The JSON object with what may become of the row; what else it says is passed through as Postgres wrote it.
fn with_next(object: &str, next: &[Status]) -> String {
    let next: Vec<&str> = next.iter().map(|status| status.as_str()).collect();
    let next = serde_json::Value::from(next);
    format!(r#"{{"next": {next}, {}"#, object.strip_prefix('{').unwrap_or(object))
}

/// The rows of several tables in one order: the newest first, those without a time before them. Where a part was cut
/// short, what stands behind its last row may not be told, for it may have more in between.
fn merged(parts: Vec<Part>, limit: usize) -> (Vec<String>, bool) {
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
    (rows.into_iter().map(|(row, _)| row.text).collect(), more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(seconds: &[i64], more: bool) -> Part {
        let row = |second: &i64| Row {
            at: Some(OffsetDateTime::from_unix_timestamp(*second).unwrap()),
            text: second.to_string(),
        };
        Part {
            rows: seconds.iter().map(row).collect(),
            more,
        }
    }

    #[test]
    fn rows_of_several_tables_are_one_list() {
        let (rows, more) = merged(vec![part(&[9, 5, 1], false), part(&[7, 6], false)], 10);
        assert_eq!((rows.join(" ").as_str(), more), ("9 7 6 5 1", false));
        let (rows, more) = merged(vec![part(&[9, 5, 1], false), part(&[7, 6], false)], 3);
        assert_eq!((rows.join(" ").as_str(), more), ("9 7 6", true));
    }

    #[test]
    fn nothing_is_told_from_behind_a_part_that_was_cut_short() {
        let (rows, more) = merged(vec![part(&[9, 8], true), part(&[7, 6], false)], 10);
        assert_eq!((rows.join(" ").as_str(), more), ("9 8", true));
    }
}
