//! Decides which changes of a computed order become events, and the time of these events.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::kept_answer::Pressed;
use super::seen_orders::{Heard, SeenOrders};
use crate::domain::status::Status;

/// The time when each order was last written, by the order's key.
pub(super) type WrittenAt = BTreeMap<String, OffsetDateTime>;

/// Decides which changes of a computed order become events, and the time of these events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish<'a> {
    /// Every change becomes an event. A new pending order without items is held back until the shop writes its items.
    Usual(&'a WrittenAt),
    /// Every change becomes an event. These orders were held back before, so they are now published even without items.
    Now(&'a WrittenAt),
    /// The orders existed before the source was attached, or before its mapping or a policy changed. An order that
    /// clients can see makes no event. Another one makes an event if it is open, and either clients heard that it was
    /// removed, or nobody saw it before and it was written since the source was attached.
    Existing {
        seen: &'a SeenOrders,
        /// Whether the orders were written since the source was attached.
        is_written: bool,
        /// Set if also each change of an order that clients can see makes an event, because the triggers did not record
        /// the shop's writes. See `order_identity.rs`.
        told: Option<&'a str>,
    },
    /// A person of a store has set this status, and the mapping's statements have written it. The order gets this
    /// status, even if the shop's tables have another status.
    Answer(Pressed<'a>),
    /// A person of a store has set this status. The shop's tables have no place for it, or the shop's own API has
    /// accepted it. The order gets this status, unless the status in the shop's tables has changed meanwhile.
    Taken(Pressed<'a>),
}

impl<'a> Publish<'a> {
    /// The time when the order with this key was written. `None`: the caller uses the current time.
    pub fn at(self, key: &str) -> Option<OffsetDateTime> {
        match self {
            Self::Usual(at) | Self::Now(at) => at.get(key).copied(),
            Self::Existing { .. } | Self::Answer(..) | Self::Taken(..) => None,
        }
    }

    /// Whether the change of an order becomes an event. `is_new`: clients cannot see the order now. `status` is the
    /// status of the order now.
    pub fn tells(self, is_new: bool, (key, store): (&str, &str), status: &str) -> bool {
        let Self::Existing { seen, is_written, told } = self else {
            return true;
        };
        match seen.heard(key, store) {
            _ if !is_new => told.is_some(),
            Heard::Nothing => is_written && is_open(status),
            Heard::Seen => told.is_some() && is_open(status),
            Heard::Removed => is_open(status),
        }
    }

    /// Whether the removal of an order becomes an event. `status` is the status that clients saw last.
    pub fn tells_removal(self, status: &str) -> bool {
        match self {
            Self::Existing { told, .. } => told.is_some() && is_open(status),
            _ => true,
        }
    }

    /// The names of the values that tell one order from another with the same key, with spaces between them.
    pub fn identity(self) -> &'a str {
        match self {
            Self::Existing { told: Some(names), .. } => names,
            _ => "",
        }
    }
}

/// Whether people still work on an order with this status. Panels also ring for a status that the mapping does not know.
pub(super) fn is_open(status: &str) -> bool {
    Status::from_name(status).is_none_or(Status::is_open)
}
