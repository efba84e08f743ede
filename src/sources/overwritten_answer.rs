//! An answer of a person that the shop's application has written an old status over.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::domain::event::SourceId;
use crate::domain::status::Status;

/// The answer that was overwritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverwrittenAnswer {
    /// The source of its order.
    pub source: SourceId,
    /// The key of its order.
    pub key: Arc<str>,
    /// The status that the person had set.
    pub status: Status,
    /// The person.
    pub by: String,
}

impl OverwrittenAnswer {
    /// The JSON member `overwritten_answer` of an event: `{"status","by"}`.
    pub fn to_json(&self) -> Value {
        json!({"status": self.status.as_str(), "by": self.by})
    }
}
