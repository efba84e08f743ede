//! The router's input for the translation of journal rows.

use std::collections::HashSet;

use crate::domain::event::StoreId;
use crate::sources::Sources;
use crate::sources::changes::Lookups;

/// How the rows of a read become partner events.
pub struct Translation<'a> {
    /// The mappings of the sources.
    pub sources: &'a Sources,
    /// The rows looked up in other tables.
    pub lookups: &'a Lookups,
    /// The stores whose orders were looked up. `None`: no source needs a look-up.
    pub looked_up: Option<HashSet<StoreId>>,
}

impl Translation<'_> {
    /// Whether this store's orders were looked up, or need no look-up.
    pub(super) fn covers(&self, store: &StoreId) -> bool {
        self.looked_up.as_ref().is_none_or(|stores| stores.contains(store))
    }
}

/// A session came for a store whose orders were not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newcomer;
