//! Brings a database to what this program needs, under a lock: the engine's tables, the reference shop's, then the
//! triggers and functions, which are code and applied again when their text changed.

mod code;

use std::time::Duration;

use refinery::Runner;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::config::{Config, Notify, ShopSchema};
use crate::db;

mod engine {
    refinery::embed_migrations!("sql/engine");
}
mod shop {
    refinery::embed_migrations!("sql/shop");
}

/// The advisory lock that one migration at a time holds: "vest", "migr".
const LOCK: i64 = 0x7665_7374_6d69_6772;
/// How long to wait for another migration to end.
const LOCK_WAIT: Duration = Duration::from_secs(30 * 60);

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
    #[error("another migration has held the lock for {} minutes: look for it in pg_stat_activity", LOCK_WAIT.as_secs() / 60)]
    Locked,
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
        Kind::Connection(said, source) => format!("{said}: {source}"),
        other => other.to_string(),
    }
}

/// What is wanted of a migration.
#[derive(Debug, Clone, Default)]
pub struct Options {}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something was applied.
    Migrated,
    /// Everything was there already.
    Unchanged,
}

/// Migrates the configured database. `say` gets a line for each thing that was done or is waited for.
pub async fn run(config: &Config, _options: &Options, say: &mut (dyn FnMut(&str) + Send)) -> Result<Outcome, Error> {
    let mut client = db::connect(&config.database).await?;
    lock(&client, say).await?;
    let outcome = apply(&mut client, config, say).await;
    // The lock ends with the connection; an error here changes nothing.
    let _ = client.execute("select pg_advisory_unlock($1)", &[&LOCK]).await;
    outcome
}

async fn lock(client: &Client, say: &mut (dyn FnMut(&str) + Send)) -> Result<(), Error> {
    if client
        .query_one("select pg_try_advisory_lock($1)", &[&LOCK])
        .await?
        .try_get(0)?
    {
        return Ok(());
    }
    say("another migration is running: waiting for it");
    let locked = timeout(LOCK_WAIT, client.execute("select pg_advisory_lock($1)", &[&LOCK])).await;
    locked.map_err(|_| Error::Locked)??;
    Ok(())
}

async fn apply(client: &mut Client, config: &Config, say: &mut (dyn FnMut(&str) + Send)) -> Result<Outcome, Error> {
    client.batch_execute("create schema if not exists vestnik").await?;
    let mut changed = history(client, "engine", engine::migrations::runner(), say).await?;
    if config.shop.schema == ShopSchema::Reference {
        changed |= history(client, "shop", shop::migrations::runner(), say).await?;
    }
    changed |= code::apply(client, config.database.notify == Notify::On, say).await?;
    if config.shop.schema == ShopSchema::Reference {
        changed |= code::attach_reference_shop(client, say).await?;
    }
    Ok(if changed { Outcome::Migrated } else { Outcome::Unchanged })
}

async fn history(
    client: &mut Client,
    set: &'static str,
    runner: Runner,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<bool, Error> {
    let mut runner = runner.set_abort_divergent(true).set_abort_missing(true);
    runner.set_migration_table_name(format!("vestnik.{set}_history"));
    let report = runner
        .run_async(client)
        .await
        .map_err(|source| Error::History { set, source })?;
    for migration in report.applied_migrations() {
        say(&format!("applied {set} {migration}"));
    }
    Ok(!report.applied_migrations().is_empty())
}
