//! `vestnik webhook`: manages the webhooks (addresses) to which events are posted. It also tests the webhook of a
//! store's last escalation step, and rotates the secrets of both kinds of webhooks.

use crate::delivery::escalation_webhook;
use crate::delivery::webhook_endpoint::table::{self, ListedEndpoint, New};
use crate::domain::event::{EventType, StoreId};
use crate::infra::config::Config;
use crate::infra::db::{self, Client};
use crate::infra::standard_webhook::{address, signature};
use crate::store::secret as store_secret;
use anyhow::bail;

use super::Usage;

/// The environment variable that contains the webhook's secret. There is no option for the secret, because every user
/// can see the command lines of processes.
const SECRET_VARIABLE: &str = "VESTNIK_WEBHOOK_SECRET";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Post events to an address as they are committed. Prints the webhook's number, and the signing secret once
    Add(Add),
    /// List the webhooks that events are posted to, with the results of the posts
    List,
    /// Remove a webhook, and the events that wait for it
    Remove {
        /// The number in `vestnik webhook list`
        id: i64,
    },
    /// Post the waiting events at once, also to a webhook that was stopped after failures
    Resume {
        /// The number in `vestnik webhook list`
        id: i64,
    },
    /// Post a message of the type "test", and print the response
    Test(Which),
    /// Sign with a second, new secret, too: from VESTNIK_WEBHOOK_SECRET, or created and printed
    Rotate {
        #[command(flatten)]
        which: Which,
        /// Stop signing with the old secret; the receiver must know the new one
        #[arg(long)]
        finish: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// The https address. VESTNIK_WEBHOOK_SECRET has the signing secret; without it one is created and printed
    #[arg(long)]
    url: String,
    #[command(flatten)]
    of: Of,
    /// A type of event, such as new_order; may be repeated [default: every type]
    #[arg(long = "type", value_name = "TYPE", value_parser = event_type)]
    types: Vec<EventType>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Of {
    /// A store whose events are posted; may be repeated
    #[arg(long = "store", value_name = "STORE", value_parser = store)]
    stores: Vec<String>,
    /// Post the events of every store
    #[arg(long, conflicts_with = "stores")]
    all_stores: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The number in `vestnik webhook list`
    id: Option<i64>,
    /// The store whose last escalation step calls the webhook
    #[arg(long)]
    store: Option<String>,
}

fn event_type(text: &str) -> Result<EventType, String> {
    let names = || EventType::ALL.map(EventType::as_str).join(", ");
    EventType::from_name(text).ok_or_else(|| format!("the types are {}", names()))
}

fn store(text: &str) -> Result<String, String> {
    match text.is_empty() || text.trim() != text || text.contains([',', '\n']) {
        true => Err("a store's id is not empty and has no spaces around it; give --store again for each".into()),
        false => Ok(text.to_owned()),
    }
}

/// Runs `vestnik webhook` on the configured database.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    if let Action::Add(add) = &args.action {
        address::check(&add.url, config.webhook.allow_private).map_err(|refused| Usage(refused.to_string()))?;
    }
    let mut client = db::connect(&config.database).await?;
    match args.action {
        Action::Add(add) => add_endpoint(&mut client, &add).await?,
        Action::List => table::list(&client).await?.iter().for_each(print),
        Action::Remove { id } => {
            table::remove(&client, id).await?;
            super::say!("webhook {id} is removed");
        }
        Action::Resume { id } => {
            table::resume(&client, id).await?;
            super::say!("what waits for webhook {id} is posted");
        }
        Action::Test(Which { id: Some(id), .. }) => {
            let status = table::test(&client, id, &config.webhook).await?;
            super::say!("webhook {id} answered {status}");
        }
        Action::Test(Which { store, .. }) => {
            let store = store.unwrap_or_default();
            let Some(status) = escalation_webhook::test(&client, &store, &config.webhook).await? else {
                bail!("{}", without_webhook(&store));
            };
            super::say!("the webhook of store {store} answered {status}");
        }
        Action::Rotate {
            which: Which { id: Some(id), .. },
            finish,
        } => rotate_endpoint(&client, id, finish).await?,
        Action::Rotate { which, finish } => rotate(&client, &which.store.unwrap_or_default(), finish).await?,
    }
    Ok(())
}

async fn add_endpoint(client: &mut Client, add: &Add) -> anyhow::Result<()> {
    let (secret, is_made) = secret()?;
    let new = New {
        url: &add.url,
        secret: &secret,
        stores: (!add.of.all_stores).then_some(&add.of.stores),
        types: (!add.types.is_empty()).then_some(&add.types),
    };
    let id = table::add(client, &new).await?;
    super::say!("webhook {id} is posted every event from now on");
    if is_made {
        super::say!("it is signed with {secret}");
    }
    Ok(())
}

fn print(endpoint: &ListedEndpoint) {
    let of = |what: &str, all: &str, these: &Option<Vec<String>>| match these {
        None => all.to_owned(),
        Some(these) => format!("{what} {}", these.join(", ")),
    };
    let state = match (&endpoint.since, &endpoint.reason) {
        (Some(since), reason) => format!(
            "{} since {since} UTC: {}",
            if endpoint.is_stopped {
                "STOPPED, failed"
            } else {
                "fails"
            },
            reason.as_deref().unwrap_or("-")
        ),
        (None, _) => "works".to_owned(),
    };
    let line = format!(
        "{:>5}  {}  {}  {}  {} posted  {} given up  {state}",
        endpoint.id,
        endpoint.origin,
        of("store", "every store", &endpoint.stores),
        of("type", "every type", &endpoint.types),
        endpoint.sent,
        endpoint.given_up,
    );
    // Replace control characters, because another program may have written the store's id, and the id must not move the
    // terminal's cursor.
    super::say!("{}", line.replace(char::is_control, "?"));
}

/// Returns the secret in the environment, or a new secret. The second value is true if the secret is new.
fn secret() -> anyhow::Result<(String, bool)> {
    Ok(match given_secret()? {
        Some(given) => (given, false),
        None => (signature::generate()?, true),
    })
}

async fn rotate_endpoint(client: &Client, id: i64, finish: bool) -> anyhow::Result<()> {
    if finish {
        table::end_rotation(client, id).await?;
        super::say!("webhook {id} is signed with the new secret alone");
        return Ok(());
    }
    let (new, is_made) = secret()?;
    table::rotate(client, id, &new).await?;
    say_both(&format!("webhook {id}"), &id.to_string(), is_made.then_some(&*new));
    Ok(())
}

/// Prints that posts are signed with both secrets. `arguments` are the command-line options that name the webhook, for
/// the command that ends the rotation. `made` is the new secret, if this command created it; `None`: the person
/// supplied the secret.
fn say_both(webhook: &str, arguments: &str, made: Option<&str>) {
    super::say!("{webhook} is signed with {}", made.unwrap_or("the new secret"));
    super::say!("and with the one before, until `vestnik webhook rotate {arguments} --finish`");
}

fn without_webhook(store: &str) -> String {
    format!("store {store} has no webhook: `vestnik store set --store {store} --webhook https://...`")
}

async fn rotate(client: &Client, store: &str, finish: bool) -> anyhow::Result<()> {
    if finish {
        if !store_secret::end_rotation(client, &StoreId::new(store)).await? {
            bail!("store {store} has no secret of before");
        }
        super::say!("the webhook of store {store} is signed with the new secret alone");
        return Ok(());
    }
    let (new, is_made) = secret()?;
    if !store_secret::rotate(client, &StoreId::new(store), &new).await? {
        bail!("{}", without_webhook(store));
    }
    let webhook = format!("the webhook of store {store}");
    say_both(&webhook, &format!("--store {store}"), is_made.then_some(&*new));
    Ok(())
}

/// Reads the webhook's secret from the environment. `None`: it is not set. Fails if the secret is too short, or is not
/// valid base64.
pub fn given_secret() -> Result<Option<String>, Usage> {
    match std::env::var(SECRET_VARIABLE) {
        Err(_) => Ok(None),
        Ok(secret) if signature::is_good(&secret) => Ok(Some(secret)),
        Ok(_) => Err(Usage(format!(
            "{SECRET_VARIABLE} has 16 characters or more; behind whsec_, base64 of 16 bytes or more"
        ))),
    }
}
