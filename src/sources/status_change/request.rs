//! A requested change of status.

use std::time::Duration;

use crate::domain::event::StoreId;
use crate::domain::status::{Status, SubjectKind};
use crate::token::TokenId;

/// The channel of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerChannel {
    /// A panel's button.
    Panel,
    /// A button below a message.
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

/// A requested change of status.
#[derive(Debug)]
pub struct StatusChange<'a> {
    /// The store of the order.
    pub store: &'a StoreId,
    /// Order or booking.
    pub kind: SubjectKind,
    /// The source; `None`: any source that has the order.
    pub source: Option<&'a str>,
    /// Its key, as text.
    pub key: &'a str,
    /// The requested status.
    pub to: Status,
    /// The status that the person saw; if the order has another one, somebody else was first.
    pub from: Option<Status>,
    /// The reason, saved if the table has a column for it.
    pub reason: Option<&'a str>,
    /// The promised preparation time, minutes.
    pub minutes: Option<i32>,
    /// The person's name, as others see it.
    pub by: &'a str,
    /// The token's id, for a panel.
    pub token: Option<TokenId>,
    /// The channel.
    pub channel: AnswerChannel,
    /// How long after a step it may be undone.
    pub step_back: Duration,
}
