//! A journal event that may need deliveries.

use crate::domain::event::PartnerEvent;

/// An event of an order or booking that may concern a chat.
pub(super) struct DueEvent {
    pub event: PartnerEvent,
    /// The event's order or booking as the engine's tables store it: the source's id and the key, such as `1 123`.
    pub subject: String,
    /// Whether deliveries of this event are sent before less urgent ones. True for a new order or booking, a
    /// cancellation and a removal.
    pub is_urgent: bool,
    /// Whether the event was already too old for its own message when it was enqueued. If so, a digest (one message for
    /// many events) lists the event.
    pub is_stale: bool,
    /// Whether the event is sent only to chats that already have, or will soon get, a message of its order. True for a
    /// removal and for a change of fields.
    pub is_for_those_who_know: bool,
}

impl DueEvent {
    /// Whether both events are about the same order of the same store. One key may be an order of several stores.
    pub fn is_about_same(&self, other: &Self) -> bool {
        self.event.store == other.event.store && self.subject == other.subject
    }
}
