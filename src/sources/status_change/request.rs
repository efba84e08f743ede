//! A person's request to change the status of an order.

use std::time::Duration;

use crate::domain::event::StoreId;
use crate::domain::status::{Status, SubjectKind};
use crate::token::TokenId;
use crate::token::idempotency::RequestId;

/// The channel through which a person changes the status of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerChannel {
    /// The person pressed a button of the panel.
    Panel,
    /// The person pressed a button below a message in Telegram.
    Telegram,
}

impl AnswerChannel {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Panel => "panel",
            Self::Telegram => "telegram",
        }
    }
}

/// A person's request to change the status of an order or booking.
#[derive(Debug)]
pub struct StatusChange<'a> {
    /// The id of the order's store.
    pub store: &'a StoreId,
    /// Whether the key belongs to an order or a booking.
    pub kind: SubjectKind,
    /// The name of the order's source; `None`: any source that has an order with this key.
    pub source: Option<&'a str>,
    /// The order's key, as text.
    pub key: &'a str,
    /// The requested status.
    pub to: Status,
    /// The status that the person saw. If the order has another status, the request fails, because another person was
    /// first. `None`: the order may have any status.
    pub from: Option<Status>,
    /// The person's reason, for example for a rejection. The reason is saved if the mapping has a column for reasons.
    pub reason: Option<&'a str>,
    /// The promised preparation time, in minutes.
    pub minutes: Option<i32>,
    /// The person's name, as other people see it.
    pub by: &'a str,
    /// The id of the access token with which the panel signed in. `None`: the request does not come from a panel.
    pub token: Option<TokenId>,
    /// The id of the request's idempotency key. If the client repeats the request with the same key, the status does
    /// not change a second time. `None`: the request has no such key.
    pub request: Option<RequestId>,
    /// The channel through which the person made the request.
    pub channel: AnswerChannel,
    /// The time after a status change during which a person may undo it.
    pub step_back: Duration,
}
