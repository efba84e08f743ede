//! The command line. Names are a contract.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::command;
use vestnik::embedded;
use vestnik::infra::config::{self, Config, Sources};
use vestnik::infra::telemetry;

/// Exit code for wrong usage and for invalid settings.
const USAGE: u8 = 2;

/// Brings every order that is written to Postgres to its partner's screen.
#[derive(Debug, Parser)]
#[command(name = "vestnik", version, about, max_term_width = 100)]
struct Cli {
    /// A file with settings; without it ./vestnik.toml, if it is there
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change one setting, such as session.max_per_store=5; may be given again
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Which of several databases (the setting `databases`) the command is for
    #[arg(long, global = true, value_name = "NAME")]
    database: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the panels (the default); without DATABASE_URL, on a private Postgres
    Serve {
        /// The address and port to listen on
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<String>,
    },
    /// Bring the database to what this program needs
    Migrate(command::migrate::Args),
    /// Make, list and revoke the tokens that open the stores' streams
    Token(command::token::Args),
    /// Print the events of a store, a line of JSON each
    Tail(command::tail::Args),
    /// Write orders, bookings and changes as a lively shop does
    Simulate(command::simulate::Args),
    /// Make the rows of a table of yours events
    Attach(command::attach::AttachArgs),
    /// Make them events no more
    Detach(command::attach::DetachArgs),
    /// Show, check and change what the columns of attached tables mean
    Source(command::source::Args),
    /// Set a store up: its name, money, clock, hours, and how long an order may wait
    Store(command::store::Args),
    /// Link chats of Telegram to stores
    Telegram(command::telegram::Args),
    /// Try a store's webhook, and change the secret that signs it
    Webhook(command::webhook::Args),
    /// Tell what became of a store's events: who was reached, when, by which way
    Audit(command::audit::Args),
    /// Erase the data of a customer from everything that Vestnik keeps
    Erase(command::erase::Args),
    /// Measure what this machine and this database carry, in a schema of its own; it loads them for a minute
    Bench(command::bench::Args),
    /// Say what is wrong with the database, its triggers and notifications, and what to do
    Doctor(command::doctor::Args),
    /// Ask the server of this machine whether it is ready
    Healthcheck,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let setting = text
        .split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    setting.ok_or_else(|| "a setting looks like section.key=value".into())
}

/// Runs the program. Returns the exit code: 0, 1 for a failure, 2 for wrong usage or invalid settings.
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

/// Formats an error with its causes. An error that already names its cause does not name the cause twice.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// The databases that a command runs on: one, except for a migration of all databases.
fn chosen(config: &Config, name: Option<&str>, command: &Command) -> Result<Vec<Config>, String> {
    let shards = config.shards();
    let names: Vec<String> = shards
        .iter()
        .filter_map(|(_, shard)| Some(shard.as_ref()?.name.clone()))
        .collect();
    match name {
        _ if names.is_empty() => match name {
            None => Ok(vec![with_database(config.clone())]),
            Some(_) => Err("--database is for the setting `databases`, which names none".into()),
        },
        None if matches!(command, Command::Migrate(_)) => Ok(shards.into_iter().map(|(config, _)| config).collect()),
        None => Err(format!(
            "there are several databases: say which with --database: {}",
            names.join(", ")
        )),
        Some(name) => match shards
            .into_iter()
            .find(|(_, shard)| shard.as_ref().is_some_and(|it| it.name == name))
        {
            Some((config, _)) => Ok(vec![config]),
            None => Err(format!("no database is called {name}; there are: {}", names.join(", "))),
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

/// Uses the private Postgres of a running `vestnik` on this machine if no database is configured.
fn with_database(mut config: Config) -> Config {
    config.database.url = config
        .database
        .url
        .or_else(|| embedded::running(&config.embedded.directory));
    config
}
