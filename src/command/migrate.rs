//! `vestnik migrate`: migrates the database, or undoes V23.

use crate::infra::config::Config;
use crate::migrate::{self, MigrateOutcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Restore the statuses from before this migration
    #[arg(long, value_enum, value_name = "MIGRATION", conflicts_with = "dry_run")]
    undo: Option<Undo>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Undo {
    V23,
}

/// Runs `vestnik migrate` on the configured database.
pub async fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    let mut say = |line: &str| super::say!("{line}");
    if args.dry_run {
        migrate::dry_run(config, &mut say).await?;
        super::say!("nothing was changed");
    } else if let Some(Undo::V23) = args.undo {
        migrate::undo_v23(config, &mut say).await?;
    } else {
        match migrate::run(config, &mut say).await? {
            MigrateOutcome::Migrated => super::say!("the database is up to date"),
            MigrateOutcome::Unchanged => super::say!("the database was already up to date"),
        }
    }
    Ok(())
}
