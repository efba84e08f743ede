//! Holds the results of look-ups: data about orders from other tables, such as the items of the orders. The module
//! `lookup` fills in the results. The modules `changes` and `translate` use them.

use std::collections::HashMap;

use super::lookup_parts::{Part, Parts};
use super::lookup_query::Found;
use super::overwritten_answer::OverwrittenAnswer;
use crate::domain::event::{EventId, SourceId, SubjectId};

/// The results of look-ups for the orders in some journal rows. A look-up reads data of an order from other tables,
/// such as the table of items.
#[derive(Debug, Default)]
pub struct Lookups {
    found: HashMap<SubjectId, String>,
    failed: HashMap<SourceId, Parts>,
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
    /// Adds the results of a source's look-up. Returns the parts that failed, with the error of each.
    pub fn extend(&mut self, source: SourceId, found: Found) -> Vec<(Part, tokio_postgres::Error)> {
        let orders = found.orders.into_iter().map(|(key, found)| {
            let key = key.into();
            (SubjectId { source, key }, found)
        });
        self.found.extend(orders);
        self.fail(source, found.failed.iter().map(|(part, _)| *part).collect());
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

    /// The look-up's result for this order.
    pub fn get(&self, subject: &SubjectId) -> LookupResult<'_> {
        let found = self.found.get(subject).map(String::as_str);
        match (found, self.failed.get(&subject.source)) {
            (found, Some(failed)) => LookupResult::Incomplete {
                found: found.unwrap_or("{}"),
                failed: *failed,
            },
            (Some(found), None) => LookupResult::Found(found),
            (None, None) => LookupResult::Nothing,
        }
    }
}
