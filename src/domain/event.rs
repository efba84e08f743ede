//! Events: the rows of the journal as the engine reads them, and the events for partners that are made of these rows.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use time::OffsetDateTime;

use super::Subject;
use super::status::Status;
use super::wire_time::WireTime;

/// The id of a store. Always text, whatever type the key has in the shop's tables.
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

/// The id of an event. Later changes of one order have greater ids; between orders the id implies no sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub i64);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A transaction id of the database, 64 bits: it never wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u64);

/// The id of a source: `vst_source.id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub i32);

/// Identifies an order or booking across sources: several sources may have the same key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectId {
    /// The source that has the row.
    pub source: SourceId,
    /// The row's key, as text.
    pub key: Arc<str>,
}

impl fmt::Display for SubjectId {
    /// The form in the engine's tables: `1 c0ffee`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source.0, self.key)
    }
}

impl SubjectId {
    /// Parses what `Display` has written.
    pub fn from_text(text: &str) -> Option<Self> {
        let (source, key) = text.split_once(' ')?;
        Some(Self {
            source: SourceId(source.parse().ok()?),
            key: key.into(),
        })
    }
}

/// The kind of write.
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
    /// All kinds, each at the index of its number.
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

    /// The kind with this name; `None` for an unknown name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// A row of the journal.
#[derive(Debug, Clone)]
pub struct JournalEvent {
    /// Its id.
    pub id: EventId,
    /// The transaction that wrote the row.
    pub xid: Xid,
    /// The store; `None`: the shop's row had none, and nobody receives the event.
    pub store: Option<StoreId>,
    /// When the row was written, by the database's clock.
    pub at: OffsetDateTime,
    /// The content.
    pub body: Body,
}

/// The content of a journal row.
#[derive(Debug, Clone)]
pub enum Body {
    /// A shop's write to a source.
    Write(RowWrite),
    /// An event of the engine: its type, and the payload as JSON text.
    Engine(EventType, String),
}

/// A write of a shop's row, as the trigger recorded it.
#[derive(Debug, Clone)]
pub struct RowWrite {
    /// The source.
    pub source: SourceId,
    /// The row's key; `None`: the value is null, or the column no longer exists.
    pub key: Option<Arc<str>>,
    /// The kind of write.
    pub write: Write,
    /// The recorded columns, a JSON object; for a delete, the values before it.
    pub data: String,
    /// The columns before an update; `None` for other writes.
    pub old: Option<String>,
    /// Who pressed a button to make the write, and the promise: `{"by","minutes","reason"}`; `None`: no button.
    pub answer: Option<String>,
}

/// The type of an event for partners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// An order became visible: it waits for an answer, or is already in preparation.
    NewOrder,
    /// The status of an order changed.
    OrderStatusChanged,
    /// An order was cancelled.
    OrderCancelled,
    /// A field that a kitchen sees changed, but not the status.
    OrderChanged,
    /// An order was deleted, hidden, or moved to another store.
    OrderRemoved,
    /// A booking became visible.
    NewBooking,
    /// The status of a booking changed.
    BookingStatusChanged,
    /// A booking was cancelled.
    BookingCancelled,
    /// A field that people see of a booking changed, but not the status.
    BookingChanged,
    /// A booking was deleted, hidden, or moved to another store.
    BookingRemoved,
    /// Nobody has answered an order in time: panels ring again.
    OrderUnanswered,
    /// A chat of the store no longer accepts messages.
    ChatDisabled,
    /// The store pauses new orders, or changes the end of its pause.
    StorePaused,
    /// The store accepts orders again.
    StoreResumed,
    /// The store is out of an item, or the time for which it is out of it changed.
    ItemOutOfStock,
    /// The store has an item again.
    ItemInStock,
}

impl EventType {
    /// All types, each at the index of its number.
    pub const ALL: [Self; 16] = [
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
        Self::ItemOutOfStock,
        Self::ItemInStock,
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
            Self::ItemOutOfStock => "item_out_of_stock",
            Self::ItemInStock => "item_in_stock",
        }
    }

    /// The type with this name; `None` for an unknown name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// An event as a partner receives it. It summarizes the journal rows that one transaction wrote about one order.
#[derive(Debug, Clone)]
pub struct PartnerEvent {
    /// The id of the last of these rows.
    pub id: EventId,
    /// The transaction of these rows.
    pub xid: Xid,
    /// The store that receives it.
    pub store: StoreId,
    /// When the last row was written, by the database's clock.
    pub at: OffsetDateTime,
    /// The type.
    pub kind: EventType,
    /// The order or booking after the event; `None`: the event concerns neither.
    pub subject: Option<Arc<Subject>>,
    /// The previous status; `None`: people did not see one.
    pub previous: Option<Status>,
    /// The fields that changed, by their names on the wire.
    pub changed: Vec<&'static str>,
    /// The order or booking before a change of fields; `None` for other events.
    pub before: Option<Arc<Subject>>,
    /// The payload as JSON text.
    pub data: String,
}

/// Whether an event is sent live, or as a replay to a client that reconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Sent as it happens.
    Live,
    /// Read from the journal; marked `"replayed":true`.
    Replayed,
}

/// Approximate memory of an event without its payload and its store id, bytes.
const EVENT_OVERHEAD_BYTES: usize = 200;

impl JournalEvent {
    /// Approximate memory of the event, bytes.
    pub fn weight(&self) -> usize {
        EVENT_OVERHEAD_BYTES + self.payload_bytes()
    }

    /// Whether this row and the next one belong to one transaction and one order: they become one event.
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

    /// Size of the content, bytes.
    pub fn payload_bytes(&self) -> usize {
        match &self.body {
            Body::Write(write) => write.data.len() + write.old.as_ref().map_or(0, String::len),
            Body::Engine(_, data) => data.len(),
        }
    }
}

impl PartnerEvent {
    /// Whether the event concerns an order or booking that still needed work.
    pub fn concerns_open(&self) -> bool {
        let is = self.subject.as_ref().and_then(|subject| subject.visible_status());
        is.or(self.previous).is_some_and(Status::is_open) || self.previous.is_some_and(Status::is_open)
    }

    /// The JSON that a partner receives:
    /// `{"type":..,"id":"91","cursor":..,"store_id":"7","at":"2026-11-23T20:00:00.123Z","data":{..}}`.
    pub fn to_wire(&self, cursor: &str, delivery: Delivery) -> String {
        self.wire(Some(cursor), delivery)
    }

    /// The same without a cursor, for a client that asks for this event.
    pub fn to_wire_alone(&self) -> String {
        self.wire(None, Delivery::Live)
    }

    fn wire(&self, cursor: Option<&str>, delivery: Delivery) -> String {
        let mut text = String::with_capacity(self.data.len() + cursor.map_or(0, str::len) + 160);
        // Writing to a String cannot fail.
        let _ = write!(text, r#"{{"type":"{}","id":"{}","#, self.kind.as_str(), self.id);
        if let Some(cursor) = cursor {
            let _ = write!(text, r#""cursor":"{cursor}","#);
        }
        let _ = write!(
            text,
            r#""store_id":{},"at":"{}","#,
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
