//! Events. A journal event is a row of the journal. One or several such rows are translated into a partner event, which
//! the people of a store receive.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use time::OffsetDateTime;

use super::Subject;
use super::status::Status;
use super::wire_time::WireTime;

/// The prefix of the store ids of canaries (self-tests of a node). It does not begin with `vst_`, so that nobody
/// mistakes such an id for a token.
const CANARY_PREFIX: &str = "vestnik-canary-";

/// The id of a store. It is text, even if the shop's tables use numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(Arc<str>);

impl StoreId {
    /// Creates the id from its text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The store id of a canary (self-test). `name` is random, because each database of a node has its own canary.
    pub fn of_canary(name: &str) -> Self {
        Self(format!("{CANARY_PREFIX}{name}").into())
    }

    /// Whether this is the store of a canary (self-test of a node). No client may read the events of such a store.
    pub fn is_canary(&self) -> bool {
        self.0.starts_with(CANARY_PREFIX)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of an event. If one order has two events, the later event has the greater id. For events of different orders,
/// the ids do not show which event was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub i64);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The error for a text that is not the id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the id of an event, which is a number of digits only")]
pub struct InvalidEventId;

impl FromStr for EventId {
    type Err = InvalidEventId;

    /// Parses an id as the protocol writes it: digits without a sign, so that each event has only one form of its id.
    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidEventId);
        }
        text.parse().map(Self).map_err(|_| InvalidEventId)
    }
}

/// A 64-bit transaction id of Postgres. Such an id never wraps around.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u64);

/// The id of a source, which is an attached table of a shop: `vst_source.id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub i32);

impl SourceId {
    /// The source of the canaries: the table `vestnik.vst_canary`. The ids of shops' sources begin at 1.
    pub const CANARY: Self = Self(0);
}

/// The id of an order or booking within the database: the source and the key. The key alone is not enough, because rows
/// of several sources may have the same key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectId {
    /// The source that has the row of the order or booking.
    pub source: SourceId,
    /// The key of the row in the shop's table, as text.
    pub key: Arc<str>,
}

impl fmt::Display for SubjectId {
    /// Writes the source's id and the key, such as `1 c0ffee`, as the engine's tables store them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source.0, self.key)
    }
}

impl SubjectId {
    /// Parses the text that `Display` writes. `None`: the text has another form.
    pub fn from_text(text: &str) -> Option<Self> {
        let (source, key) = text.split_once(' ')?;
        Some(Self {
            source: SourceId(source.parse().ok()?),
            key: key.into(),
        })
    }
}

/// How the shop's row was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Write {
    /// The row was inserted, or was moved from another store to this store.
    Insert,
    /// The row was changed.
    Update,
    /// The row was deleted, or moved to another store.
    Delete,
    /// The whole table was emptied.
    Truncate,
}

impl Write {
    /// All kinds of writes, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Insert, Self::Update, Self::Delete, Self::Truncate];

    /// The name of this kind of write, as the journal stores it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }

    /// The kind of write with this name. `None`: no kind has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// A row of the journal: a shop's write, or an event of the engine itself.
#[derive(Debug, Clone)]
pub struct JournalEvent {
    /// The id of the event.
    pub id: EventId,
    /// The transaction that wrote the row.
    pub xid: Xid,
    /// The store that the row belongs to. `None`: the shop's row named no store, so nobody receives the event.
    pub store: Option<StoreId>,
    /// When the row was written, by the database's clock.
    pub at: OffsetDateTime,
    /// The content of the row.
    pub body: Body,
}

/// The content of a journal row.
#[derive(Debug, Clone)]
pub enum Body {
    /// A shop's write to a row of a source.
    Write(RowWrite),
    /// An event of the engine itself: its type, and its payload as JSON text.
    Engine(EventType, String),
}

/// A shop's write to a row, as the trigger recorded it.
#[derive(Debug, Clone)]
pub struct RowWrite {
    /// The source whose table was written.
    pub source: SourceId,
    /// The key of the row. `None`: the key is null, or its column does not exist any more.
    pub key: Option<Arc<str>>,
    /// The kind of write.
    pub write: Write,
    /// The recorded columns after the write, a JSON object. If the row was deleted: the recorded columns before the
    /// delete.
    pub data: String,
    /// The recorded columns before an update, a JSON object. `None`: another kind of write.
    pub old: Option<String>,
    /// The answer of a person who changed the row with a button, a JSON object: `{"by","minutes","reason"}`. `by` is
    /// the person's name; `minutes` is the promised time. `None`: no button changed the row.
    pub answer: Option<String>,
}

/// The type of an event for partners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// An order became visible. It waits for an answer, or is in preparation already.
    NewOrder,
    /// The status of an order changed.
    OrderStatusChanged,
    /// An order was cancelled.
    OrderCancelled,
    /// A field that the kitchen sees has changed in an order. The status is unchanged.
    OrderChanged,
    /// An order was deleted, hidden, or moved to another store.
    OrderRemoved,
    /// A booking became visible.
    NewBooking,
    /// The status of a booking changed.
    BookingStatusChanged,
    /// A booking was cancelled.
    BookingCancelled,
    /// A field that people see has changed in a booking. The status is unchanged.
    BookingChanged,
    /// A booking was deleted, hidden, or moved to another store.
    BookingRemoved,
    /// Nobody has answered an order in time, so panels ring again.
    OrderUnanswered,
    /// A chat of the store no longer accepts messages.
    ChatDisabled,
    /// The store pauses new orders, or changes the end of its pause.
    StorePaused,
    /// The store accepts orders again.
    StoreResumed,
    /// The store is out of an item, or now expects the item at another time.
    ItemOutOfStock,
    /// The store has an item again.
    ItemInStock,
}

impl EventType {
    /// All types, in the order of their declaration.
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

    /// The name of the type in the protocol.
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

    /// Whether the order or booking is gone: it was deleted, hidden, or moved to another store.
    pub fn is_removal(self) -> bool {
        matches!(self, Self::OrderRemoved | Self::BookingRemoved)
    }

    /// The type with this name. `None`: no type has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// An event as the people of a store receive it. It summarizes all journal rows that one transaction wrote about one
/// order.
#[derive(Debug, Clone)]
pub struct PartnerEvent {
    /// The id of the event's last journal row.
    pub id: EventId,
    /// The transaction that wrote the event's journal rows.
    pub xid: Xid,
    /// The store whose people receive the event.
    pub store: StoreId,
    /// When the event's last journal row was written, by the database's clock.
    pub at: OffsetDateTime,
    /// The type of the event.
    pub kind: EventType,
    /// The order or booking after the event. `None`: the event is not about an order or booking.
    pub subject: Option<Arc<Subject>>,
    /// The status before the event. `None`: the order or booking was new or not visible.
    pub previous: Option<Status>,
    /// The names of the changed fields in the protocol, such as `promised_minutes`. Empty: the event did not change
    /// fields.
    pub changed: Vec<&'static str>,
    /// The order or booking before the event, if the event changed fields. `None`: another type of event.
    pub before: Option<Arc<Subject>>,
    /// The payload as JSON text.
    pub data: String,
}

/// Whether an event is sent live, or as a replay to a client that missed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The event is sent when it happens.
    Live,
    /// The event is read from the journal for a client that missed it. Its JSON has `"replayed":true`.
    Replayed,
}

/// The approximate memory that an event needs besides its payload and its store id, bytes.
const EVENT_OVERHEAD_BYTES: usize = 200;

impl JournalEvent {
    /// The approximate memory that the event needs, bytes.
    pub fn weight(&self) -> usize {
        EVENT_OVERHEAD_BYTES + self.payload_bytes()
    }

    /// Whether a canary (self-test of a node) wrote the row. Statistics do not count such rows. They are deleted soon,
    /// so the feed does not check whether they are still in the journal.
    pub fn is_canary(&self) -> bool {
        self.store.as_ref().is_some_and(StoreId::is_canary)
    }

    /// The order or booking whose row was written. `None`: the engine itself wrote the event, or the row has no key.
    pub fn subject_id(&self) -> Option<SubjectId> {
        match &self.body {
            Body::Write(write) => {
                let (source, key) = (write.source, write.key.clone()?);
                Some(SubjectId { source, key })
            }
            Body::Engine(..) => None,
        }
    }

    /// The size of the event's content, bytes.
    pub fn payload_bytes(&self) -> usize {
        match &self.body {
            Body::Write(write) => write.data.len() + write.old.as_ref().map_or(0, String::len),
            Body::Engine(_, data) => data.len(),
        }
    }
}

impl PartnerEvent {
    /// Whether the order or booking was open (needed work) before the event, or is open after it.
    pub fn concerns_open(&self) -> bool {
        let is = self.subject.as_ref().and_then(|subject| subject.visible_status());
        is.or(self.previous).is_some_and(Status::is_open) || self.previous.is_some_and(Status::is_open)
    }

    /// The JSON text of the event for a client:
    /// `{"type":..,"id":"91","cursor":..,"store_id":"7","at":"2026-11-23T20:00:00.123Z","data":{..}}`.
    pub fn to_wire(&self, cursor: &str, delivery: Delivery) -> String {
        self.wire(Some(cursor), delivery)
    }

    /// The JSON text of the event without a cursor, for a client that requests only this event.
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
    fn an_event_id_is_digits_only() {
        assert_eq!("91".parse(), Ok(EventId(91)));
        for text in ["", "+91", "-91", " 91", "9.1", "0x5b", "٩١", "9223372036854775808"] {
            assert_eq!(text.parse::<EventId>(), Err(InvalidEventId), "{text}");
        }
    }

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
