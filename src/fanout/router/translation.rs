//! The data with which the router translates rows of the journal into the events that clients receive.

use std::collections::HashSet;

use crate::domain::event::StoreId;
use crate::sources::Sources;
use crate::sources::lookup_results::Lookups;

/// The data with which the router translates the rows of one read of the journal.
pub struct Translation<'a> {
    /// The sources with their mappings.
    pub sources: &'a Sources,
    /// Values that the feed has looked up in other tables of the shop, such as the items of an order.
    pub lookups: &'a Lookups,
    /// The stores whose orders `lookups` includes. `None`: no source needs a look-up.
    pub looked_up: Option<HashSet<StoreId>>,
}

impl Translation<'_> {
    /// Whether rows of this store can be translated now: the feed has looked up the values of its orders, or no source
    /// needs a look-up.
    pub(super) fn covers(&self, store: &StoreId) -> bool {
        self.looked_up.as_ref().is_none_or(|stores| stores.contains(store))
    }
}

/// The error if a store got its first session too late. Before each batch, the feed looks up values of orders, such as
/// the items, but only for stores with a session. If the session came after the look-up, these values are missing. Then
/// the router publishes nothing, and the feed must look up values again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotLookedUp;
