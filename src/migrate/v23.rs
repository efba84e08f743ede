//! Prepares the reference shop's tables for V23, the migration that renames statuses. First checks the tables and
//! writes a backup. Then rewrites the rows in small transactions. After that, V23 itself has little to do while it
//! locks the tables.

use refinery::SchemaVersion;
use tokio_postgres::Client;

use super::v23_names::{CONSTRAINTS, RENAMED, TABLES, index_name, parts};
use super::{Error, Progress, backup, lock, refusals};
use crate::infra::config::Config;

/// The version number of the migration V23 in the reference shop's migrations.
pub const VERSION: SchemaVersion = 23;
const KNOWN: [&str; 6] = ["pending", "preparing", "ready", "completed", "rejected", "cancelled"];
/// Number of table blocks that one transaction rewrites. These are thousands of rows, which take milliseconds.
pub const BATCH_BLOCKS: i64 = 64;
/// Maximum number of rows in one transaction that rewrites late rows. Applications write late rows, which have an old
/// status, during the migration.
const LATE_ROWS: u64 = 1000;
/// How long `create index concurrently` may wait for older transactions to end.
const INDEX_LOCK_TIMEOUT: &str = "10min";

/// Fails if a row has a status that the migration V23 does not know, or if a table would reject the new statuses. The
/// error lists all these problems. Changes no row.
pub async fn check(client: &Client) -> Result<(), Error> {
    let mut unknown = Vec::new();
    for table in TABLES {
        let Some(kind) = column_type(client, table, "status").await? else {
            continue;
        };
        if !matches!(kind.as_str(), "text" | "character varying" | "character" | "citext") {
            return Err(Error::NotText { table, found: kind });
        }
        let delivering = match table {
            "public.orders" if column_type(client, table, "order_type").await?.is_some() => {
                "order_type is not distinct from 'delivery'"
            }
            // If the table has no column for the order type, accept the status `delivering` for every order.
            "public.orders" => "true",
            _ => "false",
        };
        let mut known: Vec<&str> = KNOWN.to_vec();
        known.extend(RENAMED.iter().map(|(old, _)| *old));
        let sql = format!(
            "select coalesce(quote_literal(status::text), 'null'), count(*), status is not distinct from 'delivering' \
             from {table} where (status is null or status::text <> all ($1)) \
                 and not coalesce(status = 'delivering' and {delivering}, false) group by status order by 2 desc"
        );
        for row in client.query(&sql, &[&known]).await? {
            let (status, count): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
            let why = if row.try_get(2)? {
                ", though they are no deliveries"
            } else {
                ""
            };
            unknown.push(format!("{table}: {count} rows with status {status}{why}"));
        }
    }
    if !unknown.is_empty() {
        return Err(Error::UnknownStatuses(unknown));
    }
    match refusals::find(client).await? {
        refusals if refusals.is_empty() => Ok(()),
        refusals => Err(Error::Refused(refusals)),
    }
}

/// Reports through `say` how many rows of each status the migration V23 would change.
pub async fn describe_pending(client: &Client, say: Progress<'_>) -> Result<(), Error> {
    for table in TABLES {
        if column_type(client, table, "status").await?.is_none() {
            continue;
        }
        for (old, new) in RENAMED {
            let sql = format!("select count(*) from {table} where status = $1");
            let count: i64 = client.query_one(&sql, &[&old]).await?.try_get(0)?;
            say(&format!("{table}: {count} rows would change from {old} to {new}"));
        }
    }
    Ok(())
}

/// Prepares the migration V23: writes the backup, saves the old state, and rewrites the rows with an old status. If an
/// application writes an old status after that, V23 itself rewrites the row.
pub async fn prepare(client: &mut Client, config: &Config, say: Progress<'_>) -> Result<(), Error> {
    keep_defaults(client).await?;
    let rows = "select exists (select from public.orders) or exists (select from public.bookings)";
    if !client.query_one(rows, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(());
    }
    backup::write(client, config, say).await?;
    keep_state(client).await?;
    for table in TABLES {
        let parts = parts(client, table).await?;
        for part in &parts {
            let rewritten = rewrite(client, part, REWRITE).await?;
            say(&format!("{part}: unified the status of {rewritten} rows"));
        }
        index(client, table, &parts, say).await?;
        // Refresh the statistics. Otherwise the planner assumes that half of the rows have the old status, and V23
        // scans the whole table while it holds the lock.
        client.batch_execute(&format!("analyze {table} (status)")).await?;
        for part in &parts {
            rewrite_late_rows(client, part).await?;
        }
    }
    Ok(())
}

const REWRITE: Rewrite = Rewrite {
    set: "case status when 'new' then 'pending' else 'preparing' end",
    which: "status in ('new', 'confirmed')",
};

/// A change of the status of many rows, as SQL.
#[derive(Clone, Copy)]
pub struct Rewrite {
    /// An SQL expression for a row's new status.
    pub set: &'static str,
    /// An SQL condition for the rows to change. It must not match a row that was changed already.
    pub which: &'static str,
}

/// Saves which rows have one of the new statuses already before the migration V23. An undo keeps the status of these
/// rows, and restores the old status of all other rows.
async fn keep_state(client: &mut Client) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let there = "select to_regclass('vestnik.vst_before_v23') is not null";
    // If the table `vestnik.vst_before_v23` exists, an interrupted migration has saved the state. Keep this state,
    // because rows may have been rewritten since.
    if !transaction.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
        transaction
            .batch_execute(
                "create table vestnik.vst_before_v23 (table_name text not null, row_id text not null, old_status text not null, \
                     primary key (table_name, row_id, old_status)); \
                 comment on table vestnik.vst_before_v23 is 'rows that had one of the new statuses before V23, for \
                     vestnik migrate --undo v23'",
            )
            .await?;
        // Skip null and repeated ids: the shop's table may have no key, or may be partitioned.
        for table in TABLES {
            let sql = format!(
                "insert into vestnik.vst_before_v23 select $1, id::text, status::text from {table} \
                 where status in ('pending', 'preparing') and id is not null on conflict do nothing"
            );
            transaction.execute(&sql, &[&table]).await?;
        }
    }
    Ok(transaction.commit().await?)
}

/// Saves each table's default status if it differs from `new`, the default of the reference shop. The saved value is an
/// SQL expression. Null: the column has no default.
async fn keep_defaults(client: &mut Client) -> Result<(), Error> {
    const KEEP: &str = "create table vestnik.vst_before_v23_default as \
             select table_name, pg_get_expr(d.adbin, d.adrelid) as expression \
             from (values ('public.orders'), ('public.bookings')) t (table_name) \
             join pg_attribute a on a.attrelid = to_regclass(table_name) and a.attname = 'status' and not a.attisdropped \
             left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
             where coalesce(pg_get_expr(d.adbin, d.adrelid), '') not in ('''new''::text', '''new''::character varying'); \
         do $$ begin if not exists (select from vestnik.vst_before_v23_default) then \
             drop table vestnik.vst_before_v23_default; end if; end $$";
    let transaction = client.transaction().await?;
    transaction
        .batch_execute("drop table if exists vestnik.vst_before_v23_default")
        .await?;
    transaction.batch_execute(KEEP).await?;
    Ok(transaction.commit().await?)
}

/// Rewrites rows in small transactions, in the order of the table's blocks. Skips locked rows, so that no transaction
/// waits while it holds locks. Returns the number of changed rows.
pub async fn rewrite(client: &mut Client, table: &str, rewrite: Rewrite) -> Result<u64, Error> {
    let blocks = format!("select pg_relation_size('{table}') / current_setting('block_size')::bigint");
    let blocks: i64 = client.query_one(&blocks, &[]).await?.try_get(0)?;
    let Rewrite { set, which } = rewrite;
    let mut rewritten = 0;
    for begin in (0..blocks).step_by(BATCH_BLOCKS as usize) {
        let end = begin + BATCH_BLOCKS;
        let sql = format!(
            "update {table} set status = {set} where ctid = any (array( \
                 select ctid from {table} where ctid >= '({begin},0)' and ctid < '({end},0)' and {which} \
                 for update skip locked)) and {which}"
        );
        let transaction = client.transaction().await?;
        rewritten += transaction.execute(&sql, &[]).await?;
        transaction.commit().await?;
    }
    Ok(rewritten)
}

/// Rewrites the rows with an old status that applications wrote while the index was built. Finds these rows with the
/// index.
async fn rewrite_late_rows(client: &mut Client, table: &str) -> Result<(), Error> {
    let Rewrite { set, which } = REWRITE;
    let sql = format!(
        "update {table} set status = {set} where ctid = any (array( \
             select ctid from {table} where {which} limit {LATE_ROWS} for update skip locked)) and {which}"
    );
    loop {
        let transaction = client.transaction().await?;
        let rewritten = transaction.execute(&sql, &[]).await?;
        transaction.commit().await?;
        if rewritten < LATE_ROWS {
            return Ok(());
        }
    }
}

/// Builds the index of the column `status` while writers continue. Otherwise the migration would build it while it
/// locks the table. Postgres cannot index a partitioned table concurrently. So this function indexes its partitions,
/// and the migration attaches these indexes.
async fn index(client: &Client, table: &str, parts: &[String], say: Progress<'_>) -> Result<(), Error> {
    const UNFINISHED: &str =
        "select exists (select from pg_index where indexrelid = to_regclass($1) and not indisvalid)";
    let columns = match column_type(client, table, "created_at").await? {
        Some(_) => "status, created_at",
        None => "status",
    };
    for part in parts {
        let (schema, index) = index_name(client, part).await?;
        let qualified = format!("{schema}.{index}");
        if client.query_one(UNFINISHED, &[&qualified]).await?.try_get(0)? {
            client
                .batch_execute(&format!("drop index concurrently {qualified}"))
                .await?;
        }
        say(&format!("building {index}; it waits for transactions that are older"));
        client
            .batch_execute(&format!("set lock_timeout = '{INDEX_LOCK_TIMEOUT}'"))
            .await?;
        let built = client
            .batch_execute(&format!(
                "create index concurrently if not exists {index} on {part} ({columns})"
            ))
            .await;
        client.batch_execute("set lock_timeout = 0").await?;
        built?;
    }
    Ok(())
}

/// Validates the constraints of the migration V23 for existing rows, while writers continue. Returns whether a
/// constraint was validated.
pub async fn validate(client: &mut Client, say: Progress<'_>) -> Result<bool, Error> {
    const UNPROVEN: &str = "select exists (select from pg_constraint \
         where conrelid = to_regclass($1) and conname = $2 and not convalidated)";
    let mut changed = false;
    for (table, constraint) in CONSTRAINTS {
        if !client.query_one(UNPROVEN, &[&table, &constraint]).await?.try_get(0)? {
            continue;
        }
        let sql = format!("alter table {table} validate constraint {constraint}");
        lock::with_retries(client, say, async |client: &mut Client, _: Progress<'_>| {
            Ok(client.batch_execute(&sql).await?)
        })
        .await?;
        say(&format!("validated {constraint}"));
        changed = true;
    }
    Ok(changed)
}

/// Reads the type of a column. `None`: the table or the column does not exist.
async fn column_type(client: &Client, table: &str, column: &str) -> Result<Option<String>, Error> {
    const COLUMN: &str = "select format_type(atttypid, null) from pg_attribute \
         where attrelid = to_regclass($1) and attname = $2 and not attisdropped";
    let row = client.query_opt(COLUMN, &[&table, &column]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
