//! Events: the rows of the journal as they are read, and the events that partners receive, which are made of them.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use time::OffsetDateTime;

use super::Subject;
use super::status::Status;
use super::wire_time::WireTime;

/// A shop. Text, whatever type its key has in the shop's tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(Arc<str>);

impl StoreId {
    /// From the text of a key.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of an event. Later changes of one order row have greater numbers; beyond that it is only a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub i64);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A transaction of the database, 64 bits: it never wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u64);

/// The number of a source: `vst_source.id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub i32);

/// An order or booking among all: the same key may stand in several sources.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectId {
    /// The source that its row is in.
    pub source: SourceId,
    /// The row's key, as text.
    pub key: Arc<str>,
}

impl fmt::Display for SubjectId {
    /// As the engine's tables keep it: `1 c0ffee`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source.0, self.key)
    }
}

impl SubjectId {
    /// From what `Display` has written.
    pub fn from_text(text: &str) -> Option<Self> {
        let (source, key) = text.split_once(' ')?;
        Some(Self {
            source: SourceId(source.parse().ok()?),
            key: key.into(),
        })
    }
}

/// How a row was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Write {
    /// Inserted, or moved here from another store.
    Insert,
    /// Changed.
    Update,
    /// Deleted, or moved to another store.
    Delete,
    /// The table was emptied.
    Truncate,
}

impl Write {
    /// All of them, each at its own number.
    pub const ALL: [Self; 4] = [Self::Insert, Self::Update, Self::Delete, Self::Truncate];

    /// The name in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }

    /// The one that has this name; `None`: none has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// A row of the journal.
#[derive(Debug, Clone)]
pub struct JournalEvent {
    /// Its number.
    pub id: EventId,
    /// The transaction that wrote it.
    pub xid: Xid,
    /// The store that it belongs to; `None`: the shop's row had none, and nobody receives it.
    pub store: Option<StoreId>,
    /// When it was written, by the database's clock.
    pub at: OffsetDateTime,
    /// What it says.
    pub body: Body,
}

/// What a row of the journal says.
#[derive(Debug, Clone)]
pub enum Body {
    /// What a shop wrote into a source.
    Write(RowWrite),
    /// What the engine itself has to say: its type, and the payload as JSON text.
    Engine(EventType, String),
}

/// A write of a shop's row, as the trigger recorded it.
#[derive(Debug, Clone)]
pub struct RowWrite {
    /// Into which source.
    pub source: SourceId,
    /// The row's key; `None`: it has none, or its column is gone.
    pub key: Option<Arc<str>>,
    /// How.
    pub write: Write,
    /// The recorded columns, a JSON object; of a delete, as they were.
    pub data: String,
    /// Of an update: the columns before it.
    pub old: Option<String>,
    /// Who made it by a button, with what was promised: `{"by","minutes","reason"}`.
    pub answer: Option<String>,
}

/// What happened, as a partner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// An order became visible: somebody has to answer it, or it is being worked on already.
    NewOrder,
    /// The status of an order changed.
    OrderStatusChanged,
    /// An order was cancelled.
    OrderCancelled,
    /// What a kitchen sees of an order changed, but not its status.
    OrderChanged,
    /// An order is gone: deleted, hidden, or moved to another store.
    OrderRemoved,
    /// The same for bookings.
    NewBooking,
    /// The status of a booking changed.
    BookingStatusChanged,
    /// A booking was cancelled.
    BookingCancelled,
    /// What people see of a booking changed, but not its status.
    BookingChanged,
    /// A booking is gone.
    BookingRemoved,
    /// Nobody has answered an order in time: ring again.
    OrderUnanswered,
    /// A chat of the store takes no messages any more.
    ChatDisabled,
    /// The store takes no new orders for a while, or until another time than was said before.
    StorePaused,
    /// It takes orders again.
    StoreResumed,
}

impl EventType {
    /// All of them, each at its own number.
    pub const ALL: [Self; 14] = [
        Self::NewOrder,
        Self::OrderStatusChanged,
        Self::OrderCancelled,
        Self::OrderChanged,
        Self::OrderRemoved,
        Self::NewBooking,
        Self::BookingStatusChanged,
        Self::BookingCancelled,
        Self::BookingChanged,
        Self::BookingRemoved,
        Self::OrderUnanswered,
        Self::ChatDisabled,
        Self::StorePaused,
        Self::StoreResumed,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewOrder => "new_order",
            Self::OrderStatusChanged => "order_status_changed",
            Self::OrderCancelled => "order_cancelled",
            Self::OrderChanged => "order_changed",
            Self::OrderRemoved => "order_removed",
            Self::NewBooking => "new_booking",
            Self::BookingStatusChanged => "booking_status_changed",
            Self::BookingCancelled => "booking_cancelled",
            Self::BookingChanged => "booking_changed",
            Self::BookingRemoved => "booking_removed",
            Self::OrderUnanswered => "order_unanswered",
            Self::ChatDisabled => "chat_disabled",
            Self::StorePaused => "store_paused",
            Self::StoreResumed => "store_resumed",
        }
    }

    /// From the name; `None` for one that this program does not know.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// An event as a partner receives it: what became of the rows of the journal that one transaction wrote of an order.
#[derive(Debug, Clone)]
pub struct PartnerEvent {
    /// The number of the last of these rows.
    pub id: EventId,
    /// Their transaction.
    pub xid: Xid,
    /// The store that receives it.
    pub store: StoreId,
    /// When it was written, by the database's clock.
    pub at: OffsetDateTime,
    /// What happened.
    pub kind: EventType,
    /// The order or booking as it stands; `None`: the event is about none.
    pub subject: Option<Arc<Subject>>,
    /// Its status before, where people saw it.
    pub previous: Option<Status>,
    /// The fields that changed, as the wire calls them.
    pub changed: Vec<&'static str>,
    /// Of a change of fields: the order or booking before it.
    pub before: Option<Arc<Subject>>,
    /// The payload as JSON text.
    pub data: String,
}

/// Whether an event is sent as it happens, or again to one who was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As it happens.
    Live,
    /// From the journal; marked `"replayed":true`.
    Replayed,
}

/// What an event weighs in memory beside its payload and its store's name, bytes, roughly.
const EVENT_OVERHEAD_BYTES: usize = 200;

impl JournalEvent {
    /// What it weighs in memory, bytes, roughly.
    pub fn weight(&self) -> usize {
        EVENT_OVERHEAD_BYTES + self.payload_bytes()
    }

    /// Whether this and the row behind it are of one transaction and one order: they become one event.
    pub fn belongs_with(&self, next: &Self) -> bool {
        match (&self.body, &next.body) {
            (Body::Write(one), Body::Write(other)) => {
                one.key.is_some()
                    && (self.xid, &self.store, one.source, &one.key)
                        == (next.xid, &next.store, other.source, &other.key)
            }
            _ => false,
        }
    }

    /// Bytes of what it says.
    pub fn payload_bytes(&self) -> usize {
        match &self.body {
            Body::Write(write) => write.data.len() + write.old.as_ref().map_or(0, String::len),
            Body::Engine(_, data) => data.len(),
        }
    }
}

impl PartnerEvent {
    /// Whether it is news of an order or booking that people still had to do something for.
    pub fn concerns_open(&self) -> bool {
        let is = self.subject.as_ref().and_then(|subject| subject.visible_status());
        is.or(self.previous).is_some_and(Status::is_open) || self.previous.is_some_and(Status::is_open)
    }

    /// The JSON that a partner receives:
    /// `{"type":..,"id":"91","cursor":..,"store_id":"7","at":"2026-11-23T20:00:00.123Z","data":{..}}`.
    pub fn to_wire(&self, cursor: &str, delivery: Delivery) -> String {
        let mut text = String::with_capacity(self.data.len() + cursor.len() + 160);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            r#"{{"type":"{}","id":"{}","cursor":"{cursor}","store_id":{},"at":"{}","#,
            self.kind.as_str(),
            self.id,
            serde_json::Value::from(self.store.as_str()),
            WireTime(self.at),
        );
        if delivery == Delivery::Replayed {
            text.push_str(r#""replayed":true,"#);
        }
        text.push_str(r#""data":"#);
        text.push_str(&self.data);
        text.push('}');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_json_that_the_protocol_promises() {
        let event = PartnerEvent {
            id: EventId(91),
            xid: Xid(1000),
            store: StoreId::new("7\"\u{1F355}"),
            kind: EventType::NewOrder,
            at: time::macros::datetime!(2026-11-23 20:00:00.123456 UTC),
            subject: None,
            previous: None,
            changed: Vec::new(),
            before: None,
            data: r#"{"order_id": "123"}"#.into(),
        };
        let value: serde_json::Value = serde_json::from_str(&event.to_wire("abc", Delivery::Replayed)).unwrap();
        let expected = serde_json::json!({
            "type": "new_order", "id": "91", "cursor": "abc", "store_id": "7\"\u{1F355}",
            "at": "2026-11-23T20:00:00.123Z", "replayed": true, "data": {"order_id": "123"},
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn every_type_is_found_by_its_name_and_its_number() {
        for (number, kind) in EventType::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(EventType::from_name(kind.as_str()), Some(kind));
        }
        assert_eq!(EventType::from_name("new_ship"), None);
        for write in Write::ALL {
            assert_eq!(Write::from_name(write.as_str()), Some(write));
        }
    }
}
