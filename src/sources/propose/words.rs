//! The words of a status column, grouped by their proposed meaning. `statuses.rs` collects the words, and
//! `toml_text.rs` writes them as TOML.

use crate::domain::status::Status;

/// The words of a status column, grouped by their proposed meaning.
#[derive(Debug, Default, Clone)]
pub struct ProposedWords {
    /// The words of each status. Vestnik writes the first word of a status when a person sets the status.
    pub known: Vec<(Status, Vec<String>)>,
    /// The words of hidden orders, such as carts.
    pub hidden: Vec<String>,
    /// The words without a known meaning, each with the number of rows that contain it.
    pub unknown: Vec<(String, i64)>,
    /// Whether the words are numbers or booleans, which TOML writes without quotes.
    pub is_bare: bool,
}
