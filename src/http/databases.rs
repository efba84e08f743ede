//! Finds the database of a store, because a node may serve several databases.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::join_all;

use super::DatabaseContext;
use super::error::ApiError;
use super::hosts_and_origins::Rules;
use super::request_limits::RequestLimits;
use super::server::Proxies;
use crate::domain::event::StoreId;
use crate::domain::store_set::StoreSet;
use crate::infra::config;
use crate::store;
use crate::token::Stores;

/// Maximum number of stores in the cache that maps a store to its database. At this number, the cache is cleared.
const MOST_FOUND: usize = 100_000;

/// The databases that a node serves, with the rules and rate limits that apply to all requests.
pub struct Databases {
    databases: Vec<(Arc<DatabaseContext>, Option<BTreeSet<String>>)>,
    found: RwLock<HashMap<StoreId, usize>>,
    /// The rules for the hosts and origins of all requests.
    pub(super) rules: Rules,
    /// The rate limits of requests.
    pub(super) limits: RequestLimits,
}

impl Databases {
    /// Creates the list of databases. Each entry of `databases` is a database, and the ids of the stores that the
    /// settings assign to this database. `None` instead of ids: the node asks the database which stores it has.
    pub fn new(
        databases: Vec<(Arc<DatabaseContext>, Option<BTreeSet<String>>)>,
        http: &config::Http,
        is_secure: bool,
        proxies: Arc<Proxies>,
    ) -> Self {
        Self {
            databases,
            found: RwLock::default(),
            rules: Rules::new(http, is_secure, proxies),
            limits: RequestLimits::new(http),
        }
    }

    /// Whether the node serves more than one database.
    pub(super) fn are_several(&self) -> bool {
        self.databases.len() > 1
    }

    /// All databases of the node.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<DatabaseContext>> {
        self.databases.iter().map(|(database, _)| database)
    }

    /// The first database, for work that has the same result in every database, such as the check of a JWT.
    pub(super) fn any(&self) -> &Arc<DatabaseContext> {
        &self.databases[0].0
    }

    /// The stores in this database to which a token gives access. Stores that the settings assign to another database
    /// are left out.
    pub(super) fn stores_of(&self, database: &DatabaseContext, opened: &Stores) -> StoreSet {
        let ids = |names: &BTreeSet<String>| names.iter().map(|name| StoreId::new(name)).collect();
        let own = self
            .databases
            .get(database.number)
            .and_then(|(_, stores)| stores.as_ref());
        let others = || {
            self.databases
                .iter()
                .filter_map(|(_, stores)| stores.as_ref())
                .flatten()
        };
        let others = || others().map(|name| StoreId::new(name)).collect::<HashSet<_>>();
        match (opened, own) {
            (Stores::All, Some(own)) => StoreSet::These(ids(own)),
            (Stores::All, None) => StoreSet::AllBut(others()),
            (Stores::These(stores), own) => {
                let elsewhere = if own.is_some() { HashSet::new() } else { others() };
                let is_here = |store: &&String| own.is_none_or(|own| own.contains(*store));
                let here = stores.iter().filter(is_here).map(|store| StoreId::new(store));
                StoreSet::These(here.filter(|store| !elsewhere.contains(store)).collect())
            }
        }
    }

    /// Finds the database of a store: the database to which the settings assign the store, otherwise the database whose
    /// tables have the store.
    pub(super) async fn of(&self, store: &StoreId) -> Result<Arc<DatabaseContext>, ApiError> {
        if let [(database, _)] = self.databases.as_slice() {
            return Ok(Arc::clone(database));
        }
        if store.is_canary() {
            let database = self
                .all()
                .find(|database| database.canary.store.as_ref() == Some(store));
            return database.map(Arc::clone).ok_or(ApiError::UnknownStore);
        }
        let said = |stores: &Option<BTreeSet<String>>| stores.as_ref().is_some_and(|all| all.contains(store.as_str()));
        if let Some((database, _)) = self.databases.iter().find(|(_, stores)| said(stores)) {
            return Ok(Arc::clone(database));
        }
        let known = self
            .found
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(store)
            .copied();
        let index = match known {
            Some(index) => index,
            None => self.ask(store).await?,
        };
        Ok(Arc::clone(&self.databases[index].0))
    }

    /// Finds the database of a store that the settings do not name. Some databases have no list of stores in the
    /// settings. Asks each of them whether its tables have this store. Returns the index of the database that has it.
    async fn ask(&self, store: &StoreId) -> Result<usize, ApiError> {
        let open: Vec<usize> = (0..self.databases.len())
            .filter(|index| self.databases[*index].1.is_none())
            .collect();
        let queries = open
            .iter()
            .map(|index| store::is_known(&self.databases[*index].0.hub.token_pool, store));
        let (mut having, mut silent) = (Vec::new(), None);
        for (index, answer) in open.iter().zip(join_all(queries).await) {
            match answer {
                Ok(true) => having.push(*index),
                Ok(false) => {}
                Err(error) => silent = Some(error),
            }
        }
        match (having.as_slice(), silent) {
            ([index], None) => {
                let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
                if found.len() >= MOST_FOUND {
                    found.clear();
                }
                found.insert(store.clone(), *index);
                Ok(*index)
            }
            // Another database did not respond, and may have the store, too. So the database that knows the store is
            // used, but is not cached.
            ([index], Some(_)) => Ok(*index),
            ([], None) => Err(ApiError::UnknownStore),
            ([], Some(error)) => Err(ApiError::database(error)),
            (_, _) => {
                tracing::error!(%store, "several databases have this store: name it at one of them, in `databases`");
                Err(ApiError::NotReady)
            }
        }
    }
}
