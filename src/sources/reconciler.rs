//! Compares the sources' tables with the journal: a row without an event was written past the triggers (they were off,
//! `session_replication_role` was `replica`, a subscription applied it), and nobody has been told of it.

use std::collections::HashMap;

use crate::infra::db::{Pool, Transaction};

use crate::infra::db;

/// Rows of a table that are compared at once, the newest: writing past the triggers is seldom about one row.
const ROWS: i64 = 1000;

/// How long a table that somebody holds is waited for, milliseconds: the others are compared then.
const LOCK_MS: u32 = 500;

/// What was written past the triggers of a source since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedRows {
    /// Its table, as SQL writes it.
    pub table: String,
    /// How many rows; at most as many as are compared.
    pub rows: i64,
    /// The newest of them, by its key.
    pub newest: i64,
}

/// How far the tables have been compared. Of those whose keys are numbers, and have an index: of others nobody knows what is
/// new.
#[derive(Debug, Default)]
pub struct Reconciler {
    tables: HashMap<String, Mark>,
    /// Tables that could not be read at the last look.
    unread: Vec<String>,
}

/// Where the last look at a table ended.
#[derive(Debug)]
struct Mark {
    through: i64,
    /// What was written later has a transaction number that is not below: text of an xid8.
    xmin: String,
}

/// A source whose rows can be compared.
struct Comparable {
    id: i32,
    table: String,
    /// As SQL writes it.
    key: String,
}

impl Reconciler {
    /// Looks at the rows that have come since the last time. The first time it notes where each table ends, for what was
    /// there before may be older than the triggers. A table that cannot be read is left out, which is said once, and what is written
    /// meanwhile is compared when it can be read again.
    pub async fn look(&mut self, pool: &Pool) -> Result<Vec<MissedRows>, db::QueryError> {
        db::with_timeout(async {
            let mut client = pool.get().await?;
            // A row and its event are of one transaction, so one snapshot has both.
            let mut transaction = db::snapshot(&mut client).await?;
            db::read_by_index(&transaction).await?;
            transaction
                .batch_execute(&format!("set local lock_timeout = {LOCK_MS}"))
                .await?;
            let (mut tables, mut missed, mut unread) = (HashMap::new(), Vec::new(), Vec::new());
            for source in comparable(&transaction).await? {
                let savepoint = transaction.savepoint().await?;
                match compare(&savepoint, &source, self.tables.get(&source.table)).await {
                    Ok((mark, found)) => {
                        savepoint.commit().await?;
                        missed.extend(found);
                        tables.insert(source.table, mark);
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
                        if let Some(mark) = self.tables.remove(&source.table) {
                            tables.insert(source.table.clone(), mark);
                        }
                        unread.push(source.table);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            transaction.commit().await?;
            (self.tables, self.unread) = (tables, unread);
            Ok(missed)
        })
        .await
    }
}

/// The sources whose keys are numbers with an index. `to_regclass` fails where a role may not use a schema, and all others would
/// not be compared: their health names those.
async fn comparable(transaction: &Transaction<'_>) -> Result<Vec<Comparable>, tokio_postgres::Error> {
    const SOURCES: &str = "select s.id, s.table_name, quote_ident(a.attname) from vestnik.vst_source s \
         join pg_namespace ns on has_schema_privilege(ns.oid, 'usage') \
         join pg_class t on t.relnamespace = ns.oid and format('%I.%I', ns.nspname, t.relname) = s.table_name \
         join pg_attribute a on a.attrelid = t.oid and a.attname = s.columns -> 0 ->> 'name' \
         where s.detached_at is null and to_regclass('vestnik.vst_projection_' || s.id) is null and a.atttypid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) \
           and exists (select from pg_index x join pg_class c on c.oid = x.indexrelid join pg_am m on m.oid = c.relam \
                       where x.indrelid = a.attrelid and x.indisvalid and x.indpred is null and x.indkey[0] = a.attnum \
                         and m.amname = 'btree') \
         order by 2";
    let rows = transaction.query(SOURCES, &[]).await?;
    let source = |row: &tokio_postgres::Row| {
        Ok(Comparable {
            id: row.try_get(0)?,
            table: row.try_get(1)?,
            key: row.try_get(2)?,
        })
    };
    rows.iter().map(source).collect()
}

async fn compare(
    transaction: &Transaction<'_>,
    source: &Comparable,
    mark: Option<&Mark>,
) -> Result<(Mark, Option<MissedRows>), tokio_postgres::Error> {
    let missed = match mark {
        Some(mark) => missed_since(transaction, source, mark).await?,
        None => None,
    };
    Ok((end(transaction, source).await?, missed))
}

async fn end(transaction: &Transaction<'_>, source: &Comparable) -> Result<Mark, tokio_postgres::Error> {
    let sql = format!(
        "select coalesce(max(t.{})::bigint, $1::bigint), pg_snapshot_xmin(pg_current_snapshot())::text from {} t",
        source.key, source.table
    );
    let row = transaction.query_one(&sql, &[&i64::MIN]).await?;
    Ok(Mark {
        through: row.try_get(0)?,
        xmin: row.try_get(1)?,
    })
}

/// By whatever store: a row may have moved to another.
async fn missed_since(
    transaction: &Transaction<'_>,
    source: &Comparable,
    mark: &Mark,
) -> Result<Option<MissedRows>, tokio_postgres::Error> {
    let sql = format!(
        "with written as (select t.{key}::bigint as number from {table} t where t.{key} > $1::bigint order by t.{key} desc limit $3), \
           recorded as (select key from vestnik.vst_event where xid >= $2::text::xid8 and source = $4 \
               and key in (select number::text from written)) \
         select count(*), max(number) from written where not exists (select from recorded where key = number::text)",
        key = source.key,
        table = source.table,
    );
    let row = transaction
        .query_one(&sql, &[&mark.through, &mark.xmin, &ROWS, &source.id])
        .await?;
    let (rows, newest): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(newest.map(|newest| MissedRows {
        table: source.table.clone(),
        rows,
        newest,
    }))
}
