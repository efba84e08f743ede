//! Compares the tables of sources with the journal, and reports rows without an event. A row has no event if it was
//! written while the triggers did not fire. For example, the triggers were disabled, `session_replication_role` was
//! `replica`, or a logical replication subscription applied the row. For a derived source (one with SQL expressions),
//! the reconciler also queues the missed rows for the projector. The projector, a background task, then makes late
//! events of these rows.

use std::collections::HashMap;

use super::catalog;
use super::derived;
use super::keyless_orders;
use super::mapping::Mapping;
use super::replaced_table;
use super::sql::ident;
use crate::domain::event::SourceId;
use crate::infra::db::{self, Pool, Transaction};

/// Maximum number of new rows of a table that one comparison checks. The newest rows are checked. Writes without
/// triggers usually concern many rows, so some of these rows are probably among the newest.
const ROWS: i64 = 1000;

/// Maximum wait for the lock on a shop's table, milliseconds. After this time, the comparison goes on with the next
/// table.
const LOCK_MS: u32 = 500;

/// The rows of one source that were written without an event since the last comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedRows {
    /// The source's table, quoted and with its schema, as in `public."order"`.
    pub table: String,
    /// The number of rows without an event, among the compared rows.
    pub rows: i64,
    /// The key of the newest row without an event.
    pub newest: i64,
    /// Whether the missed rows become events now, because the source is derived (its orders come from SQL expressions).
    /// The missed rows of other sources are only reported.
    pub told_late: bool,
}

/// Compares tables with the journal, and remembers up to which row each table was compared. A table can be compared
/// only if its key is a number with an index, because new rows are found by their greater keys.
#[derive(Debug, Default)]
pub struct Reconciler {
    tables: HashMap<String, Checkpoint>,
    /// The tables that the last comparison could not read. Each table was logged when it became unreadable, and is not
    /// logged again.
    unread: Vec<String>,
    /// The tables that the last comparison found without the source's triggers, because they have taken the place of
    /// other tables.
    replacing: Vec<String>,
}

/// How far a table was compared with the journal: `through` is the greatest key of the compared rows.
#[derive(Debug)]
struct Checkpoint {
    through: i64,
    /// The oldest transaction that was running at the last comparison, as text of an `xid8`. Every later event has this
    /// transaction id or a higher one.
    xmin: String,
    /// The number of rows that this and later transactions recorded without a key, and of which clients still know no
    /// key.
    keyless: i64,
}

/// A source whose table can be compared with the journal, because its key is a number with an index.
struct Comparable {
    id: SourceId,
    table: String,
    /// The key column of the table, quoted for SQL.
    key: String,
    is_derived: bool,
}

/// The result of comparing one table with the journal.
struct Compared {
    checkpoint: Checkpoint,
    missed: Option<MissedRows>,
    /// The keys of missed orders of a derived source. The projector, a background task, computes these orders again.
    to_project: Vec<String>,
}

impl Reconciler {
    /// Whether the last call of [`Self::look`] found missed rows in this table, and the table has none of the source's
    /// triggers, because it has taken the place of another table.
    pub fn is_replacing(&self, table: &str) -> bool {
        self.replacing.iter().any(|known| known == table)
    }

    /// Finds the rows that were added since the last call and have no event in the journal. The first call only records
    /// the greatest key of each table, because existing rows may be older than the triggers. A table that cannot be
    /// read is skipped, and logged once. When it can be read again, the rows that were added meanwhile are compared.
    pub async fn look(&mut self, pool: &Pool) -> Result<Vec<MissedRows>, db::QueryError> {
        db::with_timeout(async {
            let mut client = pool.get().await?;
            // A row and its event belong to one transaction, so one snapshot contains both or neither.
            let mut transaction = db::snapshot(&mut client).await?;
            db::read_by_index(&transaction).await?;
            transaction
                .batch_execute(&format!("set local lock_timeout = {LOCK_MS}"))
                .await?;
            let (mut tables, mut missed, mut unread) = (HashMap::new(), Vec::new(), Vec::new());
            let (mut to_project, mut replacing) = (Vec::new(), Vec::new());
            for source in comparable(&transaction).await? {
                let mut savepoint = transaction.savepoint().await?;
                match compare(&mut savepoint, &source, self.tables.get(&source.table)).await {
                    Ok(compared) => {
                        savepoint.commit().await?;
                        if compared.missed.is_some()
                            && replaced_table::find(&transaction, source.id, &source.table)
                                .await?
                                .is_some()
                        {
                            replacing.push(source.table.clone());
                        }
                        missed.extend(compared.missed);
                        to_project.push((source.id, compared.to_project));
                        tables.insert(source.table, compared.checkpoint);
                    }
                    Err(error) if error.as_db_error().is_some() => {
                        savepoint.rollback().await?;
                        if !self.unread.contains(&source.table) {
                            tracing::warn!(
                                table = source.table,
                                error = db::reason(&error),
                                "a table is not compared with the journal until it can be read"
                            );
                        }
                        if let Some(checkpoint) = self.tables.remove(&source.table) {
                            tables.insert(source.table.clone(), checkpoint);
                        }
                        unread.push(source.table);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            transaction.commit().await?;
            for (source, keys) in to_project.iter().filter(|(_, keys)| !keys.is_empty()) {
                derived::project_again(&*client, *source, keys).await?;
            }
            (self.tables, self.unread, self.replacing) = (tables, unread, replacing);
            Ok(missed)
        })
        .await
    }
}

/// Finds the sources whose key is a number with an index. Leaves out tables in a schema that the current role may not
/// use, because `to_regclass` would fail for them and end the comparison. The health report of a left-out source names
/// the missing right.
async fn comparable(transaction: &Transaction<'_>) -> Result<Vec<Comparable>, tokio_postgres::Error> {
    const SOURCES: &str = "select s.id, s.table_name, s.mapping, t.oid from vestnik.vst_source s \
         join pg_namespace ns on has_schema_privilege(ns.oid, 'usage') \
         join pg_class t on t.relnamespace = ns.oid and format('%I.%I', ns.nspname, t.relname) = s.table_name \
         where s.detached_at is null order by 2";
    let mut comparable = Vec::new();
    for row in transaction.query(SOURCES, &[]).await? {
        // The source's health report already names a mapping that cannot be parsed.
        let Ok(mapping) = Mapping::from_toml(row.try_get(2)?) else {
            continue;
        };
        let derived = mapping.derived.as_ref();
        let key = derived.map_or(&mapping.key, |derived| &derived.key);
        let oid: u32 = row.try_get(3)?;
        if catalog::has_numeric_index(transaction, oid, key).await? {
            comparable.push(Comparable {
                id: SourceId(row.try_get(0)?),
                table: row.try_get(1)?,
                key: ident(key),
                is_derived: derived.is_some(),
            });
        }
    }
    Ok(comparable)
}

async fn compare(
    transaction: &mut Transaction<'_>,
    source: &Comparable,
    checkpoint: Option<&Checkpoint>,
) -> Result<Compared, tokio_postgres::Error> {
    let (mut missed, mut to_project) = (None, Vec::new());
    match checkpoint {
        Some(checkpoint) if source.is_derived => {
            let written = written_since(transaction, source, checkpoint).await?;
            to_project = derived::not_projected(transaction, source.id, written).await?;
            missed = to_project
                .iter()
                .filter_map(|key| key.parse().ok())
                .max()
                .map(|newest| MissedRows {
                    table: source.table.clone(),
                    rows: i64::try_from(to_project.len()).unwrap_or(ROWS),
                    newest,
                    told_late: true,
                });
        }
        Some(checkpoint) => missed = missed_since(transaction, source, checkpoint).await?,
        None => {}
    }
    Ok(Compared {
        checkpoint: end(transaction, source).await?,
        missed,
        to_project,
    })
}

/// The keys of the rows that are new since the last comparison, the newest first.
async fn written_since(
    transaction: &Transaction<'_>,
    source: &Comparable,
    checkpoint: &Checkpoint,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = format!(
        "select t.{key}::text from {table} t where t.{key} > $1::bigint order by t.{key} desc limit $2",
        key = source.key,
        table = source.table,
    );
    let rows = transaction.query(&sql, &[&checkpoint.through, &ROWS]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn end(transaction: &Transaction<'_>, source: &Comparable) -> Result<Checkpoint, tokio_postgres::Error> {
    let sql = format!(
        "select coalesce(max(t.{})::bigint, $1::bigint), pg_snapshot_xmin(pg_current_snapshot())::text, \
             {} from {} t",
        source.key,
        keyless_orders::count_sql(source.id, "pg_snapshot_xmin(pg_current_snapshot())"),
        source.table
    );
    let row = transaction.query_one(&sql, &[&i64::MIN]).await?;
    Ok(Checkpoint {
        through: row.try_get(0)?,
        xmin: row.try_get(1)?,
        keyless: row.try_get(2)?,
    })
}

/// Counts the new rows that have no event. A row with an event of another store is not counted, because the row may
/// have moved to its present store since then. As many rows are left out as the trigger has recorded without a key,
/// because the column of the key had another name: `incomplete_events` records them again.
async fn missed_since(
    transaction: &Transaction<'_>,
    source: &Comparable,
    checkpoint: &Checkpoint,
) -> Result<Option<MissedRows>, tokio_postgres::Error> {
    let sql = format!(
        "with written as (select t.{key}::bigint as number from {table} t where t.{key} > $1::bigint order by t.{key} desc limit $3), \
           recorded as (select key from vestnik.vst_event where xid >= $2::text::xid8 and source = $4 \
               and key in (select number::text from written)) \
         select count(*) - greatest({keyless} - $5, 0), max(number) from written \
         where not exists (select from recorded where key = number::text)",
        keyless = keyless_orders::count_sql(source.id, "$2::text::xid8"),
        key = source.key,
        table = source.table,
    );
    let row = transaction
        .query_one(
            &sql,
            &[
                &checkpoint.through,
                &checkpoint.xmin,
                &ROWS,
                &source.id.0,
                &checkpoint.keyless,
            ],
        )
        .await?;
    let (rows, newest): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(newest.filter(|_| rows > 0).map(|newest| MissedRows {
        table: source.table.clone(),
        rows,
        newest,
        told_late: false,
    }))
}
