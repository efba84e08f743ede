//! `vestnik telegram`: links chats to stores, and lists, tests and removes these links.

use std::time::Duration;

use crate::delivery::chat_links::{self, ListedChat, Mode, Tried};
use crate::delivery::shared_bot;
use crate::domain::event::StoreId;
use crate::infra::config::Config;
use crate::infra::db;
use crate::store;
use crate::telegram::Client;
use crate::text::{catalog, html};
use anyhow::{Context as _, bail};
use tokio::time::Instant;

/// How long `vestnik telegram test` waits until its messages are sent.
const TEST_DEADLINE: Duration = Duration::from_secs(20);
/// Interval of the checks whether a test message was sent.
const TEST_LOOK: Duration = Duration::from_millis(100);
/// Maximum number of stores that the warning about an unknown store lists.
const NAMED_STORES: i64 = 10;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print a one-time code that links a chat to a store
    Link(LinkArgs),
    /// Print the state of the bot and of each linked chat, with the waiting messages
    Status,
    /// Send a test message to a store's chats, in the same way as its orders, and print whether it arrived
    Test {
        /// The id of the store in the shop's tables
        #[arg(long)]
        store: String,
        /// Only this chat, by its Telegram id [default: all chats of the store]
        #[arg(long, allow_negative_numbers = true)]
        chat: Option<i64>,
    },
    /// Unlink a chat: it gets no more orders
    Unlink {
        /// The chat's Telegram id; `vestnik telegram status` shows it
        #[arg(long, allow_negative_numbers = true)]
        chat: i64,
        /// Unlink the chat from this store only
        #[arg(long)]
        store: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct LinkArgs {
    /// The id of the store in the shop's tables
    #[arg(long)]
    store: String,
    /// mirror: all orders; fallback: orders for which no panel rang; manager: orders that stay unanswered
    #[arg(long, default_value = "mirror", value_parser = mode)]
    mode: Mode,
    /// The language of the chat's messages
    #[arg(long, default_value = catalog::DEFAULT, value_parser = language)]
    language: String,
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::from_name(text).ok_or_else(|| "a mode is mirror, fallback or manager".into())
}

fn language(text: &str) -> Result<String, String> {
    let known: Vec<&str> = catalog::languages().collect();
    let message = || format!("choose one of: {}", known.join(", "));
    known.contains(&text).then(|| text.to_owned()).ok_or_else(message)
}

/// Runs `vestnik telegram` on the configured database.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Link(link) => print_code(config, link).await,
        Action::Status => print_status(config).await,
        Action::Test { store, chat } => test(config, &store, chat).await,
        Action::Unlink { chat, store } => unlink(config, chat, store).await,
    }
}

async fn print_code(config: &Config, link: LinkArgs) -> anyhow::Result<()> {
    const NO_BOT: &str = "there is no bot: get a token from @BotFather and set VESTNIK_TELEGRAM_TOKEN";
    let settings = config.telegram.as_ref().context(NO_BOT)?;
    // Check the bot first, so that no code is created for a bot that does not work.
    let bot = Client::new(settings)?.name().await;
    let mut client = db::connect(&config.database).await?;
    let store = StoreId::new(&link.store);
    if !store::is_known_to(&client, &store).await? {
        let known = store::known(&client, NAMED_STORES).await?.join(", ");
        let known = if known.is_empty() { "none yet".to_owned() } else { known };
        eprintln!(
            "vestnik: warning: no order, token or setting has named store {:?}; those that are known: {known}",
            link.store
        );
    }
    let code = chat_links::create_code(&mut client, &store, link.mode, &link.language).await?;
    let minutes = chat_links::CODE_LIFE.as_secs() / 60;
    super::say!("Code:     {}", code.reveal());
    let code = code.reveal();
    match bot {
        Ok(bot) => {
            super::say!("A person: https://t.me/{bot}?start={code}");
            super::say!("A group:  https://t.me/{bot}?startgroup={code}");
            super::say!(
                "\nOr write, in a group or a topic that @{bot} is in, or a channel that it administers: /link@{bot} {code}"
            );
        }
        Err(error) => {
            eprintln!("vestnik: {error}");
            super::say!("\nWrite to the bot, or with its name behind /link@ in a group that it is in: /link {code}");
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
    let state = shared_bot::state(&client).await?;
    let chats = chat_links::list(&client).await?;
    let bot = match (&config.telegram, &state.stopped) {
        (None, _) => "off: no token is configured".to_owned(),
        (Some(_), Some(why)) => format!("stopped: {why}"),
        (Some(_), None) => "on".to_owned(),
    };
    super::say!("bot: {bot}");
    if let Some((why, since_s)) = &state.error {
        super::say!("Telegram: not reached for {}: {why}", ago(*since_s));
    }
    if config.telegram.is_some() && state.stopped.is_none() {
        super::say!("poll: {}", poll_health(&state));
    }
    let open: i64 = chats.iter().map(|chat| chat.open).sum();
    if open > 0 {
        let oldest_s = chats.iter().map(|chat| chat.open_s).fold(0.0, f64::max);
        super::say!("waiting: {open}, the oldest for {}", ago(oldest_s));
    }
    chats.iter().for_each(print_chat);
    Ok(())
}

/// Describes whether a node polls Telegram for updates. Without polling, button presses and commands do not arrive.
fn poll_health(state: &shared_bot::State) -> String {
    let polled = match state.polled_s {
        Some(since_s) => format!("answered {} ago", ago(since_s)),
        None => "never answered".to_owned(),
    };
    let health = match &state.poller {
        Some(node) => format!("node {node}, {polled}"),
        None => format!("by no node, {polled}: is `vestnik serve` running?"),
    };
    let health = if !state.is_polled() && state.poller.is_some() {
        format!("{health}: it gets no response from Telegram")
    } else {
        health
    };
    match state.recent_conflict_s() {
        Some(since_s) => format!(
            "{health}\nconflict: {} ago another program polled with this token, or a webhook is set for it (409)",
            ago(since_s)
        ),
        None => health,
    }
}

fn print_chat(chat: &ListedChat) {
    let waiting = match chat.open {
        0 => "up to date".to_owned(),
        open => format!("{open} waiting, the oldest for {}", ago(chat.open_s)),
    };
    let how = match (&chat.disabled, &chat.blocked) {
        (Some((why, since_s)), _) => format!("disabled: {why} ({} ago)", ago(*since_s)),
        (None, Some((why, since_s))) => format!("{waiting}; blocked for {}: {why}", ago(*since_s)),
        (None, None) => waiting,
    };
    let error = match &chat.error {
        Some((error, since_s)) => format!("; last error {} ago: {error}", ago(*since_s)),
        None => String::new(),
    };
    let topic = chat.topic.map(|topic| format!(" topic {topic}")).unwrap_or_default();
    super::say!(
        "store {:<12} {:<9} {:<3} chat {:<16} {:<24} {how}{error}",
        chat.store,
        chat.mode,
        chat.language,
        format!("{}{topic}", chat.telegram_id),
        chat.title.as_deref().unwrap_or("-"),
    );
}

/// Formats an age as `12 s`, `5 min`, `3 h` or `2 d`.
fn ago(seconds: f64) -> String {
    match seconds.max(0.0) {
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.0} h", seconds / 3600.0),
        seconds => format!("{:.0} d", seconds / 86_400.0),
    }
}

async fn unlink(config: &Config, chat: i64, store: Option<String>) -> anyhow::Result<()> {
    let client = db::connect(&config.database).await?;
    let stores = store.map(|store| vec![store]);
    match chat_links::end(&client, chat, stores.as_deref()).await? {
        0 => bail!("chat {chat} is linked to no such store: `vestnik telegram status` lists the chats"),
        1 => super::say!("chat {chat} is unlinked from one store"),
        many => super::say!("chat {chat} is unlinked from {many} stores"),
    }
    Ok(())
}

/// Enqueues a test message for each chat of the store, in the same way as an order. Waits until a node has sent these
/// messages.
async fn test(config: &Config, store: &str, chat: Option<i64>) -> anyhow::Result<()> {
    let client = db::connect(&config.database).await?;
    let chats: Vec<ListedChat> = chat_links::list(&client).await?;
    let chats = chats
        .into_iter()
        .filter(|it| it.store == store && chat.is_none_or(|chat| chat == it.telegram_id));
    let (mut tests, mut failed) = (Vec::new(), 0);
    for chat in chats {
        let name = chat.store_name.as_deref().unwrap_or(store);
        let text = html::render_template(catalog::of(&chat.language).get("command.test"), &[("store", name)]);
        let delivery = chat_links::test(&client, store, chat.telegram_id, &text).await?;
        tests.push((chat, delivery));
    }
    if tests.is_empty() {
        bail!("store {store} has no such chat: `vestnik telegram link --store {store}` links one");
    }
    let began = Instant::now();
    for (chat, delivery) in &tests {
        let arrival = match (delivery, &chat.disabled) {
            (Some(delivery), _) => arrival(&client, *delivery, began).await?,
            (None, Some((why, _))) => Arrival::Failed(format!("disabled: {why}")),
            (None, None) => Arrival::Failed("it was unlinked meanwhile".to_owned()),
        };
        let title = chat.title.as_deref().unwrap_or("-");
        let said = match arrival {
            Arrival::Sent(said) => said,
            Arrival::Failed(why) => {
                failed += 1;
                format!("NOT sent: {why}")
            }
        };
        super::say!("chat {:<16} {title:<24} {said}", chat.telegram_id);
    }
    match failed {
        0 => Ok(()),
        failed => bail!("{failed} of {} chats did not get it", tests.len()),
    }
}

/// The outcome of a test message, as a text for the person.
enum Arrival {
    /// The message was sent. The field says how soon.
    Sent(String),
    /// The message was not sent. The field is the reason.
    Failed(String),
}

/// Waits until a test message is sent, at most [`TEST_DEADLINE`].
async fn arrival(client: &crate::infra::db::Client, delivery: i64, began: Instant) -> anyhow::Result<Arrival> {
    loop {
        let is_late = began.elapsed() > TEST_DEADLINE;
        match chat_links::tried(client, delivery).await? {
            Tried::Sent => {
                return Ok(Arrival::Sent(format!(
                    "sent within {:.1} s",
                    began.elapsed().as_secs_f64()
                )));
            }
            Tried::Not(Some(why)) => {
                chat_links::give_up(client, delivery).await?;
                return Ok(Arrival::Failed(why));
            }
            Tried::Not(None) if is_late => {
                let throttled_s = chat_links::throttled_s(client, delivery).await?;
                chat_links::give_up(client, delivery).await?;
                if throttled_s > chat_links::LONG_PAUSE_S {
                    let why = format!("Telegram asks to wait another {throttled_s:.0} s (429)");
                    return Ok(Arrival::Failed(why));
                }
                let state = shared_bot::state(client).await?;
                let why = state
                    .error
                    .map(|(why, _)| format!("Telegram is not reached: {why}"))
                    .or(state.stopped);
                let no_node = || {
                    format!(
                        "no node has sent it within {} s: is `vestnik serve` running?",
                        TEST_DEADLINE.as_secs()
                    )
                };
                return Ok(Arrival::Failed(why.unwrap_or_else(no_node)));
            }
            Tried::Not(None) => tokio::time::sleep(TEST_LOOK).await,
        }
    }
}
