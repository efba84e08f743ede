//! The events that a session receives: the events of one store, or of several stores. In both cases the session has one
//! queue and one cursor.

use std::fmt;
use std::sync::Arc;

use super::{Batch, Refused, Router, RouterState, Subscriber, Subscription};
use crate::domain::event::{EventType, PartnerEvent, StoreId};
use crate::domain::store_set::StoreSet;
use crate::token::{Holder, Stores};

/// Selects the events that a session receives.
#[derive(Debug, Clone)]
pub enum Selection {
    /// All events of one store.
    Store(StoreId),
    /// Events of several stores of one database.
    Many(Arc<ManyStores>),
}

/// A selection of several stores of one database.
#[derive(Debug)]
pub struct ManyStores {
    /// The stores whose events the session receives.
    pub stores: StoreSet,
    /// The types of events that the session receives. `None`: all types.
    pub types: Option<Vec<EventType>>,
    /// If the client subscribed to all stores of its token: the stores to which the token gave access at that time.
    /// `None`: the client named each store.
    pub granted: Option<Stores>,
}

impl ManyStores {
    /// Whether the session receives events of this store and type.
    pub fn takes(&self, store: &StoreId, kind: EventType) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(&kind)) && self.stores.has(store)
    }

    /// Whether a token that gives access to the stores `opened` gives access to every store of this selection.
    pub fn is_opened_by(&self, opened: &Stores) -> bool {
        match (&self.granted, &self.stores) {
            (Some(granted), _) => granted == opened,
            (None, StoreSet::One(store)) => opened.have(store.as_str()),
            (None, StoreSet::These(stores)) => stores.iter().all(|store| opened.have(store.as_str())),
            (None, StoreSet::AllBut(_)) => *opened == Stores::All,
        }
    }
}

/// The text for the log: the store's id, or `several`.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(store) => f.write_str(store.as_str()),
            Self::Many(_) => f.write_str("several"),
        }
    }
}

impl Selection {
    /// Whether the session belongs to the self-test (canary).
    pub fn is_canary(&self) -> bool {
        matches!(self, Self::Store(store) if store.is_canary())
    }

    /// Whether the session receives events of this store.
    fn has(&self, store: &StoreId) -> bool {
        match self {
            Self::Store(own) => own == store,
            Self::Many(many) => many.stores.has(store),
        }
    }

    /// Whether the session receives events of this store and type.
    fn takes(&self, store: &StoreId, kind: EventType) -> bool {
        match self {
            Self::Store(own) => own == store,
            Self::Many(many) => many.takes(store, kind),
        }
    }

    /// Whether a token that gives access to the stores `opened` gives access to every store of this selection.
    pub fn is_opened_by(&self, opened: &Stores) -> bool {
        match self {
            Self::Store(store) => opened.have(store.as_str()),
            Self::Many(many) => many.is_opened_by(opened),
        }
    }
}

impl RouterState {
    /// The subscribers that count against the same limit of sessions as this selection. For one store, these are the
    /// store's sessions. For several stores, these are all sessions that select several stores. `None`: the selected
    /// store has no session.
    pub(super) fn group(&mut self, selection: &Selection) -> Option<&mut Vec<Subscriber>> {
        match selection {
            Selection::Store(store) => self.stores.get_mut(store),
            Selection::Many(_) => Some(&mut self.many),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Subscriber> {
        self.stores.values().flatten().chain(&self.many)
    }

    /// The subscribers that receive events of this store.
    pub(super) fn of_store<'a>(&'a self, store: &'a StoreId) -> impl Iterator<Item = &'a Subscriber> {
        let many = self.many.iter().filter(|subscriber| subscriber.selection.has(store));
        self.stores.get(store).into_iter().flatten().chain(many)
    }

    /// The subscribers that receive events of at least one of these stores. No subscriber occurs twice.
    pub(super) fn all_of<'a>(&'a self, stores: &'a [StoreId]) -> impl Iterator<Item = &'a Subscriber> {
        let of_one = stores.iter().filter_map(|store| self.stores.get(store)).flatten();
        let many = self.many.iter();
        of_one.chain(many.filter(|subscriber| stores.iter().any(|store| subscriber.selection.has(store))))
    }

    /// Whether a session on this node receives events of this store.
    pub(super) fn is_watched(&self, store: &StoreId) -> bool {
        self.stores.contains_key(store) || self.many.iter().any(|subscriber| subscriber.selection.has(store))
    }
}

impl Router {
    /// Starts a subscription to several stores. All sessions that select several stores share one limit, which is as
    /// high as the limit of one store.
    pub fn subscribe_many(self: &Arc<Self>, many: &Arc<ManyStores>, holder: Holder) -> Result<Subscription, Refused> {
        self.begin(Selection::Many(Arc::clone(many)), holder)
    }

    /// Hands the events of a read of the journal to the sessions that select several stores. The cursor `after` covers
    /// the events of all stores, so a session gets this cursor only with its last event.
    pub(super) fn hand_over_to_many(
        &self,
        inner: &mut RouterState,
        mut events: Vec<PartnerEvent>,
        before: &Arc<str>,
        after: &Arc<str>,
    ) {
        events.sort_by_key(|event| event.id);
        let mut whole = None;
        let many = inner.many.len();
        inner.many.retain(|subscriber| {
            let takes = |event: &&PartnerEvent| subscriber.selection.takes(&event.store, event.kind);
            let taken: Vec<&PartnerEvent> = events.iter().filter(takes).collect();
            if taken.is_empty() {
                return true;
            }
            // Sessions that receive all events of the read share one batch.
            let batch = match taken.len() == events.len() {
                true => whole.get_or_insert_with(|| Batch::new(&taken, before, after)).clone(),
                false => Batch::new(&taken, before, after),
            };
            self.push(subscriber, &batch)
        });
        inner.sessions -= many - inner.many.len();
    }
}
