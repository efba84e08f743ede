//! Who attends to the orders of a store, and when orders are escalated.

/// Who must be reachable while a store is open. If nobody is, an alarm is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttendedBy {
    /// A panel that can ring.
    Panel,
    /// The chats that receive each order.
    Chats,
}

impl AttendedBy {
    /// The name in the database and in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panel => "panel",
            Self::Chats => "chats",
        }
    }

    /// The value with this name. `None`: there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Panel, Self::Chats].into_iter().find(|it| it.as_str() == name)
    }
}

/// When unanswered orders of a store are escalated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escalates {
    /// While the store is open. Orders that arrive while it is closed are escalated from its opening on. A store
    /// without hours is always open.
    Open,
    /// At any time.
    Always,
}

impl Escalates {
    /// The name in the database and in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Always => "always",
        }
    }

    /// The value with this name. `None`: there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Always].into_iter().find(|it| it.as_str() == name)
    }
}
