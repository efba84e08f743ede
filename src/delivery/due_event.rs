//! A journal event that may have to be enqueued for chats.

use crate::domain::event::PartnerEvent;

/// An event that may concern a chat.
pub(super) struct DueEvent {
    pub event: PartnerEvent,
    /// The event's order or booking, as the engine's tables store it.
    pub subject: String,
    /// Whether its deliveries are sent before others: new orders, and events for which a kitchen must stop.
    pub is_urgent: bool,
    /// Whether it is older than `telegram.digest_after_minutes`: it is sent in a digest.
    pub is_stale: bool,
    /// Whether only chats that already have a message of this order get it.
    pub is_for_those_who_know: bool,
}
