//! How an answer reaches the shop.

use super::Mapping;
use crate::domain::status::Status;

/// The columns that a person's answer writes in addition to the status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Receives the time of each answer.
    pub updated_at: Option<String>,
    /// Receives the time of the acceptance.
    pub accepted_at: Option<String>,
    /// Receives the reason for a rejection.
    pub reason: Option<String>,
    /// Receives the promised minutes.
    pub minutes: Option<String>,
    /// The shop's own function, called instead of an UPDATE: (key, status, reason, minutes, by).
    pub function: Option<String>,
    /// The address of the shop's own API, which gets a request instead and changes the order itself.
    pub url: Option<String>,
    /// The IANA zone of timestamps without a zone.
    pub zone: String,
}

impl Answer {
    /// Whether the shop itself makes the change: then a status needs no word in the mapping.
    pub fn has_own_words(&self) -> bool {
        self.function.is_some() || self.url.is_some()
    }
}

impl Mapping {
    /// The address that gets the request for this status; `None`: Vestnik writes the answer itself.
    pub fn answer_url(&self, to: Status) -> Option<&str> {
        let derived = self.derived.as_ref();
        let has_statements = derived.is_some_and(|derived| derived.answers.iter().any(|(status, _)| *status == to));
        self.answer.url.as_deref().filter(|_| !has_statements)
    }
}
