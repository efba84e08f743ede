//! A status that a person set with a button, and that the shop's application overwrote with an old status.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::domain::event::SourceId;
use crate::domain::status::Status;

/// A person's answer to an order: the status that the person set with a button. The shop's application has overwritten
/// it with an older status.
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
