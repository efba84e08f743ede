//! The state that the router protects with its lock: the sessions of each store, and the cursor that covers the
//! published events.

use std::collections::HashMap;
use std::sync::Arc;

use super::End;
use super::event_cache::EventCache;
use super::selection::Selection;
use super::session_queue::SessionQueue;
use crate::domain::cursor::Epoch;
use crate::domain::event::{JournalEvent, StoreId};
use crate::token::Holder;

/// A session that the router hands events to.
pub(super) struct Subscriber {
    pub(super) number: u64,
    pub(super) holder: Holder,
    pub(super) link: Arc<SessionQueue>,
    pub(super) selection: Selection,
}

/// The sessions of a router, and the cursor up to which it has published. The router locks this state while it
/// publishes.
pub(super) struct RouterState {
    /// The sessions that receive events of one store only, grouped by this store.
    pub(super) stores: HashMap<StoreId, Vec<Subscriber>>,
    /// The sessions that receive events of several stores.
    pub(super) many: Vec<Subscriber>,
    /// The epoch of the database, and the cursor that covers all published events. `None`: the feed has not started
    /// yet.
    pub(super) reached: Option<(Epoch, Arc<str>)>,
    pub(super) recent: EventCache,
    pub(super) next_number: u64,
    pub(super) sessions: usize,
    pub(super) draining: bool,
    /// Whether the node's data is stale: its last read of the journal is too long ago.
    pub(super) stale: bool,
}

impl RouterState {
    /// Groups the events by store. Leaves out events of stores without a session on this node.
    pub(super) fn by_store<'a>(&self, events: &'a [JournalEvent]) -> Vec<(&'a StoreId, Vec<&'a JournalEvent>)> {
        let mut by_store: Vec<(&StoreId, Vec<&JournalEvent>)> = Vec::new();
        let mut places: HashMap<&StoreId, usize> = HashMap::new();
        for event in events {
            let Some(store) = event.store.as_ref() else { continue };
            match by_store.last_mut() {
                // Consecutive events usually belong to one store, so no look-up is needed.
                Some((last, events)) if *last == store => events.push(event),
                _ if !self.is_watched(store) => {}
                _ => {
                    let place = *places.entry(store).or_insert(by_store.len());
                    match by_store.get_mut(place) {
                        Some((_, events)) => events.push(event),
                        None => by_store.push((store, vec![event])),
                    }
                }
            }
        }
        by_store
    }

    pub(super) fn release_all(&mut self) {
        self.all().for_each(|subscriber| subscriber.link.end(End::Draining));
        self.stores.clear();
        self.many.clear();
        self.sessions = 0;
    }
}
