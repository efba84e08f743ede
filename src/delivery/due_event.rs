//! An event on its way into the queue.

use crate::domain::event::PartnerEvent;

/// An event that may concern a chat.
pub(super) struct DueEvent {
    pub event: PartnerEvent,
    /// The event's order or booking, as the engine's tables store it.
    pub subject: String,
    /// Goes first: new orders, and events that a kitchen must stop for.
    pub is_urgent: bool,
    /// Too old when it was enqueued: for a digest.
    pub is_stale: bool,
    /// Only for chats that already have a message of this order.
    pub is_for_those_who_know: bool,
}
