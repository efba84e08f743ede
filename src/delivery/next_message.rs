//! What is sent to a chat: the message of an order, a digest, a note, an alarm, an answer, or buttons.

use std::time::Duration;

use super::event_view::{Item, Told};
use super::note::Noted;
use crate::domain::event::EventType;
use crate::telegram::message::Button;

/// What the messages of a store look like.
#[derive(Debug, Clone)]
pub struct Style {
    /// The store.
    pub store: String,
    /// What people call it.
    pub store_name: Option<String>,
    /// The IANA name of its time zone.
    pub time_zone: String,
    /// Of the chat.
    pub language: String,
    /// Whether the chat wants no sound now.
    pub muted: bool,
}

/// One order or booking in one chat.
#[derive(Debug)]
pub struct Subject {
    /// How.
    pub style: Style,
    /// The source's number and the key: `1 123`.
    pub subject: String,
    /// What the message tells: the new order where it is known, else the newest change.
    pub base: Told,
    /// Where it stands.
    pub latest: Told,
    /// Who brought it there by a button.
    pub by: Option<String>,
    /// The message that is there already.
    pub message: Option<i32>,
    /// How it came here, where nobody answered.
    pub escalated: Option<Escalated>,
    /// Whether it makes a sound.
    pub sounds: bool,
    /// The deliveries that it settles.
    pub items: Vec<i64>,
}

/// An order that comes to a chat because nobody answered.
#[derive(Debug)]
pub struct Escalated {
    /// How long it has waited.
    pub waited: Duration,
    /// Whether it reached a panel before.
    pub panel: bool,
    /// The chats that have it already, by their titles, and how many more.
    pub chats: Vec<String>,
}

/// What is sent to a chat next.
#[derive(Debug)]
pub enum Work {
    /// The message of one order or booking, brought to where it stands.
    Subject(Box<Subject>),
    /// Many of them in one message.
    Digest {
        /// How.
        style: Style,
        /// The oldest first.
        items: Vec<Item>,
        /// Deliveries of notes about them: the digest says it, too.
        notes: Vec<i64>,
        /// Whether the chat, or the engine, was away; otherwise there is more than a chat takes.
        was_away: bool,
        /// Whether it makes a sound.
        sounds: bool,
    },
    /// A message beside those of the orders, that sounds and leads to them.
    Note(Box<Noted>),
    /// Nobody could ring, or somebody can again.
    Alarm {
        /// How.
        style: Style,
        /// What.
        alarm: Alarm,
        /// Its delivery.
        item: i64,
    },
    /// An answer to a command, or news of the store.
    Reply {
        /// HTML.
        text: String,
        /// Rows of buttons below it.
        buttons: Vec<Vec<Button>>,
        /// Whether it makes a sound.
        sounds: bool,
        /// Its delivery.
        item: i64,
    },
    /// Other buttons below a message that is there.
    Keyboard {
        /// Its number.
        message: i32,
        /// Rows of them.
        rows: Vec<Vec<Button>>,
        /// Its delivery.
        item: i64,
    },
}

/// What an alarm says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The store is open and nobody could hear an order.
    Raised,
    /// A panel can ring again.
    ClearedByPanel,
    /// The store has closed.
    ClearedByClosing,
}

impl Work {
    /// The deliveries that it settles.
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

    /// The store that it is about, and how it looks.
    pub fn style(&self) -> Option<&Style> {
        match self {
            Self::Subject(subject) => Some(&subject.style),
            Self::Digest { style, .. } | Self::Alarm { style, .. } => Some(style),
            Self::Note(noted) => Some(&noted.style),
            Self::Reply { .. } | Self::Keyboard { .. } => None,
        }
    }

    /// Whether a new message of it makes no sound.
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

    /// The events of it by which orders became new.
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
