//! Holds the results of look-ups: data about orders from other tables, such as the items of the orders. The module
//! `lookup` fills in the results. The modules `changes` and `translate` use them.

use std::collections::HashMap;
use std::sync::Arc;

use super::lookup_parts::Parts;
use super::lookup_query::{Failed, Found};
use super::overwritten_answer::OverwrittenAnswer;
use crate::domain::event::{EventId, SourceId, SubjectId};

/// The results of look-ups for the orders in some journal rows. A look-up reads data of an order from other tables,
/// such as the table of items.
#[derive(Debug, Default)]
pub struct Lookups {
    found: HashMap<SubjectId, String>,
    /// The parts that failed for all orders of a source.
    failed: HashMap<SourceId, Parts>,
    /// The parts that failed for single orders, because of their values.
    unread: HashMap<SubjectId, Parts>,
    /// The answers that the shop overwrote with an older status. The map's key is the id of the journal row of the
    /// shop's write.
    overwritten: HashMap<EventId, OverwrittenAnswer>,
}

/// The result of looking up one order's data in other tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupResult<'a> {
    /// The data that the look-up found, as a JSON object.
    Found(&'a str),
    /// The look-up found nothing, or the order needed no look-up.
    Nothing,
    /// Some parts of the look-up failed. Clients receive the order with these parts marked as unreadable. `found` has
    /// the data of the other parts, as a JSON object.
    Incomplete {
        /// The data of the parts that did not fail.
        found: &'a str,
        /// The parts that failed.
        failed: Parts,
    },
}

impl Lookups {
    /// Adds the results of a source's look-up. Returns what failed.
    pub fn extend(&mut self, source: SourceId, found: Found) -> Vec<Failed> {
        let id = |key: Arc<str>| SubjectId { source, key };
        let orders = found.orders.into_iter().map(|(key, found)| (id(key.into()), found));
        self.found.extend(orders);
        for Failed { part, keys, .. } in &found.failed {
            match keys {
                None => self.fail(source, [*part].into_iter().collect()),
                Some(keys) => keys.iter().for_each(|key| {
                    self.unread.entry(id(Arc::clone(key))).or_default().extend([*part]);
                }),
            }
        }
        found.failed
    }

    /// Marks these parts of the source's look-ups as failed. Clients then receive its orders with unreadable items or
    /// details.
    pub fn fail(&mut self, source: SourceId, parts: Parts) {
        if !parts.is_empty() {
            self.failed.entry(source).or_default().extend(parts.iter());
        }
    }

    /// Sets the people's answers that the shop overwrote with an older status. The map's key is the id of the journal
    /// row of the shop's write.
    pub fn set_overwritten(&mut self, overwritten: HashMap<EventId, OverwrittenAnswer>) {
        self.overwritten = overwritten;
    }

    /// The person's answer that the shop's write in this journal row overwrote. `None`: the write overwrote no answer.
    pub(super) fn overwritten_by(&self, row: EventId) -> Option<&OverwrittenAnswer> {
        self.overwritten.get(&row)
    }

    /// Whether a part failed for all orders of this source.
    pub fn has_failed(&self, source: SourceId) -> bool {
        self.failed.contains_key(&source)
    }

    /// The parts of this order that failed.
    pub fn failed(&self, subject: &SubjectId) -> Parts {
        let mut failed = self.failed.get(&subject.source).copied().unwrap_or_default();
        failed.extend(self.unread.get(subject).into_iter().flat_map(|parts| parts.iter()));
        failed
    }

    /// The look-up's result for this order.
    pub fn get(&self, subject: &SubjectId) -> LookupResult<'_> {
        let found = self.found.get(subject).map(String::as_str);
        let failed = self.failed(subject);
        match found {
            found if !failed.is_empty() => LookupResult::Incomplete {
                found: found.unwrap_or("{}"),
                failed,
            },
            Some(found) => LookupResult::Found(found),
            None => LookupResult::Nothing,
        }
    }
}
