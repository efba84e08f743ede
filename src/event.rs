//! An event: one immutable row of the journal, and its JSON on the wire.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use time::OffsetDateTime;

/// A shop. Text, whatever type its key has in the shop's tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// A row was inserted into `orders`.
    NewOrder,
    /// The status of an order changed.
    OrderStatusChanged,
    /// An order was cancelled.
    OrderCancelled,
    /// A row was inserted into `bookings`.
    NewBooking,
    /// The status of a booking changed.
    BookingStatusChanged,
    /// A booking was cancelled.
    BookingCancelled,
    /// Nobody has answered for an order in time: ring again.
    OrderUnanswered,
    /// A chat of the store takes no messages any more.
    ChatDisabled,
}

impl EventType {
    /// All of them, each at its own number.
    pub const ALL: [Self; 8] = [
        Self::NewOrder,
        Self::OrderStatusChanged,
        Self::OrderCancelled,
        Self::NewBooking,
        Self::BookingStatusChanged,
        Self::BookingCancelled,
        Self::OrderUnanswered,
        Self::ChatDisabled,
    ];

    /// The name that the journal and the wire use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewOrder => "new_order",
            Self::OrderStatusChanged => "order_status_changed",
            Self::OrderCancelled => "order_cancelled",
            Self::NewBooking => "new_booking",
            Self::BookingStatusChanged => "booking_status_changed",
            Self::BookingCancelled => "booking_cancelled",
            Self::OrderUnanswered => "order_unanswered",
            Self::ChatDisabled => "chat_disabled",
        }
    }

    /// From the name; `None` for one that this program does not know.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// One row of the journal.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number.
    pub id: EventId,
    /// The transaction that wrote it.
    pub xid: Xid,
    /// The store that it belongs to; `None`: the shop's row had none, and nobody receives it.
    pub store: Option<StoreId>,
    /// What happened.
    pub kind: EventType,
    /// When the trigger ran, by the database's clock.
    pub at: OffsetDateTime,
    /// The payload as JSON text, passed through untouched.
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

impl Event {
    /// What it weighs in memory, bytes, roughly.
    pub fn weight(&self) -> usize {
        EVENT_OVERHEAD_BYTES + self.data.len()
    }

    /// The JSON that a partner receives:
    /// `{"type":..,"id":"91","cursor":..,"store_id":"7","at":"2026-11-23T20:00:00.123Z","data":{..}}`.
    pub fn to_wire(&self, cursor: &str, delivery: Delivery) -> String {
        let mut text = String::with_capacity(self.data.len() + cursor.len() + 160);
        let at = self.at.to_utc();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            r#"{{"type":"{}","id":"{}","cursor":"{cursor}","store_id":{},"at":"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z","#,
            self.kind.as_str(),
            self.id,
            serde_json::Value::from(self.store.as_ref().map_or("", StoreId::as_str)),
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond(),
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
        let event = Event {
            id: EventId(91),
            xid: Xid(1000),
            store: Some(StoreId::new("7\"\u{1F355}")),
            kind: EventType::NewOrder,
            at: time::macros::datetime!(2026-11-23 20:00:00.123456 UTC),
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
    }
}
