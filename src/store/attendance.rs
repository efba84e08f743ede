//! Two settings of a store: who must be reachable for its orders, and when unanswered orders are escalated (sent to
//! further people).

/// Who must be reachable while a store is open. If nobody is reachable, the store's chats get an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttendedBy {
    /// A panel that can ring must be open.
    Panel,
    /// It is enough that the store's chats get its orders.
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

/// When unanswered orders of a store are escalated, which means that further people get them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escalates {
    /// Orders are escalated while the store is open. If an order arrives while the store is closed, its escalation
    /// begins when the store opens. A store without opening hours always counts as open.
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
