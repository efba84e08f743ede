//! The stores of a stream or of a page of events.

use std::collections::HashSet;

use super::event::StoreId;

/// Stores of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSet {
    /// One store.
    One(StoreId),
    /// Several stores.
    These(HashSet<StoreId>),
    /// Every store of the database, except these: they belong to another database.
    AllBut(HashSet<StoreId>),
}

impl StoreSet {
    /// Whether the set has this store. No set of several stores has the canary's.
    pub fn has(&self, store: &StoreId) -> bool {
        match self {
            Self::One(one) => one == store,
            Self::These(stores) => stores.contains(store) && !store.is_canary(),
            Self::AllBut(stores) => !stores.contains(store) && !store.is_canary(),
        }
    }
}
