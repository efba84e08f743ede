//! The set of stores whose events a stream or a page contains.

use std::collections::HashSet;

use super::event::StoreId;

/// Some stores of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSet {
    /// One store.
    One(StoreId),
    /// Several stores.
    These(HashSet<StoreId>),
    /// Every store of the database, except the stores in this set. The settings assign these stores to another
    /// database.
    AllBut(HashSet<StoreId>),
}

impl StoreSet {
    /// Whether the set contains this store. The sets `These` and `AllBut` never contain the store of a canary
    /// (self-test).
    pub fn has(&self, store: &StoreId) -> bool {
        match self {
            Self::One(one) => one == store,
            Self::These(stores) => stores.contains(store) && !store.is_canary(),
            Self::AllBut(stores) => !stores.contains(store) && !store.is_canary(),
        }
    }
}
