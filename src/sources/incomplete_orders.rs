//! Remembers the orders that clients received without their items or details, because the look-up failed. When the
//! look-up works again, these clients reload their lists.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::event::{SourceId, StoreId, SubjectId};

/// Maximum number of orders of a source by which the next look-up is tried.
const TRIED_ORDERS: usize = 20;

/// The stores whose clients received incomplete orders of a source, and some of these orders.
#[derive(Debug, Default)]
pub struct Incomplete {
    /// The stores.
    pub stores: HashSet<StoreId>,
    /// The keys of some of these orders.
    pub keys: Vec<Arc<str>>,
}

/// The incomplete orders of all sources of a database.
#[derive(Debug, Default)]
pub struct IncompleteOrders {
    by_source: Mutex<HashMap<SourceId, Incomplete>>,
}

impl IncompleteOrders {
    /// Remembers that clients of the store received this order without a part.
    pub fn add(&self, store: &StoreId, order: &SubjectId) {
        let mut by_source = self.by_source();
        let incomplete = by_source.entry(order.source).or_default();
        incomplete.stores.insert(store.clone());
        if incomplete.keys.len() < TRIED_ORDERS && !incomplete.keys.contains(&order.key) {
            incomplete.keys.push(Arc::clone(&order.key));
        }
    }

    /// Returns and removes all that is remembered.
    pub fn take(&self) -> HashMap<SourceId, Incomplete> {
        std::mem::take(&mut *self.by_source())
    }

    /// Puts a source back whose look-up still fails.
    pub fn put_back(&self, source: SourceId, incomplete: &Incomplete) {
        for store in &incomplete.stores {
            for key in &incomplete.keys {
                let key = Arc::clone(key);
                self.add(store, &SubjectId { source, key });
            }
        }
    }

    fn by_source(&self) -> std::sync::MutexGuard<'_, HashMap<SourceId, Incomplete>> {
        self.by_source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
