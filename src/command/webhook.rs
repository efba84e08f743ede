//! `vestnik webhook`: tests a store's webhook, and replaces its secret.

use crate::delivery::webhook;
use crate::domain::event::StoreId;
use crate::infra::config::Config;
use crate::infra::db;
use crate::infra::standard_webhook::signature;
use crate::store::secret;
use anyhow::bail;

use super::Usage;

/// The environment variable that holds the webhook's secret. An option would show the secret in the list of processes.
const SECRET_VARIABLE: &str = "VESTNIK_WEBHOOK_SECRET";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Post a message of the type "test" to a store's webhook, and print the response
    Test {
        /// The id of the store in the shop's tables
        #[arg(long)]
        store: String,
    },
    /// Sign with a new secret, too: from VESTNIK_WEBHOOK_SECRET, or created and printed
    Rotate {
        /// The id of the store in the shop's tables
        #[arg(long)]
        store: String,
        /// Stop signing with the old secret; the receiver must know the new one
        #[arg(long)]
        finish: bool,
    },
}

/// Runs `vestnik webhook` on the configured database.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    let client = db::connect(&config.database).await?;
    match args.action {
        Action::Test { store } => {
            let status = webhook::test(&client, &store, &config.webhook).await?;
            super::say!("the webhook of store {store} answered {status}");
        }
        Action::Rotate { store, finish: true } => {
            if !secret::end_rotation(&client, &StoreId::new(&store)).await? {
                bail!("store {store} has no secret of before");
            }
            super::say!("the webhook of store {store} is signed with the new secret alone");
        }
        Action::Rotate { store, finish: false } => {
            let given = given_secret()?;
            let new = match &given {
                Some(given) => given.clone(),
                None => signature::generate()?,
            };
            if !secret::rotate(&client, &StoreId::new(&store), &new).await? {
                bail!("store {store} has no webhook: `vestnik store set --store {store} --webhook https://...`");
            }
            match given {
                Some(_) => super::say!("the webhook of store {store} is signed with the new secret"),
                None => super::say!("the webhook of store {store} is signed with {new}"),
            }
            super::say!("and with the one before, until `vestnik webhook rotate --store {store} --finish`");
        }
    }
    Ok(())
}

/// The webhook secret in the environment; `None`: it is not set. An error if the secret is too short or not valid
/// base64.
pub fn given_secret() -> Result<Option<String>, Usage> {
    match std::env::var(SECRET_VARIABLE) {
        Err(_) => Ok(None),
        Ok(secret) if signature::is_good(&secret) => Ok(Some(secret)),
        Ok(_) => Err(Usage(format!(
            "{SECRET_VARIABLE} has 16 characters or more; behind whsec_, base64 of 16 bytes or more"
        ))),
    }
}
