//! The two lanes of a chat: new messages, and edits of sent messages. Each lane has its own pauses, and at most one
//! send under way. So neither an edit nor Telegram's status 429 (too many requests) for an edit delays a new order.

/// The id of a chat's row in `vestnik.vst_chat`. It is not the chat's id at Telegram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatId(pub i64);

/// A lane of a chat: its new messages, or its edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// New messages.
    Messages,
    /// Edits of sent messages, and of their buttons.
    Edits,
}

/// The names of the columns in `vestnik.vst_chat` that belong to one lane.
pub(super) struct Columns {
    pub next_at: &'static str,
    pub wakes_at: &'static str,
    pub leased_until: &'static str,
    pub leased_by: &'static str,
    pub fence: &'static str,
}

impl Lane {
    /// Both lanes. `queue::claim` tries them in this order.
    pub const ALL: [Self; 2] = [Self::Messages, Self::Edits];

    pub(super) fn columns(self) -> Columns {
        match self {
            Self::Messages => Columns {
                next_at: "next_at",
                wakes_at: "wakes_at",
                leased_until: "leased_until",
                leased_by: "leased_by",
                fence: "fence",
            },
            Self::Edits => Columns {
                next_at: "edit_next_at",
                wakes_at: "edit_wakes_at",
                leased_until: "edit_leased_until",
                leased_by: "edit_leased_by",
                fence: "edit_fence",
            },
        }
    }

    /// An SQL condition: the open delivery with table alias `d` belongs to this lane. A delivery belongs to the lane of
    /// edits if it changes a message that was already sent.
    pub(super) fn has(self) -> &'static str {
        match self {
            Self::Messages => {
                "d.message_id is null and (d.event_id is null or not exists (select from vestnik.vst_message m \
                     where m.chat_id = d.chat_id and m.store_id = d.store_id and m.subject = d.subject and m.message_id <> 0))"
            }
            Self::Edits => {
                "(d.message_id is not null or d.note is null and exists (select from vestnik.vst_message m \
                     where m.chat_id = d.chat_id and m.store_id = d.store_id and m.subject = d.subject and m.message_id <> 0))"
            }
        }
    }
}

/// SQL for the earliest time at which the open delivery with table alias `d` may be sent. Both the delivery and the
/// chat's link to the store may have a pause. The later end counts.
pub(super) const DUE_AT: &str = "greatest(d.due_at, (select l.blocked_until from vestnik.vst_chat_link l \
     where l.chat_id = d.chat_id and l.store_id = d.store_id))";

/// An SQL condition: no earlier open delivery of the same order has a pause now. The condition ensures that a chat gets
/// the events of an order in sequence. `d` is the table alias of the delivery.
pub(super) const IS_NEXT: &str = "not exists (select from vestnik.vst_delivery o \
     where o.chat_id = d.chat_id and o.subject = d.subject and o.store_id = d.store_id and o.id < d.id \
       and o.due_at > clock_timestamp() and o.state in ('pending', 'sending', 'retrying'))";

/// An SQL condition: the open delivery with table alias `d` may be sent now.
pub(super) fn is_due() -> String {
    format!("{DUE_AT} <= clock_timestamp() and {IS_NEXT}")
}
