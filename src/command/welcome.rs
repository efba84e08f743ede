//! The first screen of `vestnik serve` with a private Postgres. It shows everything that a person needs for a first
//! trial of Vestnik.

use std::fs::{OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::infra::db::Client;
use crate::token::{self, New, Scope, Stores, Token, Which};
use anyhow::Context as _;

/// The id of the store in the example on the screen.
const STORE: &str = "7";
const ORDER: &str = "insert into orders (store_id, customer_name, total, order_type, items) \
     values (7, 'Иван', 50000, 'delivery', '[{\"name\": \"Пицца\", \"count\": 2}]')";

/// How long the token on the screen is valid.
const TOKEN_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// If the token is valid for less than this time when the program starts, a new token replaces it.
const TOKEN_LEFT: Duration = Duration::from_secs(24 * 60 * 60);
const TOKEN_LABEL: &str = "first screen";
/// The name of the file with the token, in the data directory. Only the owner of the file can read it.
const TOKEN_FILE: &str = "first-screen.token";
/// The text in place of the token if the output is not a terminal.
const NO_TOKEN: &str = "TOKEN";

/// Returns the token for the screen, which gives access to every store. It is kept in a file of the data directory, so
/// that a restart shows the same token again. A token that expires soon is replaced.
pub async fn token(client: &Client, directory: &Path) -> anyhow::Result<Token> {
    let file = directory.join(TOKEN_FILE);
    if let Some(kept) = kept(&file)?
        && token::lives(client, &kept, TOKEN_LEFT).await?
    {
        return Ok(kept);
    }
    token::revoke(client, &Which::Label(TOKEN_LABEL.into())).await?;
    let new = New {
        stores: &Stores::All,
        scope: Scope::Operator,
        label: Some(TOKEN_LABEL),
        expires_in: Some(TOKEN_LIFE),
    };
    let token = token::create(client, &new).await?;
    keep(&file, &token).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(token)
}

fn kept(file: &PathBuf) -> anyhow::Result<Option<Token>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Token::parse(text.trim())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn keep(file: &PathBuf, token: &Token) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
    // An existing file may have had other permissions, so set them.
    open.set_permissions(Permissions::from_mode(0o600))?;
    writeln!(open, "{}", token.reveal())
}

/// The data on the first screen.
pub struct Screen<'a> {
    /// The address of the HTTP server.
    pub address: SocketAddr,
    /// Whether the HTTP server uses TLS.
    pub secure: bool,
    /// A token that gives access to every store. `None`: the output is not a terminal, and may be a file.
    pub token: Option<&'a str>,
    /// The psql command line for the private Postgres. `None`: psql is not installed.
    pub psql: Option<String>,
    /// The data directory of the private Postgres.
    pub directory: &'a Path,
    /// The major version of the private Postgres.
    pub major: u32,
    /// Whether a Telegram bot is configured.
    pub telegram: bool,
}

impl Screen<'_> {
    /// The text of the screen.
    pub fn text(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let (address, program) = (self.address, program());
        let url = if self.address.port() == 8000 && !self.secure {
            String::new()
        } else {
            format!(" --url {scheme}://{address}")
        };
        let insert = match &self.psql {
            Some(psql) => format!("{psql} -c {}", quoted(ORDER)),
            None => format!("{program} simulate     (no psql was found on this machine)"),
        };
        let token = self.token.unwrap_or(NO_TOKEN);
        let about = match self.token {
            Some(_) => format!("The token opens every store for a week. `{program} simulate` writes many orders."),
            None => format!(
                "This is no terminal, so no token is shown: TOKEN is what `{program} token create --all-stores` prints.\n  \
                 `{program} simulate` writes many orders."
            ),
        };
        let telegram = if self.telegram {
            format!("Telegram is on: `{program} telegram link --store {STORE}` prints a code that links a chat.")
        } else {
            "Telegram and escalation are off: no bot token is configured (VESTNIK_TELEGRAM_TOKEN).".to_owned()
        };
        format!(
            "\n  Vestnik is running, with a private Postgres {} in {}\n\n  \
             1. Open the panel of store {STORE} in a browser:\n\n     \
             {scheme}://{address}/#store={STORE}&token={token}\n\n  \
             2. Write an order into Postgres, in a second terminal:\n\n     {insert}\n\n  \
             or watch without a browser:\n\n     \
             VESTNIK_TOKEN={token} {program} tail --store {STORE}{url}\n\n  \
             {about}\n  Ctrl-C stops; the data stays. For a database of your own, set DATABASE_URL.\n\n  {telegram}\n",
            self.major,
            self.directory.display(),
        )
    }
}

/// Quotes SQL for a shell with double quotes, because the SQL contains single quotes.
fn quoted(sql: &str) -> String {
    format!("\"{}\"", sql.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Returns the command that starts this program from the current directory: `vestnik` if the program is in `PATH`,
/// otherwise its path.
fn program() -> String {
    let Ok(path) = std::env::current_exe() else {
        return "vestnik".into();
    };
    let known = std::env::var_os("PATH").unwrap_or_default();
    if path
        .parent()
        .is_some_and(|parent| std::env::split_paths(&known).any(|directory| directory == parent))
    {
        return "vestnik".into();
    }
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok().map(|path| Path::new(".").join(path)));
    relative.unwrap_or(path).display().to_string()
}
