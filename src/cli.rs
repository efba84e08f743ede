//! The command line. Scripts depend on the names of commands and options.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::command;
use crate::embedded;
use crate::infra::config::{self, Config, Sources};
use crate::infra::telemetry;

/// The exit code for wrong usage and for invalid settings.
const USAGE: u8 = 2;

/// Shows every order that is written to Postgres on the screen of the order's store
#[derive(Debug, Parser)]
#[command(name = "vestnik", version, about, max_term_width = 100)]
struct Cli {
    /// A file with settings [default: ./vestnik.toml, if it exists]
    #[arg(long, global = true, help_heading = "Settings", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change one setting, such as session.max_per_store=5; may be repeated
    #[arg(long, global = true, help_heading = "Settings", value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// The name of the database, where the setting `databases` has several
    #[arg(long, global = true, help_heading = "Settings", value_name = "NAME")]
    database: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve panels and other clients (the default); without DATABASE_URL, from a private Postgres
    Serve {
        /// The address and port of the HTTP server
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<String>,
    },
    /// Migrate the database to this program's version
    Migrate(command::migrate::Args),
    /// Create, list, rotate and revoke access tokens
    Token(command::token::Args),
    /// Print the events of a store, one line of JSON each; VESTNIK_TOKEN holds a token of the store
    Tail(command::tail::Args),
    /// Write realistic orders, bookings and changes into the reference shop's tables
    Simulate(command::simulate::Args),
    /// Attach triggers to a table, so that its rows emit events
    Attach(command::attach::AttachArgs),
    /// Remove the triggers from a table
    Detach(command::attach::DetachArgs),
    /// Show, check and change the mappings of attached tables
    Source(command::source::Args),
    /// Change the settings of a store: name, currency, time zone, hours, and how long an order may wait
    Store(command::store::Args),
    /// Link Telegram chats to stores
    Telegram(command::telegram::Args),
    /// Post events to addresses; test webhooks, and rotate their secrets
    Webhook(command::webhook::Args),
    /// Report how a store's events reached people: who received each event, when, over which channel
    Audit(command::audit::Args),
    /// Erase the data of a customer from everything that Vestnik keeps
    Erase(command::erase::Args),
    /// Measure the throughput and latency of this machine and database for a minute, in a temporary schema
    Bench(command::bench::Args),
    /// Check the database, its triggers and notifications, and print the remedy for each problem
    Doctor(command::doctor::Args),
    /// Check whether the server of this machine is ready
    Healthcheck,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let setting = text
        .split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    setting.ok_or_else(|| "a setting looks like section.key=value".into())
}

/// Runs the program. Returns the exit code: 0 for success, 1 for a failure, 2 for wrong usage or invalid settings.
#[tokio::main]
pub async fn run() -> ExitCode {
    let cli = Cli::parse();
    let mut flags = cli.set;
    let command = cli.command.unwrap_or(Command::Serve { listen: None });
    if let Command::Serve { listen: Some(listen) } = &command {
        flags.push(("http.listen".into(), listen.clone()));
    }
    let config = match config::load(&Sources::of_process(cli.config, flags)) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("vestnik: {problems}");
            return ExitCode::from(USAGE);
        }
    };
    telemetry::install(&config.log);
    let done = match command {
        Command::Serve { .. } => command::serve::run(config).await,
        Command::Tail(args) => command::tail::run(args).await,
        Command::Healthcheck => command::healthcheck::run(&config).await,
        command => match chosen(&config, cli.database.as_deref(), &command) {
            Ok(configs) => on_each(command, &configs).await,
            Err(problem) => {
                eprintln!("vestnik: {problem}");
                return ExitCode::from(USAGE);
            }
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vestnik: {}", in_one_line(&error));
            match command::is_usage(&error) {
                true => ExitCode::from(USAGE),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Formats an error and its causes in one line. A cause is left out if the text already contains it.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// Returns the settings of each database on which the command runs. This is one database, except that `vestnik migrate`
/// runs on all databases.
fn chosen(config: &Config, name: Option<&str>, command: &Command) -> Result<Vec<Config>, String> {
    let databases = config.each_database();
    let names: Vec<String> = databases
        .iter()
        .filter_map(|(_, database)| Some(database.as_ref()?.name.clone()))
        .collect();
    match name {
        _ if names.is_empty() => match name {
            None => Ok(vec![with_database(config.clone())]),
            Some(_) => Err("--database needs the setting `databases`, which is empty".into()),
        },
        None if matches!(command, Command::Migrate(_)) => Ok(databases.into_iter().map(|(config, _)| config).collect()),
        None => Err(format!(
            "there are several databases: choose one with --database: {}",
            names.join(", ")
        )),
        Some(name) => match databases
            .into_iter()
            .find(|(_, database)| database.as_ref().is_some_and(|it| it.name == name))
        {
            Some((config, _)) => Ok(vec![config]),
            None => Err(format!(
                "there is no database {name}; choose one of: {}",
                names.join(", ")
            )),
        },
    }
}

async fn on_each(command: Command, configs: &[Config]) -> anyhow::Result<()> {
    if let Command::Migrate(args) = command {
        for config in configs {
            command::migrate::run(config, &args).await?;
        }
        return Ok(());
    }
    let [config] = configs else { return Ok(()) };
    match command {
        Command::Token(args) => command::token::run(config, args).await,
        Command::Simulate(args) => command::simulate::run(config, args).await,
        Command::Attach(args) => command::attach::attach(config, args).await,
        Command::Detach(args) => command::attach::detach(config, args).await,
        Command::Store(args) => command::store::run(config, args).await,
        Command::Telegram(args) => command::telegram::run(config, args).await,
        Command::Webhook(args) => command::webhook::run(config, args).await,
        Command::Audit(args) => command::audit::run(config, args).await,
        Command::Erase(args) => command::erase::run(config, args).await,
        Command::Source(args) => command::source::run(config, args).await,
        Command::Bench(args) => command::bench::run(config, args).await,
        Command::Doctor(args) => command::doctor::run(config, &args).await,
        Command::Serve { .. } | Command::Migrate(_) | Command::Tail(_) | Command::Healthcheck => Ok(()),
    }
}

/// If no database is configured, uses the private Postgres of a `vestnik serve` that runs on this machine.
fn with_database(mut config: Config) -> Config {
    config.database.url = config
        .database
        .url
        .or_else(|| embedded::running(&config.embedded.directory));
    config
}
