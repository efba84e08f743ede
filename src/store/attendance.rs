//! Two settings of a store. One says who must be reachable for its orders. The other says when unanswered orders are
//! escalated, which means that further people get them.

/// Who must be reachable while a store is open: a panel or a chat. If nobody is reachable, the store's chats get an
/// alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttendedBy {
    /// The store needs at least one panel that can ring.
    Panel,
    /// The store needs at least one chat that gets its orders, or one panel that can ring.
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

/// At which times a store's unanswered orders are escalated, which means that further people get them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escalates {
    /// Unanswered orders are escalated only while the store is open. If an order arrives while the store is closed, its
    /// escalation begins when the store opens. A store without opening hours always counts as open.
    Open,
    /// Unanswered orders are escalated at any time, even while the store is closed.
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
