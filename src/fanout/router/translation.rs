//! The data with which the router translates journal rows to the events that clients receive.

use std::collections::HashSet;

use crate::domain::event::StoreId;
use crate::sources::Sources;
use crate::sources::lookup_results::Lookups;

/// The data for the translation of a read's rows.
pub struct Translation<'a> {
    /// The sources with their mappings.
    pub sources: &'a Sources,
    /// Values of the orders that were looked up in other tables of the shop, such as items.
    pub lookups: &'a Lookups,
    /// The stores for which values were looked up. `None`: no source needs a look-up.
    pub looked_up: Option<HashSet<StoreId>>,
}

impl Translation<'_> {
    /// Whether this store's rows can be translated: its values were looked up, or no source needs a look-up.
    pub(super) fn covers(&self, store: &StoreId) -> bool {
        self.looked_up.as_ref().is_none_or(|stores| stores.contains(store))
    }
}

/// A store got its first session after the feed had looked up values for the other stores of a batch. The items of this
/// store's orders are missing, so the router publishes nothing of the batch. The feed must look up and publish again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotLookedUp;
