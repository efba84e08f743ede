//! Migrates a database to the schema of this version of Vestnik, under a lock. First, migrations change Vestnik's own
//! tables. Next, triggers and functions are installed. They are code, so they are installed again whenever their text
//! changes. Last, migrations change the tables `orders` and `bookings`, if Vestnik manages them (the reference shop).

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
use crate::sources::{attach, canary};

pub use lock::holder;
pub use undo::undo_v23;

mod engine {
    refinery::embed_migrations!("sql/engine");
}
mod shop {
    refinery::embed_migrations!("sql/shop");
}

/// A series of migrations, which are applied in order. Each series has its own table, which records the applied
/// migrations.
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

/// The reason why a database was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection to the database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// Postgres reported an error, or the connection failed.
    ///
    /// The message already contains the text of the Postgres error. So `source()` does not return this error: the
    /// program would print it a second time, with the customer's data of the failed row.
    #[error("{}", db::reason(.0))]
    Postgres(tokio_postgres::Error),
    /// A migration failed, or its record in the database could not be read.
    #[error("{set} migrations: {}", history_problem(.problem))]
    History {
        /// The name of the series of migrations.
        set: &'static str,
        /// The error of the library refinery.
        problem: refinery::Error,
    },
    /// The file of an applied migration has changed since the migration was applied.
    #[error("{set} migrations: {migration} was changed after it had been applied: put its file back as it was")]
    Changed {
        /// The name of the series of migrations.
        set: &'static str,
        /// The migration's version and name.
        migration: String,
    },
    /// The database has a migration that this version of Vestnik does not know.
    #[error(
        "{set} migrations: the database has {migration}, which this program does not know: it is newer; run a newer \
         vestnik"
    )]
    Newer {
        /// The name of the series of migrations.
        set: &'static str,
        /// The migration's version and name.
        migration: String,
    },
    /// The lock of migrations was not free in time, because another migration runs or another program holds the lock.
    #[error("the lock of migrations was held for {minutes} minutes: {holder}")]
    Locked {
        /// How long this migration waited for the lock, in minutes.
        minutes: u64,
        /// A description of the lock's holder.
        holder: String,
    },
    /// Some rows have a status that V23, the migration that renames statuses, does not know. Each line names a table,
    /// an unknown status, and the number of rows.
    #[error("V23 unifies the statuses, and does not know what to make of these; correct them first (nothing was changed):\n{}",
        .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
    UnknownStatuses(Vec<String>),
    /// The migration V23 would fail, because of constraints or triggers of the shop's tables, missing columns, or names
    /// that are in use. Each line names a problem, and says how to correct it.
    #[error("V23 unifies the statuses, and would be refused; mend this first (nothing was changed):\n{}",
        .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<String>),
    /// The column `status` has a type other than text, so the migration V23 cannot rename its values.
    #[error(
        "{table}.status is of type {found}, and V23 unifies statuses that are text: keep your own statuses with \
         shop.schema = \"own\""
    )]
    NotText {
        /// The name of the table.
        table: &'static str,
        /// The type of the column `status`.
        found: String,
    },
    /// The backup before the migration V23 failed, so nothing was changed.
    #[error("no backup, so nothing was changed: {}: {reason}", .path.display())]
    Backup {
        /// The path of the backup file.
        path: PathBuf,
        /// The cause of the failure.
        reason: String,
    },
    /// A table could not be attached.
    #[error(transparent)]
    Attach(#[from] attach::Error),
    /// A table has the name of a reference shop's table, but lacks some of its columns.
    #[error(
        "{table} is not as the reference shop's: {problem}\nFor tables of your own: shop.schema = \"own\", then `vestnik attach --table {table}`"
    )]
    Reference {
        /// The name of the table.
        table: &'static str,
        /// The differences from the reference shop's table.
        problem: attach::Error,
    },
    /// The migration V23 is not applied, so it cannot be undone.
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

/// Whether `vestnik migrate` has changed the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrateOutcome {
    /// At least one part of the schema was applied, and the database has changed.
    Migrated,
    /// The database was already up to date, so nothing was changed.
    Unchanged,
}

/// Migrates the configured database. `say` receives a progress line for each step.
pub async fn run(config: &Config, say: Progress<'_>) -> Result<MigrateOutcome, Error> {
    let mut client = connect(config).await?;
    lock::acquire(&client, say).await?;
    let outcome = apply(&mut client, config, say).await;
    lock::release(&client).await;
    outcome
}

/// Reports through `say` what [`run`] would change. Changes nothing.
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

/// Opens a direct connection, because the lock of migrations belongs to one connection, and a pooler could use several.
/// Disables the time-outs of the role and the database, because a backup holds a transaction open, and building an
/// index takes long.
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

async fn apply(client: &mut Client, config: &Config, say: Progress<'_>) -> Result<MigrateOutcome, Error> {
    let reference = config.shop.schema == ShopSchema::Reference;
    // Make all checks that can fail before the first change.
    for set in sets(config) {
        applied(client, set).await?;
    }
    let before_v23 = reference && !applied(client, &SHOP).await?.contains(&v23::VERSION);
    if before_v23 {
        v23::check(client).await?;
    }
    client.batch_execute("create schema if not exists vestnik").await?;
    // Every transaction that writes an order also locks the journal's table. So each attempt to change this table may
    // wait only shortly for its lock.
    let mut changed = history_with_retries(client, &ENGINE, say).await?;
    changed |= adopt_cluster(client, say).await?;
    changed |= lock::with_retries(client, say, async |client: &mut Client, say: Progress<'_>| {
        triggers::apply(client, &config.database, say).await
    })
    .await?;
    if canary::install(client).await? {
        say("attached the table of the canary");
        changed = true;
    }
    if before_v23 {
        changed |= history(client, &SHOP, Target::Version(v23::VERSION - 1), say).await?;
        v23::prepare(client, config, say).await?;
    }
    if reference {
        // V23 renames statuses, but clients need no events about this: the mappings translate the old and the new words
        // into the same statuses.
        changed |= history_with_retries(client, &SHOP, say).await?;
        changed |= v23::validate(client, say).await?;
    }
    if reference {
        changed |= reference_shop::attach(client, say).await?;
    }
    let attached = attach::reattach_all(client, say).await?;
    if attached > 0 {
        let tables = if attached == 1 { "table" } else { "tables" };
        say(&format!("attached {attached} {tables} again"));
        changed = true;
    }
    Ok(if changed {
        MigrateOutcome::Migrated
    } else {
        MigrateOutcome::Unchanged
    })
}

/// Applies all migrations of a series. If a table is locked, each attempt gives up soon and is repeated, so that
/// writers do not wait behind it. Returns whether a migration was applied.
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

/// Reads which migrations of a series the database has. Fails if this version of Vestnik does not contain one of them,
/// or contains it with another text.
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

/// Adopts a journal that was restored into another cluster. Its transaction ids come from the old cluster, and mean
/// nothing in this one. So all its events get a transaction id that is lower than that of every new transaction.
/// Returns whether this was needed.
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
