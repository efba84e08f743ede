//! Reads the setting `databases`: several databases for one node, each with its stores.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret as _, SecretString};
use toml::{Table, Value};

use super::load::Reading;
use super::{Database, ServedDatabase, Telegram};
use crate::infra::config::telegram::is_bot_token;
use crate::infra::db::{Address, Surroundings};

/// Maximum number of databases that one node may serve. Each database needs its own connection pools, and its own task
/// that reads new events.
const MOST: usize = 64;
const ALLOWED: &str = "databases like { name = \"spb\", url = \"postgres://…\", stores = [\"7\"], listen_url = \"…\", telegram_token = \"…\" }, \
     each with a name and a url of its own, and a store in one of them only";

impl Reading {
    /// Reads the databases to serve. Each database has its own name, addresses, stores and bot token. All other
    /// settings of `[database]` and `[telegram]` apply to each database. Invalid entries are reported and left out. The
    /// result is empty if `databases` is not set.
    pub(super) fn read_databases(&mut self, database: &Database, telegram: &Telegram) -> Vec<ServedDatabase> {
        let Some((value, place)) = self.values.get("databases").cloned() else {
            return Vec::new();
        };
        let Some(entries) = entries(&value) else {
            self.complain("databases", None, &place, ALLOWED);
            return Vec::new();
        };
        if entries.is_empty() {
            return Vec::new();
        }
        let mut databases = Vec::new();
        for entry in &entries {
            match read(entry, database, telegram, &self.surroundings) {
                Some(database) => databases.push(database),
                // The entry may hold a password, so its text is not shown.
                None => self.complain("databases", None, &place, ALLOWED),
            }
        }
        if databases.len() == entries.len() && (databases.len() > MOST || !are_apart(&databases)) {
            self.complain("databases", None, &place, ALLOWED);
        }
        let exclusive = [
            (
                "database.url",
                database.url.is_some(),
                "leave it empty: `databases` says which to serve",
            ),
            (
                "telegram.token",
                telegram.is_on(),
                "leave it empty: with several databases each has a bot of its own, `telegram_token` in `databases`",
            ),
        ];
        for (name, is_given, allowed) in exclusive {
            let place = self.values.get(name).map(|(_, place)| place.clone());
            if let Some(place) = place.filter(|_| is_given) {
                self.complain(name, None, &place, allowed);
            }
        }
        databases
    }
}

/// Parses the list of databases: an array in the settings file, or the same array as text in an environment variable.
fn entries(value: &Value) -> Option<Vec<Table>> {
    let parsed = match value {
        Value::String(text) => format!("it = {text}").parse::<Table>().ok()?.remove("it")?,
        other => other.clone(),
    };
    let list = parsed.as_array()?;
    list.iter().map(|entry| entry.as_table().cloned()).collect()
}

fn read(
    entry: &Table,
    database: &Database,
    telegram: &Telegram,
    surroundings: &Surroundings,
) -> Option<ServedDatabase> {
    let known = ["name", "url", "listen_url", "stores", "telegram_token"];
    if !entry.keys().all(|key| known.contains(&key.as_str())) {
        return None;
    }
    let text = |key: &str| match entry.get(key) {
        None => Some(None),
        Some(value) => value.as_str().map(|text| Some(text.to_owned())),
    };
    let address = |key: &str| match text(key)? {
        Some(url) => {
            let url = SecretString::from(url);
            Address::read(&url, surroundings).ok()?;
            Some(Some(url))
        }
        None => Some(None),
    };
    let name = text("name")?.filter(|name| !name.is_empty())?;
    let stores = match entry.get("stores") {
        None => None,
        Some(stores) => {
            let stores = stores.as_array()?.iter().map(|store| store.as_str().map(str::to_owned));
            Some(stores.collect::<Option<BTreeSet<_>>>()?)
        }
    };
    let token = text("telegram_token")?.filter(|token| !token.is_empty());
    if token.as_deref().is_some_and(|token| !is_bot_token(token)) {
        return None;
    }
    let telegram = token.map(|token| Telegram {
        token: SecretString::from(token),
        ..telegram.clone()
    });
    Some(ServedDatabase {
        name,
        database: Database {
            url: Some(address("url")??),
            listen_url: address("listen_url")?,
            ..database.clone()
        },
        stores,
        telegram,
    })
}

/// Whether the databases are all different: no name, address, bot or store occurs in two of them.
fn are_apart(databases: &[ServedDatabase]) -> bool {
    fn differ<T: Ord>(all: impl Iterator<Item = T>) -> bool {
        let mut seen = BTreeSet::new();
        all.into_iter().all(|one| seen.insert(one))
    }
    let url = |served: &ServedDatabase| served.database.url.as_ref().map(|url| url.expose_secret().to_owned());
    let bot = |served: &ServedDatabase| served.telegram.as_ref().map(|bot| bot.token.expose_secret().to_owned());
    differ(databases.iter().map(|served| &served.name))
        && differ(databases.iter().filter_map(url))
        && differ(databases.iter().filter_map(bot))
        && differ(databases.iter().filter_map(|served| served.stores.as_ref()).flatten())
}
