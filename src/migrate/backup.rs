//! The backup before V23: a dump of the two tables by pg_dump, or, where there is none that fits, their ids and statuses.
//! Its rows are counted in the file and in the snapshot that it was made from.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures::TryStreamExt as _;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::process::Command;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::v23::TABLES;
use super::{Error, Say};
use crate::config::Config;
use crate::{db, programs};

/// Writes the backup, or fails before anything is changed.
pub async fn write(client: &mut Client, config: &Config, say: Say<'_>) -> Result<PathBuf, Error> {
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
    let written = match pg_dump(major.unsigned_abs()).await {
        Some(program) => dump(&program, &transaction, config, &file).await,
        None => {
            say("no pg_dump of the server's version was found: the backup holds ids and statuses only");
            copy(&transaction, &file).await
        }
    };
    transaction.commit().await?;
    let checked = written.and_then(|()| {
        file.sync_all().map_err(|error| error.to_string())?;
        match copied_rows(&path).map_err(|error| error.to_string())? {
            counted if counted == rows => Ok(()),
            counted => Err(format!("it holds {counted} rows, and the tables {rows}")),
        }
    });
    match checked {
        Ok(()) => {
            say(&format!("wrote {} with {rows} rows", path.display()));
            Ok(path)
        }
        Err(reason) => {
            // Half a backup is worse than none.
            let _ = fs::remove_file(&path);
            Err(problem(reason))
        }
    }
}

/// A pg_dump of the server's version or a newer one.
async fn pg_dump(major: u32) -> Option<PathBuf> {
    for directory in programs::directories_with(&["pg_dump"]) {
        let program = directory.join("pg_dump");
        if programs::major_of(&program)
            .await
            .is_some_and(|version| version >= major)
        {
            return Some(program);
        }
    }
    None
}

/// Dumps what the transaction sees. The address goes through the environment: a command line is seen by everybody.
async fn dump(program: &Path, transaction: &Transaction<'_>, config: &Config, file: &File) -> Result<(), String> {
    let snapshot: String = transaction
        .query_one("select pg_export_snapshot()", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| db::reason(&error))?;
    let url = config.database.listen_url.as_ref().or(config.database.url.as_ref());
    let url = url.ok_or("no database is given")?;
    let address = db::parse(url, "backup").map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg(format!("--snapshot={snapshot}"));
    for table in TABLES {
        command.args(["-t", table]);
    }
    match address.get_hosts().first() {
        Some(Host::Tcp(host)) => drop(command.env("PGHOST", host)),
        Some(Host::Unix(directory)) => drop(command.env("PGHOST", directory)),
        None => {}
    }
    let port = address.get_ports().first().map(ToString::to_string);
    let password = address
        .get_password()
        .map(|password| String::from_utf8_lossy(password).into_owned());
    let text = |text: Option<&str>| text.map(str::to_owned);
    let variables = [
        ("PGPORT", port),
        ("PGUSER", text(address.get_user())),
        ("PGDATABASE", text(address.get_dbname().or(address.get_user()))),
        ("PGPASSWORD", password),
        (
            "PGSSLMODE",
            (address.get_ssl_mode() == SslMode::Require).then(|| "require".to_owned()),
        ),
    ];
    command.envs(variables.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let output = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(|error| error.to_string())?)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?
        .wait_with_output()
        .await
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("pg_dump: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Writes ids and statuses as SQL that puts them back.
async fn copy(transaction: &Transaction<'_>, mut file: &File) -> Result<(), String> {
    let postgres = |error: tokio_postgres::Error| db::reason(&error);
    let io = |error: std::io::Error| error.to_string();
    writeln!(
        file,
        "-- The ids and statuses of before V23; run with psql, it puts the statuses back."
    )
    .map_err(io)?;
    for table in TABLES {
        writeln!(
            file,
            "create temporary table before_v23 (id text, status text);\ncopy before_v23 from stdin;"
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
            "\\.\nupdate {table} t set status = b.status from before_v23 b where t.id::text = b.id;\ndrop table before_v23;"
        )
        .map_err(io)?;
    }
    Ok(())
}

/// The rows between `copy ... from stdin;` and `\.`.
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
