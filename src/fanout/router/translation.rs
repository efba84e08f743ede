//! What the router needs beside the rows of a read.

use std::collections::HashSet;

use crate::domain::event::StoreId;
use crate::sources::Sources;
use crate::sources::changes::Lookups;

/// How the rows of a read become what partners receive.
pub struct Translation<'a> {
    /// What the rows mean.
    pub sources: &'a Sources,
    /// What was looked up in other tables.
    pub lookups: &'a Lookups,
    /// The stores for whose orders that was done; `None`: no source needs it.
    pub looked_up: Option<HashSet<StoreId>>,
}

impl Translation<'_> {
    /// Whether this store's orders were looked up, or need not be.
    pub(super) fn covers(&self, store: &StoreId) -> bool {
        self.looked_up.as_ref().is_none_or(|stores| stores.contains(store))
    }
}

/// A session has come for a store whose orders were not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newcomer;
