//! Holds the results of look-ups: data about orders from other tables, such as the items of the orders. The module
//! `lookup` fills in the results. The modules `changes` and `translate` use them.

use std::collections::{HashMap, HashSet};

use super::overwritten_answer::OverwrittenAnswer;
use crate::domain::event::{EventId, SourceId, SubjectId};

/// The results of look-ups for the orders in some journal rows. A look-up reads data of an order from other tables,
/// such as the table of items.
#[derive(Debug, Default)]
pub struct Lookups {
    found: HashMap<SubjectId, String>,
    failed: HashSet<SourceId>,
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
    /// The look-up failed. Clients receive the order with its items marked as unreadable.
    Failed,
}

impl Lookups {
    /// Adds the results of a source's look-up. `found` maps the key of each order to the found data, a JSON object.
    pub fn extend(&mut self, source: SourceId, found: HashMap<String, String>) {
        let found = found.into_iter().map(|(key, found)| {
            let key = key.into();
            (SubjectId { source, key }, found)
        });
        self.found.extend(found);
    }

    /// Marks all look-ups of this source as failed. Clients then receive its orders with unreadable items.
    pub fn fail(&mut self, source: SourceId) {
        self.failed.insert(source);
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

    /// The look-up's result for this order.
    pub fn get(&self, subject: &SubjectId) -> LookupResult<'_> {
        match self.found.get(subject) {
            Some(found) => LookupResult::Found(found),
            None if self.failed.contains(&subject.source) => LookupResult::Failed,
            None => LookupResult::Nothing,
        }
    }
}
