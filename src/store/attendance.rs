//! Two settings of a store: who attends to its orders, and when unanswered orders are escalated.

/// Who must be reachable while a store is open. If nobody is reachable, the store's chats get an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttendedBy {
    /// A panel that can ring must be open.
    Panel,
    /// The chats that get the store's orders are enough.
    Chats,
}

impl AttendedBy {
    /// The name of the value in the database and in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panel => "panel",
            Self::Chats => "chats",
        }
    }

    /// The value with this name. `None`: no value has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Panel, Self::Chats].into_iter().find(|it| it.as_str() == name)
    }
}

/// When unanswered orders of a store are escalated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escalates {
    /// Orders are escalated while the store is open. An order that arrives while the store is closed is escalated from
    /// the opening on. A store without hours is always open.
    Open,
    /// Orders are escalated at any time.
    Always,
}

impl Escalates {
    /// The name of the value in the database and in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Always => "always",
        }
    }

    /// The value with this name. `None`: no value has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Always].into_iter().find(|it| it.as_str() == name)
    }
}
