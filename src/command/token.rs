//! `vestnik token`: creates, lists, rotates and revokes tokens. A token gives access to the events of stores.

use std::time::Duration;

use crate::infra::config::Config;
use crate::infra::db;
use crate::token::{self, ListedToken, New, Scope, Stores, TokenId, TokenInvalidated, Which};
use anyhow::Context as _;
use clap::builder::PossibleValuesParser;

use super::{Usage, duration};

/// The longest label, characters.
const MAX_LABEL_CHARACTERS: usize = 100;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Create a token, and print only the token; it is never shown again
    Create(Create),
    /// List all tokens without their secrets: stores, scope, last use, and open sessions
    List,
    /// Create and print the successor of a token; the old token expires a little later
    Rotate(Rotate),
    /// Revoke tokens: their live sessions close within seconds
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct Create {
    #[command(flatten)]
    opens: Opens,
    /// Its rights: read (see orders), panel (also answer them), manager (also see receipts and figures), operator
    /// (everything)
    #[arg(long, default_value = "panel", value_parser = PossibleValuesParser::new(Scope::ALL.map(Scope::as_str)))]
    scope: String,
    /// How long it is valid, such as 30d or 12h [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    expires: Option<Duration>,
    /// A label that the list shows
    #[arg(long)]
    label: Option<String>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Opens {
    /// A store that the token opens; may be repeated
    #[arg(long = "store", value_name = "STORE")]
    stores: Vec<String>,
    /// The token opens every store
    #[arg(long, conflicts_with = "stores")]
    all_stores: bool,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    /// The old token's number in `vestnik token list`
    id: i64,
    /// How long the old token stays valid
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration::parse)]
    old_lives: Duration,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Revoke {
    /// The token's number in `vestnik token list`
    id: Option<i64>,
    /// Every token with this label
    #[arg(long)]
    label: Option<String>,
}

/// Runs `vestnik token` on the configured database.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    if let Action::Create(create) = &args.action {
        check(create)?;
    }
    let mut client = db::connect(&config.database).await?;
    match args.action {
        Action::Create(create) => {
            let stores = if create.opens.all_stores {
                Stores::All
            } else {
                Stores::These(create.opens.stores)
            };
            let new = New {
                stores: &stores,
                scope: Scope::from_name(&create.scope).context("no such scope")?,
                label: create.label.as_deref(),
                expires_in: create.expires,
            };
            super::say!("{}", token::create(&client, &new).await?.reveal());
        }
        Action::List => token::list(&client).await?.iter().for_each(print),
        Action::Rotate(rotate) => {
            let followed = token::rotate(&mut client, TokenId(rotate.id), rotate.old_lives).await?;
            let token =
                followed.context("there is no such token that is still valid; `vestnik token list` shows all")?;
            super::say!("{}", token.reveal());
        }
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

/// Rejects store ids that no store can have, and labels that do not fit into one line of the list.
fn check(create: &Create) -> Result<(), Usage> {
    for store in &create.opens.stores {
        if store.is_empty() || store.trim() != store || store.chars().any(char::is_control) {
            return Err(Usage(format!(
                "{store:?} is no store: a store's id is not empty and has no spaces around it"
            )));
        }
        if store.contains(',') {
            return Err(Usage(format!(
                "{store:?} would be one store: give --store again for each"
            )));
        }
    }
    let label = create.label.as_deref().unwrap_or("-");
    if label.chars().any(char::is_control) || label.chars().count() > MAX_LABEL_CHARACTERS {
        return Err(Usage(format!(
            "a label is {MAX_LABEL_CHARACTERS} characters at most, on one line"
        )));
    }
    Ok(())
}

fn print(token: &ListedToken) {
    let opens = match (&token.issuer, &token.stores) {
        (Some(issuer), _) => format!("as its JWTs say ({issuer})"),
        (None, Stores::All) => "every store".to_owned(),
        (None, Stores::These(stores)) => format!("store {}", stores.join(", ")),
    };
    let scope = match &token.issuer {
        Some(_) => "jwt",
        None => token.scope.as_str(),
    };
    let state = match (token.withdrawn, &token.expires) {
        (Some(TokenInvalidated::Expired), _) => "expired".to_owned(),
        (Some(_), _) => "revoked".to_owned(),
        (None, Some(day)) => format!("valid until {day}"),
        (None, None) => "valid".to_owned(),
    };
    let used = token
        .used
        .as_deref()
        .map_or("never used".to_owned(), |at| format!("used {at} UTC"));
    let line = format!(
        "{:>5}  {:<24}  {scope:<8}  {opens:<24}  made {}  {used}  {} sessions  {state}",
        token.id,
        token.label.as_deref().unwrap_or("-"),
        token.created,
        token.sessions,
    );
    super::say!("{}", on_one_line(&line));
}

/// Escapes control characters of a label. Another program may have written the label, and it must not move the
/// terminal's cursor.
fn on_one_line(text: &str) -> String {
    let shown = |letter: char| match letter.is_control() {
        true => letter.escape_default().collect(),
        false => letter.to_string(),
    };
    text.chars().map(shown).collect()
}
