//! Migrates a database to this program's version, under a lock: the engine's tables, the reference shop's tables, then
//! the triggers and functions. These are code, and are applied again when their text has changed.

mod backup;
mod lock;
mod reference_shop;
mod refusals;
mod triggers;
mod undo;
mod v23;
mod v23_names;

use std::path::PathBuf;

use refinery::{Runner, SchemaVersion, Target};
use tokio_postgres::Client;

use crate::infra::config::{Config, ShopSchema};
use crate::infra::db;
use crate::sources::attach;

pub use lock::holder;
pub use undo::undo_v23;

mod engine {
    refinery::embed_migrations!("sql/engine");
}
mod shop {
    refinery::embed_migrations!("sql/shop");
}

/// Migrations that are applied in order, and recorded in a table of their own.
struct Set {
    name: &'static str,
    runner: fn() -> Runner,
}

const ENGINE: Set = Set {
    name: "engine",
    runner: engine::migrations::runner,
};
const SHOP: Set = Set {
    name: "shop",
    runner: shop::migrations::runner,
};

pub use crate::infra::table_lock::Progress;

/// Why a database was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// Postgres reported an error, or the connection failed.
    ///
    /// This message contains the error's full text. As a source it would be printed again, with the customer's row.
    #[error("{}", db::reason(.0))]
    Postgres(tokio_postgres::Error),
    /// A migration failed.
    #[error("{set} migrations: {}", history_problem(.problem))]
    History {
        /// The set of migrations.
        set: &'static str,
        /// Refinery's error.
        problem: refinery::Error,
    },
    /// A migration's file has changed since it was applied.
    #[error("{set} migrations: {migration} was changed after it had been applied: put its file back as it was")]
    Changed {
        /// The set of migrations.
        set: &'static str,
        /// Its version and name.
        migration: String,
    },
    /// The database has a migration that this program does not know.
    #[error(
        "{set} migrations: the database has {migration}, which this program does not know: it is newer; run a newer \
         vestnik"
    )]
    Newer {
        /// The set of migrations.
        set: &'static str,
        /// Its version and name.
        migration: String,
    },
    /// Another migration did not end in time.
    #[error("the lock of migrations was held for {minutes} minutes: {holder}")]
    Locked {
        /// How long this one waited.
        minutes: u64,
        /// The holder of the lock.
        holder: String,
    },
    /// Some rows have a status that V23 cannot translate.
    #[error("V23 unifies the statuses, and does not know what to make of these; correct them first (nothing was changed):\n{}",
        .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
    UnknownStatuses(Vec<String>),
    /// Rules of the shop's tables would reject V23.
    #[error("V23 unifies the statuses, and would be refused; mend this first (nothing was changed):\n{}",
        .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<String>),
    /// The column's type cannot hold the names of the statuses.
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
    /// The backup failed, so the migration was not started.
    #[error("no backup, so nothing was changed: {}: {reason}", .path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// A table cannot be attached.
    #[error(transparent)]
    Attach(#[from] attach::Error),
    /// A table has the name of a reference shop table, but other columns.
    #[error(
        "{table} is not as the reference shop's: {problem}\nFor tables of your own: shop.schema = \"own\", then `vestnik attach --table {table}`"
    )]
    Reference {
        /// Its name.
        table: &'static str,
        /// The differences.
        problem: attach::Error,
    },
    /// There is nothing to undo.
    #[error("V23 is not applied in this database: there is nothing to undo")]
    NotApplied,
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

fn history_problem(error: &refinery::Error) -> String {
    use refinery::error::Kind;
    match error.kind() {
        Kind::Connection(_, source) => match source.downcast_ref::<tokio_postgres::Error>() {
            Some(error) => db::reason(error),
            None => source.to_string(),
        },
        other => other.to_string(),
    }
}

/// The result of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something was applied.
    Migrated,
    /// The database was already up to date.
    Unchanged,
}

/// Migrates the configured database.
pub async fn run(config: &Config, say: Progress<'_>) -> Result<Outcome, Error> {
    let mut client = connect(config).await?;
    lock::acquire(&client, say).await?;
    let outcome = apply(&mut client, config, say).await;
    lock::release(&client).await;
    outcome
}

/// Reports what [`run`] would do, and changes nothing.
pub async fn dry_run(config: &Config, say: Progress<'_>) -> Result<(), Error> {
    let client = connect(config).await?;
    client.batch_execute("set default_transaction_read_only = on").await?;
    for set in sets(config) {
        let applied = applied(&client, set).await?;
        for migration in (set.runner)().get_migrations() {
            if !applied.contains(&migration.version()) {
                say(&format!("would apply {} {migration}", set.name));
            }
        }
    }
    if config.shop.schema == ShopSchema::Reference && !applied(&client, &SHOP).await?.contains(&v23::VERSION) {
        v23::check(&client).await?;
        v23::describe_pending(&client, say).await?;
    }
    triggers::describe_pending(&client, say).await
}

fn sets(config: &Config) -> &'static [&'static Set] {
    match config.shop.schema {
        ShopSchema::Reference => &[&ENGINE, &SHOP],
        ShopSchema::Own => &[&ENGINE],
    }
}

/// Connects directly, not through a pooler, because the lock belongs to a connection. The time-outs of a role or
/// database are for its application, and are disabled: a backup holds a transaction open, and building an index takes
/// long.
async fn connect(config: &Config) -> Result<Client, Error> {
    let url = config.database.listen_url.as_ref().or(config.database.url.as_ref());
    let client = db::connect_session(url.ok_or(db::Error::Missing)?, "migrate").await?;
    client
        .batch_execute(
            "set client_min_messages = warning; \
             select set_config(name, '0', false) from pg_settings where name in ('statement_timeout', 'lock_timeout', \
                 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')",
        )
        .await?;
    Ok(client)
}

async fn apply(client: &mut Client, config: &Config, say: Progress<'_>) -> Result<Outcome, Error> {
    let reference = config.shop.schema == ShopSchema::Reference;
    // All checks that may fail come first.
    for set in sets(config) {
        applied(client, set).await?;
    }
    let before_v23 = reference && !applied(client, &SHOP).await?.contains(&v23::VERSION);
    if before_v23 {
        v23::check(client).await?;
    }
    client.batch_execute("create schema if not exists vestnik").await?;
    // The transaction of each order locks the journal: wait for this lock in short attempts, as for the tables' locks.
    let mut changed = history_with_retries(client, &ENGINE, say).await?;
    changed |= adopt_cluster(client, say).await?;
    changed |= lock::with_retries(client, say, async |client: &mut Client, say: Progress<'_>| {
        triggers::apply(client, &config.database, say).await
    })
    .await?;
    if before_v23 {
        changed |= history(client, &SHOP, Target::Version(v23::VERSION - 1), say).await?;
        v23::prepare(client, config, say).await?;
    }
    if reference {
        // Rewritten statuses need no events: old and new words mean the same to the mappings.
        changed |= history_with_retries(client, &SHOP, say).await?;
        changed |= v23::validate(client, say).await?;
    }
    if reference {
        changed |= reference_shop::attach(client, say).await?;
    }
    let attached = attach::reattach_all(client, say).await?;
    if attached > 0 {
        say(&format!("attached {attached} tables again"));
        changed = true;
    }
    Ok(if changed { Outcome::Migrated } else { Outcome::Unchanged })
}

/// Applies all migrations of a set; waits for the tables that writers use in short attempts.
async fn history_with_retries(client: &mut Client, set: &Set, say: Progress<'_>) -> Result<bool, Error> {
    lock::with_retries(client, say, async |client: &mut Client, say: Progress<'_>| {
        history(client, set, Target::Latest, say).await
    })
    .await
}

async fn history(client: &mut Client, set: &Set, target: Target, say: Progress<'_>) -> Result<bool, Error> {
    let runner = (set.runner)().set_target(target);
    let mut runner = runner.set_abort_divergent(true).set_abort_missing(true);
    runner.set_migration_table_name(set.table());
    let report = runner
        .run_async(client)
        .await
        .map_err(|problem| Error::History { set: set.name, problem })?;
    for migration in report.applied_migrations() {
        say(&format!("applied {} {migration}", set.name));
    }
    Ok(!report.applied_migrations().is_empty())
}

impl Set {
    fn table(&self) -> String {
        format!("vestnik.vst_{}_history", self.name)
    }
}

/// The versions of a set that the database has; fails if this program lacks one of them or has a different text.
async fn applied(client: &Client, set: &Set) -> Result<Vec<SchemaVersion>, Error> {
    let there = client
        .query_one("select to_regclass($1) is not null", &[&set.table()])
        .await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let runner = (set.runner)();
    let sql = format!("select version, name, checksum from {} order by version", set.table());
    let mut versions = Vec::new();
    for row in client.query(&sql, &[]).await? {
        let version: SchemaVersion = row.try_get(0)?;
        let migration = format!("V{version}__{}", row.try_get::<_, &str>(1)?);
        let known = runner.get_migrations().iter().find(|known| known.version() == version);
        let Some(known) = known else {
            return Err(Error::Newer {
                set: set.name,
                migration,
            });
        };
        if known.to_string() != migration || known.checksum().to_string() != row.try_get::<_, &str>(2)? {
            return Err(Error::Changed {
                set: set.name,
                migration,
            });
        }
        versions.push(version);
    }
    Ok(versions)
}

/// A journal that was restored into another cluster has transaction ids of the old one: all its events count as past.
async fn adopt_cluster(client: &Client, say: Progress<'_>) -> Result<bool, Error> {
    const ADOPT: &str = "with adopted as ( \
             update vestnik.vst_cluster set system_identifier = now.system_identifier \
             from pg_control_system() now where vst_cluster.system_identifier <> now.system_identifier returning 1), \
         events as (update vestnik.vst_event set xid = '2' where exists (select from adopted)), \
         retention as (update vestnik.vst_retention set trimmed_through = '0' where exists (select from adopted)), \
         sources as (update vestnik.vst_source set attached_xid = pg_current_xact_id() where exists (select from adopted)) \
         select count(*) > 0 from adopted";
    let adopted = client.query_one(ADOPT, &[]).await?.try_get(0)?;
    if adopted {
        say("the journal was restored from another cluster: its events are history now");
    }
    Ok(adopted)
}
