//! `vestnik telegram`: links chats to stores.

use anyhow::Context as _;
use vestnik::config::Config;
use vestnik::db;
use vestnik::domain::event::StoreId;
use vestnik::link::{self, Mode};
use vestnik::poll;
use vestnik::telegram::{Client, words};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print a one-time code that links a chat to a store
    Link(Link),
    /// List the linked chats, and whether the bot works
    Status,
}

#[derive(Debug, clap::Args)]
struct Link {
    /// The store
    #[arg(long)]
    store: String,
    /// mirror: everything; fallback: what no panel could ring; manager: what nobody answers for long
    #[arg(long, default_value = "mirror", value_parser = mode)]
    mode: Mode,
    /// The language of the messages
    #[arg(long, default_value = words::DEFAULT, value_parser = language)]
    language: String,
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::from_name(text).ok_or_else(|| "a mode is mirror, fallback or manager".into())
}

fn language(text: &str) -> Result<String, String> {
    let known: Vec<&str> = words::languages().collect();
    let message = || format!("there are: {}", known.join(", "));
    known.contains(&text).then(|| text.to_owned()).ok_or_else(message)
}

/// Does it on the configured database.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Link(link) => print_code(config, link).await,
        Action::Status => print_status(config).await,
    }
}

async fn print_code(config: &Config, link: Link) -> anyhow::Result<()> {
    const NO_BOT: &str = "there is no bot: get a token from @BotFather and set VESTNIK_TELEGRAM_TOKEN";
    let settings = config.telegram.as_ref().context(NO_BOT)?;
    // First, so that no code is made for a bot that does not answer.
    let bot = Client::new(settings)?.name().await;
    let mut client = db::connect(&config.database).await?;
    let code = link::create_code(&mut client, &StoreId::new(&link.store), link.mode, &link.language).await?;
    let minutes = link::CODE_LIFE.as_secs() / 60;
    super::say!("Code:  {}", code.reveal());
    match bot {
        Ok(bot) => {
            super::say!("Link:  https://t.me/{bot}?start={}", code.reveal());
            super::say!(
                "\nOpen the link, or add @{bot} to a group and write there: /link {}",
                code.reveal()
            );
        }
        Err(error) => {
            eprintln!("vestnik: {error}");
            super::say!(
                "\nWrite to the bot, or in a group that it is in: /link {}",
                code.reveal()
            );
        }
    }
    super::say!(
        "Valid for {minutes} minutes, once, for store {} ({}).",
        link.store,
        link.mode.as_str()
    );
    Ok(())
}

async fn print_status(config: &Config) -> anyhow::Result<()> {
    let client = db::connect(&config.database).await?;
    let bot = poll::bot_state(&client).await?;
    match (&config.telegram, bot) {
        (None, _) => super::say!("bot: off, for no token is configured"),
        (Some(_), Some(why)) => super::say!("bot: stopped: {why}"),
        (Some(_), None) => super::say!("bot: on"),
    }
    for chat in link::list(&client).await? {
        let state = match &chat.disabled_why {
            Some(why) => format!("disabled: {why}"),
            None if chat.open > 0 => format!("{} waiting", chat.open),
            None => "up to date".to_owned(),
        };
        let title = chat.title.as_deref().unwrap_or("-");
        super::say!(
            "store {:<12} {:<9} {:<3} chat {:<16} {:<24} {state}",
            chat.store,
            chat.mode,
            chat.language,
            chat.telegram_id,
            title
        );
    }
    Ok(())
}
