//! Compares the attached tables with the journal: a row without an event was written past the triggers (they were off,
//! `session_replication_role` was `replica`, a subscription applied it), and nobody has heard of it.

use std::collections::HashMap;

use crate::db::{self, Pool, Transaction};

/// Rows of a table that are compared at once, the newest: writing past the triggers is seldom about one row.
const ROWS: i64 = 1000;

/// What was written past the triggers of a table since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// With its schema, as SQL writes it.
    pub table: String,
    /// How many rows; at most as many as are compared.
    pub rows: i64,
    /// The newest of them.
    pub newest: i64,
}

/// How far the tables have been compared. Of those whose ids are numbers, and have an index: of others nobody knows what is
/// new.
#[derive(Debug, Default)]
pub struct Sweep {
    tables: HashMap<String, Mark>,
}

/// Where the last look at a table ended.
#[derive(Debug)]
struct Mark {
    through: i64,
    /// What was written later has a transaction number that is not below: text of an xid8.
    xmin: String,
}

impl Sweep {
    /// Looks at the rows that have come since the last time. The first time it notes where each table ends, for what was
    /// there before may be older than the triggers.
    pub async fn look(&mut self, pool: &Pool) -> Result<Vec<Untold>, db::Failed> {
        const TABLES: &str = "select a.table_name, quote_ident(a.id_column) from vestnik.attachment a \
             join pg_attribute i on i.attrelid = to_regclass(a.table_name) and i.attname = a.id_column \
             where i.atttypid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) \
               and exists (select from pg_index x join pg_class c on c.oid = x.indexrelid join pg_am m on m.oid = c.relam \
                           where x.indrelid = i.attrelid and x.indisvalid and x.indpred is null and x.indkey[0] = i.attnum \
                             and m.amname = 'btree') \
             order by 1";
        db::answered(async {
            let mut client = pool.get().await?;
            // A row and its event are of one transaction, so one snapshot has both.
            let transaction = db::snapshot(&mut client).await?;
            db::read_by_index(&transaction).await?;
            let (mut tables, mut untold) = (HashMap::new(), Vec::new());
            for row in transaction.query(TABLES, &[]).await? {
                let (table, id): (String, String) = (row.try_get(0)?, row.try_get(1)?);
                if let Some(mark) = self.tables.get(&table) {
                    untold.extend(untold_since(&transaction, &table, &id, mark).await?);
                }
                let mark = end(&transaction, &table, &id).await?;
                tables.insert(table, mark);
            }
            transaction.commit().await?;
            self.tables = tables;
            Ok(untold)
        })
        .await
    }
}

async fn end(client: &Transaction<'_>, table: &str, id: &str) -> Result<Mark, tokio_postgres::Error> {
    let sql = format!(
        "select coalesce(max(t.{id})::bigint, $1::bigint), pg_snapshot_xmin(pg_current_snapshot())::text from {table} t"
    );
    let row = client.query_one(&sql, &[&i64::MIN]).await?;
    Ok(Mark {
        through: row.try_get(0)?,
        xmin: row.try_get(1)?,
    })
}

/// By whatever store: a row may have moved to another.
async fn untold_since(
    client: &Transaction<'_>,
    table: &str,
    id: &str,
    mark: &Mark,
) -> Result<Option<Untold>, tokio_postgres::Error> {
    let sql = format!(
        "with written as (select t.{id}::bigint as number from {table} t where t.{id} > $1::bigint order by t.{id} desc limit $3), \
           told as (select subject from vestnik.event where xid >= $2::text::xid8 and subject in (select number::text from written)) \
         select count(*), max(number) from written where not exists (select from told where subject = number::text)"
    );
    let row = client.query_one(&sql, &[&mark.through, &mark.xmin, &ROWS]).await?;
    let (rows, newest): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(newest.map(|newest| Untold {
        table: table.to_owned(),
        rows,
        newest,
    }))
}
