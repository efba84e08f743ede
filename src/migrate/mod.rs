//! Brings a database to what this program needs, under a lock: the engine's tables, the reference shop's, then the
//! triggers and functions, which are code and applied again when their text changed.

mod backup;
mod code;
mod lock;
mod undo;
mod v23;

use std::path::PathBuf;

use refinery::{Runner, Target};
use tokio_postgres::Client;

use crate::config::{Config, Notify, ShopSchema};
use crate::db;

pub use undo::undo_v23;

mod engine {
    refinery::embed_migrations!("sql/engine");
}
mod shop {
    refinery::embed_migrations!("sql/shop");
}

/// Gets a line for each thing that was done or is waited for.
pub type Say<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Why a database was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// Postgres says so, or is gone.
    #[error("{}", db::reason(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// A migration failed, was changed after it had been applied, or is not known to this program.
    #[error("{set} migrations: {}", history_problem(.source))]
    History {
        /// Which set.
        set: &'static str,
        /// What refinery says.
        source: refinery::Error,
    },
    /// Another migration does not end.
    #[error("another migration has held the lock for {0} minutes: look for it in pg_stat_activity")]
    Locked(u64),
    /// V23 does not know what to make of some rows.
    #[error("V23 unifies the statuses, and does not know what to make of these; correct them first (nothing was changed):\n{}",
        .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
    UnknownStatuses(Vec<String>),
    /// The column cannot hold the statuses' names.
    #[error(
        "{table}.status is of type {found}, and V23 unifies statuses that are text: keep your own statuses with \
         shop.schema = \"own\""
    )]
    NotText {
        /// The table.
        table: &'static str,
        /// Its column's type.
        found: String,
    },
    /// There is no backup, so there is no migration.
    #[error("no backup, so nothing was changed: {}: {reason}", .path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is nothing to undo.
    #[error("V23 is not applied in this database: there is nothing to undo")]
    NotApplied,
}

fn history_problem(error: &refinery::Error) -> String {
    use refinery::error::Kind;
    match error.kind() {
        Kind::DivergentVersion(applied, _) => {
            format!("{applied} was changed after it had been applied: put its file back as it was")
        }
        Kind::MissingVersion(applied) => {
            format!("the database has {applied}, which this program does not know: it is newer; run a newer vestnik")
        }
        Kind::Connection(_, source) => match source.downcast_ref::<tokio_postgres::Error>() {
            Some(error) => db::reason(error),
            None => source.to_string(),
        },
        other => other.to_string(),
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something was applied.
    Migrated,
    /// Everything was there already.
    Unchanged,
}

/// Migrates the configured database.
pub async fn run(config: &Config, say: Say<'_>) -> Result<Outcome, Error> {
    let mut client = connect(config).await?;
    lock::acquire(&client, say).await?;
    let outcome = apply(&mut client, config, say).await;
    lock::release(&client).await;
    outcome
}

/// Says what [`run`] would do, and changes nothing.
pub async fn dry_run(config: &Config, say: Say<'_>) -> Result<(), Error> {
    let client = connect(config).await?;
    client.batch_execute("set default_transaction_read_only = on").await?;
    let mut sets = vec![("engine", engine::migrations::runner())];
    if config.shop.schema == ShopSchema::Reference {
        sets.push(("shop", shop::migrations::runner()));
    }
    for (set, runner) in sets {
        let applied = applied(&client, set).await?;
        for migration in runner.get_migrations() {
            if !applied.contains(&migration.version()) {
                say(&format!("would apply {set} {migration}"));
            }
        }
    }
    if config.shop.schema == ShopSchema::Reference && !applied(&client, "shop").await?.contains(&v23::VERSION) {
        v23::check(&client).await?;
        v23::tell(&client, say).await?;
    }
    code::tell(&client, say).await
}

/// Directly, past a pooler: the lock is the session's.
async fn connect(config: &Config) -> Result<Client, Error> {
    let url = config.database.listen_url.as_ref().or(config.database.url.as_ref());
    let client = db::connect_as(url.ok_or(db::Error::Missing)?, "migrate").await?;
    client
        .batch_execute("set client_min_messages = warning; set statement_timeout = 0")
        .await?;
    Ok(client)
}

async fn apply(client: &mut Client, config: &Config, say: Say<'_>) -> Result<Outcome, Error> {
    let reference = config.shop.schema == ShopSchema::Reference;
    let before_v23 = reference && !applied(client, "shop").await?.contains(&v23::VERSION);
    if before_v23 {
        v23::check(client).await?;
    }
    client.batch_execute("create schema if not exists vestnik").await?;
    let mut changed = history(client, "engine", engine::migrations::runner(), say).await?;
    changed |= adopt_cluster(client, say).await?;
    if before_v23 {
        let until_v22 = shop::migrations::runner().set_target(Target::Version(v23::VERSION - 1));
        changed |= history(client, "shop", until_v22, say).await?;
        v23::prepare(client, config, say).await?;
    }
    if reference {
        // Rewritten statuses are no news; and a lock is waited for in short turns.
        client.batch_execute("set vestnik.quiet = 'on'").await?;
        let shop = async |client: &mut Client| {
            let mut lines = Vec::new();
            let mut keep = |line: &str| lines.push(line.to_owned());
            let changed = history(client, "shop", shop::migrations::runner(), &mut keep).await?;
            Ok((changed, lines))
        };
        let (applied, lines) = lock::patiently(client, say, shop).await?;
        lines.iter().for_each(|line| say(line));
        client.batch_execute("reset vestnik.quiet").await?;
        changed |= applied;
        changed |= v23::validate(client, say).await?;
    }
    // A trigger waits for its table in short turns, too; an attempt that fails leaves nothing that the next one minds.
    let code = async |client: &mut Client| {
        let mut lines = Vec::new();
        let mut keep = |line: &str| lines.push(line.to_owned());
        let mut changed = code::apply(client, config.database.notify == Notify::On, &mut keep).await?;
        if reference {
            changed |= code::attach_reference_shop(client, &mut keep).await?;
        }
        Ok((changed, lines))
    };
    let (applied, lines) = lock::patiently(client, say, code).await?;
    lines.iter().for_each(|line| say(line));
    changed |= applied;
    Ok(if changed { Outcome::Migrated } else { Outcome::Unchanged })
}

async fn history(client: &mut Client, set: &'static str, runner: Runner, say: Say<'_>) -> Result<bool, Error> {
    let mut runner = runner.set_abort_divergent(true).set_abort_missing(true);
    runner.set_migration_table_name(table_of(set));
    let report = runner
        .run_async(client)
        .await
        .map_err(|source| Error::History { set, source })?;
    for migration in report.applied_migrations() {
        say(&format!("applied {set} {migration}"));
    }
    Ok(!report.applied_migrations().is_empty())
}

fn table_of(set: &str) -> String {
    format!("vestnik.{set}_history")
}

/// The versions of a set that the database has.
async fn applied(client: &Client, set: &str) -> Result<Vec<i32>, Error> {
    let table = table_of(set);
    let there = client
        .query_one("select to_regclass($1) is not null", &[&table])
        .await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let rows = client.query(&format!("select version from {table}"), &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// A journal that was restored into another cluster has transaction numbers of the old one: all of it is the past.
async fn adopt_cluster(client: &Client, say: Say<'_>) -> Result<bool, Error> {
    const ADOPT: &str = "with adopted as ( \
             update vestnik.cluster set system_identifier = now.system_identifier \
             from pg_control_system() now where cluster.system_identifier <> now.system_identifier returning 1), \
         events as (update vestnik.event set xid = '2' where exists (select from adopted)), \
         retention as (update vestnik.retention set trimmed_through = '0' where exists (select from adopted)) \
         select count(*) > 0 from adopted";
    let adopted = client.query_one(ADOPT, &[]).await?.try_get(0)?;
    if adopted {
        say("the journal was restored from another cluster: its events are history now");
    }
    Ok(adopted)
}
