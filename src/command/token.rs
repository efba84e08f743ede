//! `vestnik token`: makes, lists and revokes what opens the streams.

use std::time::Duration;

use anyhow::Context as _;
use vestnik::config::Config;
use vestnik::db;
use vestnik::token::{self, Listed, Stores, TokenId, Which, Withdrawn};

use super::duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a token, and print it and nothing else; it is shown this once
    Create(Create),
    /// List all tokens, without themselves
    List,
    /// Revoke tokens: their live sessions close within seconds
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct Create {
    #[command(flatten)]
    opens: Opens,
    /// How long it is valid, such as 30d or 12h; without it, until it is revoked
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    expires: Option<Duration>,
    /// What to call it in the list
    #[arg(long)]
    label: Option<String>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Opens {
    /// A store that the token opens; may be given again
    #[arg(long = "store", value_name = "STORE")]
    stores: Vec<String>,
    /// The token opens every store
    #[arg(long, conflicts_with = "stores")]
    all_stores: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Revoke {
    /// The token's number in the list
    id: Option<i64>,
    /// All tokens of this label
    #[arg(long)]
    label: Option<String>,
}

/// Does it on the configured database.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    let client = db::connect(&config.database).await?;
    match args.action {
        Action::Create(create) => {
            let stores = if create.opens.all_stores {
                Stores::All
            } else {
                Stores::These(create.opens.stores)
            };
            let token = token::create(&client, &stores, create.label.as_deref(), create.expires).await?;
            super::say!("{}", token.reveal());
        }
        Action::List => token::list(&client).await?.iter().for_each(print),
        Action::Revoke(revoke) => {
            let which = match revoke.id {
                Some(id) => Which::Id(TokenId(id)),
                None => Which::Label(revoke.label.context("which token? Give its number or its label")?),
            };
            match token::revoke(&client, &which).await? {
                0 => anyhow::bail!("there is no such token that is still valid; `vestnik token list` shows all"),
                1 => super::say!("revoked"),
                several => super::say!("revoked {several} tokens"),
            }
        }
    }
    Ok(())
}

fn print(token: &Listed) {
    let stores = match &token.stores {
        Stores::All => "every store".to_owned(),
        Stores::These(stores) => format!("store {}", stores.join(", ")),
    };
    let state = match (token.withdrawn, token.expires_at) {
        (Some(Withdrawn::Revoked), _) => "revoked".to_owned(),
        (Some(Withdrawn::Expired), _) => "expired".to_owned(),
        (None, Some(at)) => format!("valid until {}", at.date()),
        (None, None) => "valid".to_owned(),
    };
    let label = token.label.as_deref().unwrap_or("-");
    super::say!(
        "{:>5}  {:<24}  {:<24}  made {}  {state}",
        token.id,
        label,
        stores,
        token.created_at.date()
    );
}
