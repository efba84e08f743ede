//! Who attends to the orders of a store, and when somebody is woken for them.

/// Who is to hear the orders of a store that is open: without them, there is an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttendedBy {
    /// A panel that can ring.
    Panel,
    /// The chats that get each order.
    Chats,
}

impl AttendedBy {
    /// Its name in the database and in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panel => "panel",
            Self::Chats => "chats",
        }
    }

    /// The one that has this name; `None`: none has it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Panel, Self::Chats].into_iter().find(|it| it.as_str() == name)
    }
}

/// When the orders of a store that nobody answers are escalated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escalates {
    /// While it is open; those that come while it is closed, from its opening on. A store without hours is always open.
    Open,
    /// At any time.
    Always,
}

impl Escalates {
    /// Its name in the database and in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Always => "always",
        }
    }

    /// The one that has this name; `None`: none has it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Always].into_iter().find(|it| it.as_str() == name)
    }
}
