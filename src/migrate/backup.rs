//! Writes the backup before V23, the migration that renames statuses in the tables `orders` and `bookings`. pg_dump
//! dumps both tables. Without a suitable pg_dump, only their ids and statuses are copied. The backup fails if the file
//! does not have as many rows as the tables had in the snapshot of the backup.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures::TryStreamExt as _;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::process::Command;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::v23_names::TABLES;
use super::{Error, Progress};
use crate::infra::config::Config;
use crate::infra::db;
use crate::infra::postgres_binaries;

/// Writes the backup, and returns its path. The backup is written before any row is changed, so a failure leaves all
/// rows as they were.
pub async fn write(client: &mut Client, config: &Config, say: Progress<'_>) -> Result<PathBuf, Error> {
    let stamp = format_description!("[year][month][day]T[hour][minute][second]_[subsecond digits:3]Z");
    let stamp = OffsetDateTime::now_utc().format(stamp).unwrap_or_default();
    let path = config
        .shop
        .backup_directory
        .join(format!("backup_before_v23_{stamp}.sql"));
    let problem = |reason: String| Error::Backup {
        path: path.clone(),
        reason,
    };
    let create = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let file = create.map_err(|error| problem(error.to_string()))?;
    let written = match fill(client, config, &file, say).await {
        Ok(rows) => check(&path, &file, rows).map(|()| rows).map_err(problem),
        Err(Failure::Reason(reason)) => Err(problem(reason)),
        Err(Failure::Postgres(error)) => Err(problem(db::reason(&error))),
    };
    match written {
        Ok(rows) => say(&format!("wrote {} with {rows} rows", path.display())),
        // Delete an incomplete backup, because a person might trust it.
        Err(_) => drop(fs::remove_file(&path)),
    }
    written.map(|_| path)
}

/// The reason why the backup could not be written.
enum Failure {
    Postgres(tokio_postgres::Error),
    Reason(String),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

/// Writes the rows of both tables into the file, as they are in one snapshot. Returns the number of rows.
async fn fill(client: &mut Client, config: &Config, file: &File, say: Progress<'_>) -> Result<u64, Failure> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let mut rows = 0;
    for table in TABLES {
        let count = transaction
            .query_one(&format!("select count(*) from {table}"), &[])
            .await?;
        rows += count.try_get::<_, i64>(0)?.unsigned_abs();
    }
    let major: i32 = transaction
        .query_one("select current_setting('server_version_num')::int / 10000", &[])
        .await?
        .try_get(0)?;
    match pg_dump(major.unsigned_abs()).await {
        Some(program) => dump(&program, &transaction, config, file).await?,
        None => {
            say("no pg_dump of the server's version was found: the backup holds ids and statuses only");
            copy(&transaction, file).await.map_err(Failure::Reason)?;
        }
    }
    transaction.commit().await?;
    Ok(rows)
}

/// Flushes the file to the disk, and checks that it contains this number of rows.
fn check(path: &Path, file: &File, rows: u64) -> Result<(), String> {
    file.sync_all().map_err(|error| error.to_string())?;
    match copied_rows(path).map_err(|error| error.to_string())? {
        counted if counted == rows => Ok(()),
        counted => Err(format!("it holds {counted} rows, and the tables {rows}")),
    }
}

/// Finds a pg_dump that is not older than the server. `None`: this machine has no such pg_dump.
async fn pg_dump(major: u32) -> Option<PathBuf> {
    for directory in postgres_binaries::directories_with(&["pg_dump"]) {
        let program = directory.join("pg_dump");
        if postgres_binaries::major_of(&program)
            .await
            .is_some_and(|version| version >= major)
        {
            return Some(program);
        }
    }
    None
}

/// Runs pg_dump on the snapshot of the transaction. The database's address is passed in the environment, because every
/// user of the machine can see command lines.
async fn dump(program: &Path, transaction: &Transaction<'_>, config: &Config, file: &File) -> Result<(), Failure> {
    let snapshot = transaction.query_one("select pg_export_snapshot()", &[]).await?;
    let snapshot: &str = snapshot.try_get(0)?;
    let mut command = Command::new(program);
    command.arg(format!("--snapshot={snapshot}"));
    // pg_dump leaves out the partitions of a table that is given by name. So give it the names of the partitions, too.
    const FAMILY: &str = "with recursive family (relid) as ( \
             select to_regclass(name)::oid from unnest($1::text[]) name \
             union select i.inhrelid from pg_inherits i join family on family.relid = i.inhparent) \
         select format('%I.%I', n.nspname, c.relname) from family \
         join pg_class c on c.oid = family.relid join pg_namespace n on n.oid = c.relnamespace";
    for row in transaction.query(FAMILY, &[&TABLES.as_slice()]).await? {
        command.args(["-t", row.try_get(0)?]);
    }
    let reason = |reason: String| Failure::Reason(format!("pg_dump: {reason}"));
    address(&mut command, config).map_err(reason)?;
    let out = file.try_clone().map_err(|error| reason(error.to_string()))?;
    let output = command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped()).spawn();
    let output = output
        .map_err(|error| reason(error.to_string()))?
        .wait_with_output()
        .await;
    let output = output.map_err(|error| reason(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(reason(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Passes the database's address to a program in its environment.
fn address(command: &mut Command, config: &Config) -> Result<(), String> {
    let url = config.database.listen_url.as_ref().or(config.database.url.as_ref());
    let url = url.ok_or("no database is given")?;
    let address = db::parse(url, "backup").map_err(|error| error.to_string())?;
    // Remove PGSERVICE, because the variables already contain the settings of the service.
    command.env_remove("PGSERVICE").envs(address.variables());
    Ok(())
}

/// Writes the id and the status of each row, as SQL statements that restore the statuses.
async fn copy(transaction: &Transaction<'_>, mut file: &File) -> Result<(), String> {
    const HEAD: &str = "-- The ids and statuses of before V23. After `vestnik migrate --undo v23`, for V23's constraints refuse the old
-- ones, psql puts them back with this file. Both words mean the same, so nobody is told.
\\set ON_ERROR_STOP on
set client_encoding = 'UTF8';
begin;";
    let postgres = |error: tokio_postgres::Error| db::reason(&error);
    let io = |error: std::io::Error| error.to_string();
    writeln!(file, "{HEAD}").map_err(io)?;
    for table in TABLES {
        writeln!(
            file,
            "create temporary table before_v23 (id text, status text) on commit drop;\ncopy before_v23 from stdin;"
        )
        .map_err(io)?;
        let sql = format!("copy (select id, status from {table}) to stdout");
        let rows = transaction.copy_out(&sql).await.map_err(postgres)?;
        let mut rows = std::pin::pin!(rows);
        while let Some(part) = rows.try_next().await.map_err(postgres)? {
            file.write_all(&part).map_err(io)?;
        }
        writeln!(
            file,
            "\\.\nupdate {table} t set status = b.status from before_v23 b \
             where t.id::text = b.id and t.status is distinct from b.status;\ndrop table before_v23;"
        )
        .map_err(io)?;
    }
    writeln!(file, "commit;").map_err(io)
}

/// Counts the rows in a dump, which are the lines between `copy ... from stdin;` and `\.`.
fn copied_rows(path: &Path) -> std::io::Result<u64> {
    let (mut rows, mut inside) = (0, false);
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        if inside && line == b"\\." {
            inside = false;
        } else if inside {
            rows += 1;
        } else {
            let line = line.to_ascii_lowercase();
            inside = line.starts_with(b"copy ") && line.ends_with(b" from stdin;");
        }
    }
    Ok(rows)
}
