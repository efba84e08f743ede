//! The words of a shop's statuses.

use crate::domain::status::Status;

/// The proposed meanings of the words.
#[derive(Debug, Default, Clone)]
pub struct Words {
    /// The words of each status, in the order of the table's labels.
    pub known: Vec<(Status, Vec<String>)>,
    /// The words of hidden orders.
    pub hidden: Vec<String>,
    /// Words without a known meaning, each with its number of occurrences.
    pub unknown: Vec<(String, i64)>,
    /// Whether the words are numbers or booleans in the table.
    pub is_bare: bool,
}
