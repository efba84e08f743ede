//! The kinds of messages to a chat: an order, a digest, a note, an alarm, an answer, or buttons.

use std::time::Duration;

use super::event_view::{Item, Told};
use crate::domain::event::EventType;

/// A button: its label, and the data that a press sends back, up to 64 bytes.
pub type Button = (String, String);

/// The language, time zone and sound of a store's messages in a chat.
#[derive(Debug, Clone)]
pub struct Style {
    /// The store.
    pub store: String,
    /// The store's display name; `None`: it has none.
    pub store_name: Option<String>,
    /// The IANA name of its time zone.
    pub time_zone: String,
    /// The code of the chat's language.
    pub language: String,
    /// Whether the chat wants no sound now.
    pub muted: bool,
}

/// The message of one order or booking in one chat.
#[derive(Debug)]
pub struct Subject {
    /// The message's language, time zone and sound.
    pub style: Style,
    /// The source's id and the key: `1 123`.
    pub subject: String,
    /// The event that the message shows: the new order where it is known, otherwise the newest change.
    pub base: Told,
    /// The newest event: the current state.
    pub latest: Told,
    /// The person who pressed a button for the newest event; `None`: no button.
    pub by: Option<String>,
    /// The sent message to edit; `None`: a new message.
    pub message: Option<i32>,
    /// The escalation step that brought the order here; `None`: no step did.
    pub escalated: Option<Escalated>,
    /// Whether the message makes a sound.
    pub sounds: bool,
    /// The deliveries that the message completes.
    pub items: Vec<i64>,
}

/// Why an order that nobody answered comes to this chat.
#[derive(Debug)]
pub struct Escalated {
    /// How long the order has waited.
    pub waited: Duration,
    /// Whether the order reached a panel before.
    pub panel: bool,
    /// The titles of chats that already have the order, and the number of further ones.
    pub chats: Vec<String>,
}

/// The text of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The order is cancelled: the kitchen must stop.
    Cancelled,
    /// Nobody has answered the order yet.
    Unanswered,
    /// The order is not ready at the promised time.
    Late,
    /// A person asked for the order's message.
    Shown,
}

impl Note {
    /// All notes.
    pub const ALL: [Self; 4] = [Self::Cancelled, Self::Unanswered, Self::Late, Self::Shown];

    /// The note's name in the database and in the catalogs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Unanswered => "unanswered",
            Self::Late => "late",
            Self::Shown => "shown",
        }
    }

    /// The note with this name; `None`: no note has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|note| note.as_str() == name)
    }

    /// Whether the note makes a sound even in a chat that wants none now.
    pub fn is_heard_by_all(self) -> bool {
        self == Self::Cancelled
    }
}

/// One note, or several of a kind in one message.
#[derive(Debug)]
pub struct Noted {
    /// The message's language, time zone and sound.
    pub style: Style,
    /// The kind of the note.
    pub note: Note,
    /// The deliveries with their events, oldest first.
    pub about: Vec<Item>,
    /// The order's message to reply to; `None`: several orders, or no message.
    pub reply_to: Option<i32>,
}

/// The next message for a chat.
#[derive(Debug)]
pub enum Work {
    /// The message of one order or booking, in its current state.
    Subject(Box<Subject>),
    /// Many orders and bookings in one message.
    Digest {
        /// The digest's language, time zone and sound.
        style: Style,
        /// The events, oldest first.
        items: Vec<Item>,
        /// Deliveries of notes about these events, which the digest covers.
        notes: Vec<i64>,
        /// Whether the chat or the engine was away. Otherwise there are more events than a chat may get one by one.
        was_away: bool,
        /// Whether the digest makes a sound.
        sounds: bool,
    },
    /// A message with a sound that replies to an order's message.
    Note(Box<Noted>),
    /// An alarm: no panel of the store can ring, or the all-clear.
    Alarm {
        /// The alarm's language, time zone and sound.
        style: Style,
        /// The text of the alarm.
        alarm: Alarm,
        /// The alarm's delivery.
        item: i64,
    },
    /// An answer to a command, or news about the store.
    Reply {
        /// The text, as HTML.
        text: String,
        /// Rows of buttons below the answer.
        buttons: Vec<Vec<Button>>,
        /// Whether the answer makes a sound.
        sounds: bool,
        /// The sent message that the text replaces; `None`: a new message.
        message: Option<i32>,
        /// The answer's delivery.
        item: i64,
    },
    /// New buttons for a sent message.
    Keyboard {
        /// The message's id.
        message: i32,
        /// Rows of buttons.
        rows: Vec<Vec<Button>>,
        /// The delivery of the buttons.
        item: i64,
    },
}

/// The text of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The store is open, and no panel can ring for an order.
    Raised,
    /// A panel can ring again.
    ClearedByPanel,
    /// The store has closed.
    ClearedByClosing,
}

impl Work {
    /// The deliveries that the message completes.
    pub fn items(&self) -> Vec<i64> {
        match self {
            Self::Subject(subject) => subject.items.clone(),
            Self::Digest { items, notes, .. } => {
                items.iter().map(|item| item.id).chain(notes.iter().copied()).collect()
            }
            Self::Note(noted) => noted.about.iter().map(|item| item.id).collect(),
            Self::Alarm { item, .. } | Self::Reply { item, .. } | Self::Keyboard { item, .. } => vec![*item],
        }
    }

    /// The store's language, time zone and sound; `None`: the message belongs to no store.
    pub fn style(&self) -> Option<&Style> {
        match self {
            Self::Subject(subject) => Some(&subject.style),
            Self::Digest { style, .. } | Self::Alarm { style, .. } => Some(style),
            Self::Note(noted) => Some(&noted.style),
            Self::Reply { .. } | Self::Keyboard { .. } => None,
        }
    }

    /// Whether a new message of this kind makes no sound.
    pub fn is_silent(&self) -> bool {
        match self {
            Self::Subject(subject) => !subject.sounds,
            Self::Digest { sounds, .. } => !sounds,
            Self::Note(noted) => noted.style.muted && !noted.note.is_heard_by_all(),
            Self::Alarm { style, .. } => style.muted,
            Self::Reply { sounds, .. } => !sounds,
            Self::Keyboard { .. } => false,
        }
    }

    /// The events by which orders became new.
    pub fn new_orders(&self) -> Vec<i64> {
        let told: Vec<&Told> = match self {
            Self::Subject(subject) => vec![&subject.base, &subject.latest],
            Self::Digest { items, .. } => items.iter().map(|item| &item.event).collect(),
            Self::Note(_) | Self::Alarm { .. } | Self::Reply { .. } | Self::Keyboard { .. } => Vec::new(),
        };
        told.into_iter()
            .filter(|told| told.kind == EventType::NewOrder)
            .map(|told| told.id)
            .collect()
    }
}
