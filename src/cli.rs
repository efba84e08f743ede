//! The command line. Names are a contract.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::command;
use vestnik::config::Config;

/// Brings every order that is written to Postgres to its partner's screen.
#[derive(Debug, Parser)]
#[command(name = "vestnik", version, about, max_term_width = 100)]
struct Cli {
    /// A file with settings; without it ./vestnik.toml, if it is there
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the panels (the default): on a private Postgres where DATABASE_URL is not set
    Serve,
    /// Bring the database to what this program needs
    Migrate,
}

/// Runs the program. 0, 1 for a failure, 2 for wrong usage or settings.
pub async fn run() -> ExitCode {
    let cli = Cli::parse();
    let config = Config::default();
    let done = match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => command::serve::run(config).await,
        Command::Migrate => command::migrate::run(&config).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vestnik: {error:#}");
            ExitCode::FAILURE
        }
    }
}
