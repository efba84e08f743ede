//! The kinds of messages that a chat may get: an order, a digest (one message for many events), a note, an alarm, an
//! answer to a command, or new buttons.

use std::time::Duration;

use time::OffsetDateTime;

use super::event_view::{EventView, Item};
use crate::domain::event::EventType;

/// A button: its label, and the data that Telegram returns when somebody presses the button, at most 64 bytes.
pub type Button = (String, String);

/// A button below a list of orders. A press of the button sends the message of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenButton {
    /// The id of an event of the order. The data of the button contains this id.
    pub event: i64,
    /// The button's label.
    pub label: String,
}

/// The language, the time zone and the sound of a store's messages in one chat.
#[derive(Debug, Clone)]
pub struct ChatFormat {
    /// The store's id.
    pub store: String,
    /// The store's name in the message. `None`: the message names no store.
    pub store_name: Option<String>,
    /// The IANA name of the store's time zone.
    pub time_zone: String,
    /// The language of the store's messages in this chat, such as `ru`.
    pub language: String,
    /// Whether messages make no sound in the chat now, because the chat is muted or has quiet hours.
    pub muted: bool,
}

/// The message of one order or booking in one chat.
#[derive(Debug)]
pub struct OrderMessage {
    /// The language, the time zone and the sound of the message.
    pub style: ChatFormat,
    /// The order or booking as text: the source's id and the key, such as `1 123`.
    pub subject: String,
    /// The event whose id is in the data of the buttons. In an edit, this is the event with which the message was sent.
    /// In a new message, it is the oldest event that the message covers.
    pub base: EventView,
    /// The newest event of the order. It contains the order's current state.
    pub latest: EventView,
    /// The name of the person who set the current status. `None`: nobody set it through Vestnik.
    pub by: Option<String>,
    /// The time at which the order must be ready, as the store promised. `None`: nobody has promised a time, or the
    /// order is not in preparation.
    pub promised_at: Option<OffsetDateTime>,
    /// The id of the sent message to edit. `None`: a new message.
    pub message: Option<i32>,
    /// How the order was escalated to this chat. `None`: no escalation step sent the order to this chat.
    pub escalated: Option<Escalated>,
    /// Whether the message makes a sound.
    pub sounds: bool,
    /// The ids of the deliveries that this message covers. They count as sent when the message is sent.
    pub items: Vec<i64>,
}

/// Facts about an order that nobody has answered. The message shows them if an escalation sends the order to a chat.
#[derive(Debug)]
pub struct Escalated {
    /// How long the order has waited for an answer.
    pub waited: Duration,
    /// Whether a panel has received the order.
    pub panel: bool,
    /// The titles of chats that already have the order, at most three.
    pub chats: Vec<String>,
}

/// The kind of a note. A note is a short, urgent message next to the order's own message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The order is cancelled: the kitchen must stop.
    Cancelled,
    /// Nobody has answered the order yet.
    Unanswered,
    /// The promised time has passed, and the order is not ready.
    Late,
    /// A person asked to see the order again. The note replies to the order's message, so that the person finds it.
    Shown,
}

impl Note {
    /// All kinds of notes.
    pub const ALL: [Self; 4] = [Self::Cancelled, Self::Unanswered, Self::Late, Self::Shown];

    /// The name of the kind in the database and in the catalogs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Unanswered => "unanswered",
            Self::Late => "late",
            Self::Shown => "shown",
        }
    }

    /// The kind with this name. `None`: no kind has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|note| note.as_str() == name)
    }

    /// Whether a note of this kind makes a sound even in a chat that is muted or has quiet hours.
    pub fn is_heard_by_all(self) -> bool {
        self == Self::Cancelled
    }
}

/// A message with one note, or with several notes of the same kind.
#[derive(Debug)]
pub struct Noted {
    /// The message's language, time zone and sound.
    pub style: ChatFormat,
    /// The kind of the note.
    pub note: Note,
    /// The deliveries of the notes. Each has the event that its note is about.
    pub about: Vec<Item>,
    /// The id of the order's message to which the note replies. `None`: the notes are about several orders, or the
    /// order has no message.
    pub reply_to: Option<i32>,
}

/// The next message for a chat, or the next edit of a message.
#[derive(Debug)]
pub enum Work {
    /// The message of one order or booking, in its current state.
    OrderMessage(Box<OrderMessage>),
    /// A digest: many orders and bookings in one message.
    Digest {
        /// The digest's language, time zone and sound.
        style: ChatFormat,
        /// The deliveries that the digest lists, with their events, oldest first.
        items: Vec<Item>,
        /// The ids of the deliveries of open notes about the listed orders. These notes are not sent, because the
        /// digest replaces them.
        notes: Vec<i64>,
        /// The reason why one message lists these events.
        reason: DigestReason,
        /// Whether the digest makes a sound.
        sounds: bool,
    },
    /// A note: a short message of its own about one or several orders, such as a reminder. The messages of these orders stay
    /// as they are.
    Note(Box<Noted>),
    /// An alarm because a store is open and none of its panels can ring, or a message that this alarm is over.
    Alarm {
        /// The alarm's language, time zone and sound.
        style: ChatFormat,
        /// Whether the alarm begins or is over, and why it is over.
        alarm: Alarm,
        /// The id of the alarm's delivery.
        item: i64,
    },
    /// An answer to a command, or a message about a store.
    Reply {
        /// The text, as HTML of the Bot API.
        text: String,
        /// The rows of buttons below the text.
        buttons: Vec<Vec<Button>>,
        /// Whether the message makes a sound.
        sounds: bool,
        /// The sent message that the text replaces; `None`: a new message.
        message: Option<i32>,
        /// The id of the message's delivery.
        item: i64,
    },
    /// An edit that removes buttons of a list of orders.
    ListButtons {
        /// The id of the sent list.
        message: i32,
        /// The buttons that stay in the list.
        buttons: Vec<OpenButton>,
        /// The id of the edit's delivery.
        item: i64,
    },
    /// An edit: new buttons for a sent message.
    Keyboard {
        /// The id of the sent message.
        message: i32,
        /// The rows of the new buttons.
        rows: Vec<Vec<Button>>,
        /// The id of the edit's delivery.
        item: i64,
    },
}

/// The reason for a digest, which is one message for many events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestReason {
    /// The chat took no messages at the time of the events.
    ChatWasAway,
    /// Vestnik did not run at the time of the events.
    EngineWasAway,
    /// There were too many events for separate messages.
    ManyAtOnce,
}

/// The state of an alarm, which selects its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The alarm begins: the store is open, and no panel can ring for an order.
    Raised,
    /// The alarm is over, because the store is attended again. Either a panel can ring, or a chat takes the orders of a
    /// store with the setting `attended_by = 'chats'`.
    ClearedByPanel,
    /// The alarm is over, because the store has closed.
    ClearedByClosing,
}

impl Work {
    /// The ids of the deliveries that this message covers. They count as sent when the message is sent.
    pub fn items(&self) -> Vec<i64> {
        match self {
            Self::OrderMessage(order) => order.items.clone(),
            Self::Digest { items, notes, .. } => {
                items.iter().map(|item| item.id).chain(notes.iter().copied()).collect()
            }
            Self::Note(noted) => noted.about.iter().map(|item| item.id).collect(),
            Self::Alarm { item, .. }
            | Self::Reply { item, .. }
            | Self::ListButtons { item, .. }
            | Self::Keyboard { item, .. } => vec![*item],
        }
    }

    /// The language, the time zone and the sound of the message. `None`: the message belongs to no store.
    pub fn style(&self) -> Option<&ChatFormat> {
        match self {
            Self::OrderMessage(order) => Some(&order.style),
            Self::Digest { style, .. } | Self::Alarm { style, .. } => Some(style),
            Self::Note(noted) => Some(&noted.style),
            Self::Reply { .. } | Self::ListButtons { .. } | Self::Keyboard { .. } => None,
        }
    }

    /// Whether Telegram must send this message without a sound.
    pub fn is_silent(&self) -> bool {
        match self {
            Self::OrderMessage(order) => !order.sounds,
            Self::Digest { sounds, .. } => !sounds,
            Self::Note(noted) => noted.style.muted && !noted.note.is_heard_by_all(),
            Self::Alarm { style, .. } => style.muted,
            Self::Reply { sounds, .. } => !sounds,
            Self::ListButtons { .. } | Self::Keyboard { .. } => false,
        }
    }

    /// The ids of the events of this message that announce new orders.
    pub fn new_orders(&self) -> Vec<i64> {
        let views: Vec<&EventView> = match self {
            Self::OrderMessage(order) => vec![&order.base, &order.latest],
            Self::Digest { items, .. } => items.iter().map(|item| &item.event).collect(),
            Self::Note(_)
            | Self::Alarm { .. }
            | Self::Reply { .. }
            | Self::ListButtons { .. }
            | Self::Keyboard { .. } => Vec::new(),
        };
        views
            .into_iter()
            .filter(|views| views.kind == EventType::NewOrder)
            .map(|views| views.id)
            .collect()
    }
}
