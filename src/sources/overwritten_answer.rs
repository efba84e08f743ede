//! An overwritten answer: a person set a status with a button, and the shop's application then replaced this status
//! with an older one.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::domain::event::SourceId;
use crate::domain::status::Status;

/// An overwritten answer to an order. A person set a status with a button, and the shop's application then replaced
/// this status with an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverwrittenAnswer {
    /// The id of the order's source, an attached table.
    pub source: SourceId,
    /// The key of the order.
    pub key: Arc<str>,
    /// The status that the person set.
    pub status: Status,
    /// The name of the person who set the status.
    pub by: String,
}

impl OverwrittenAnswer {
    /// The answer as clients receive it in an event: a JSON object with the status and the person's name.
    pub fn to_json(&self) -> Value {
        json!({"status": self.status.as_str(), "by": self.by})
    }
}
