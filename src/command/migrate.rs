//! `vestnik migrate`.

use vestnik::config::Config;
use vestnik::migrate::{self, Options, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {}

/// Migrates the configured database.
pub async fn run(config: &Config, _args: Args) -> anyhow::Result<()> {
    let outcome = migrate::run(config, &Options::default(), &mut |line| println!("{line}")).await?;
    match outcome {
        Outcome::Migrated => println!("the database is ready"),
        Outcome::Unchanged => println!("the database was ready already"),
    }
    Ok(())
}
