//! The data with which the router translates rows of the journal into the events that clients receive.

use std::collections::HashSet;

use crate::domain::event::StoreId;
use crate::sources::Sources;
use crate::sources::lookup_results::Lookups;

/// The data with which the router translates the rows of one read of the journal.
pub struct Translation<'a> {
    /// The sources with their mappings.
    pub sources: &'a Sources,
    /// Values of orders that the feed has looked up in other tables of the shop, such as an order's items.
    pub lookups: &'a Lookups,
    /// The stores for whose orders the feed has looked up values. `None`: no source needs a look-up.
    pub looked_up: Option<HashSet<StoreId>>,
}

impl Translation<'_> {
    /// Whether rows of this store can be translated: the feed has looked up values for the store, or no source needs a
    /// look-up.
    pub(super) fn covers(&self, store: &StoreId) -> bool {
        self.looked_up.as_ref().is_none_or(|stores| stores.contains(store))
    }
}

/// The error if a store got its first session after the feed had looked up values for a batch. The look-up did not
/// include this store's orders, so their items are missing. The router publishes nothing, and the feed must look up
/// values again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotLookedUp;
