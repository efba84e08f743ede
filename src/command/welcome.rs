//! The first screen: what somebody needs who has just started the program and has never seen it.

use std::net::SocketAddr;
use std::path::Path;

/// The store that the example is about.
const STORE: &str = "7";
const ORDER: &str = "insert into orders (store_id, customer_name, total, order_type, items) \
     values (7, 'Иван', 50000, 'delivery', '[{\"name\": \"Пицца\", \"count\": 2}]')";

/// What the screen tells.
pub struct Screen<'a> {
    /// Where it serves.
    pub address: SocketAddr,
    /// Whether with TLS.
    pub secure: bool,
    /// A token for every store.
    pub token: &'a str,
    /// How psql reaches the private Postgres; `None` where there is no psql.
    pub psql: Option<String>,
    /// Its data.
    pub directory: &'a Path,
    /// Its version.
    pub major: u32,
    /// Whether there is a bot.
    pub telegram: bool,
}

impl Screen<'_> {
    /// The screen.
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
             The token opens every store for a week. `{program} simulate` writes many orders. Ctrl-C stops; the data\n  \
             stays. For a database of your own, set DATABASE_URL.\n\n  {telegram}\n",
            self.major,
            self.directory.display(),
            token = self.token,
        )
    }
}

/// For a shell: within double quotes, because the SQL has single ones.
fn quoted(sql: &str) -> String {
    format!("\"{}\"", sql.replace('\\', "\\\\").replace('"', "\\\""))
}

/// How this program is called from here: its name where the shell finds it, its path where not.
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
