//! A journal event for which deliveries are to be enqueued.

use crate::domain::event::PartnerEvent;

/// An event of an order or booking that may concern a chat.
pub(super) struct DueEvent {
    pub event: PartnerEvent,
    /// The event's order or booking as text, as the engine's tables store it: source id and key.
    pub subject: String,
    /// Whether its deliveries are sent first: a new order, or an event for which a kitchen must stop.
    pub is_urgent: bool,
    /// Whether the event was too old when it was enqueued. Then a digest (one message for many events) lists it.
    pub is_stale: bool,
    /// Whether only chats get the event that already have a message of this order.
    pub is_for_those_who_know: bool,
}
