//! The part of a mapping that says how Vestnik saves a person's answer in the shop. An answer is the status that a
//! person sets for an order with a button.

use super::Mapping;
use crate::domain::status::Status;

/// How Vestnik saves a person's answer, the new status of an order. Vestnik updates the status and further columns of
/// the order's row, or calls a function or API of the shop. A field is `None` if the section `[answer]` does not have
/// its key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The column that receives the time of a person's last answer. `None`: Vestnik does not write this time.
    pub updated_at: Option<String>,
    /// The column that receives the time when a person accepts an order. `None`: Vestnik does not write this time.
    pub accepted_at: Option<String>,
    /// The column that receives the reason that a person gives, for example for a rejection. `None`: Vestnik does not
    /// write the reason.
    pub reason: Option<String>,
    /// The column that receives the promised preparation time, in minutes. `None`: Vestnik does not write the minutes.
    pub minutes: Option<String>,
    /// The column that counts the writes of the row, which the application compares before it saves (optimistic
    /// locking). Each answer raises it by one. `None`: Vestnik does not write it.
    pub version: Option<String>,
    /// The SQL function of the shop that Vestnik calls instead of an UPDATE. The function's parameters are key, status,
    /// reason, minutes, by. `None`: the shop has no such function.
    pub function: Option<String>,
    /// The address of the shop's API. Vestnik posts the answer to this address and does not write to the table, because
    /// the shop changes the order itself. `None`: the shop has no such API.
    pub url: Option<String>,
    /// The IANA name of the zone in which Vestnik writes times of answers to `timestamp` columns without a zone.
    pub zone: String,
}

impl Answer {
    /// The columns that an answer writes beside the status. Each comes with its key in the section `[answer]`.
    pub fn columns(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("updated_at", &self.updated_at),
            ("accepted_at", &self.accepted_at),
            ("reason", &self.reason),
            ("minutes", &self.minutes),
            ("version", &self.version),
        ]
        .into_iter()
        .filter_map(|(key, column)| Some((key, column.as_deref()?)))
    }

    /// Whether a function or API of the shop changes the status. If it does, the mapping needs no words for statuses.
    pub fn has_own_words(&self) -> bool {
        self.function.is_some() || self.url.is_some()
    }
}

impl Mapping {
    /// The address of the shop's API to which Vestnik sends a person's answer with the status `to`. `None`: Vestnik
    /// itself saves the answer in the database.
    pub fn answer_url(&self, to: Status) -> Option<&str> {
        let derived = self.derived.as_ref();
        let has_statements = derived.is_some_and(|derived| derived.answers.iter().any(|(status, _)| *status == to));
        self.answer.url.as_deref().filter(|_| !has_statements)
    }
}
