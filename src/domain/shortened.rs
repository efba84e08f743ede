//! Shortens events that are too large for a client: leaves out their large parts, and adds the path of the whole event.
//! Otherwise a client that cannot receive a large event would lose its session after each reconnect.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::event::PartnerEvent;

/// JSON members of the payload that are never left out. They tell a client which order the event is about, and what
/// happened to it.
const KEPT: [&str; 10] = [
    "order_ids",
    "order_id",
    "booking_id",
    "source",
    "status",
    "previous_status",
    "next",
    "changed",
    "event_id",
    "by",
];
/// JSON members of the payload that are usually large, in the order in which they are left out. If this is not enough,
/// other members are left out, the largest first.
const LARGE: [&str; 4] = ["items", "extra", "unreadable", "comment"];
/// Bytes of a JSON member besides its name and its value: quotes, colon and comma.
const MEMBER_BYTES: usize = 4;

impl PartnerEvent {
    /// Leaves out JSON members of the payload until the payload has at most `max_bytes`. Then adds the member `omitted`
    /// with the names of the left-out members, and the member `whole` with the path of the whole event.
    pub fn shorten(&mut self, max_bytes: usize) {
        if self.data.len() <= max_bytes {
            return;
        }
        let Ok(mut data) = serde_json::from_str::<Map<String, Value>>(&self.data) else {
            return;
        };
        let store = utf8_percent_encode(self.store.as_str(), NON_ALPHANUMERIC);
        let whole = format!("/api/partner/stores/{store}/events/{}", self.id);
        let mark = json!({"omitted": [], "whole": whole}).to_string().len();
        let mut bytes = self.data.len() + mark;
        let mut omitted = Vec::new();
        for (name, size) in parts(&data) {
            if bytes <= max_bytes {
                break;
            }
            data.remove(&name);
            // `omitted` gets the name of the part, so add the length of the name.
            bytes = bytes.saturating_sub(size).saturating_add(name.len() + MEMBER_BYTES);
            omitted.push(name);
        }
        data.insert("omitted".into(), json!(omitted));
        data.insert("whole".into(), json!(whole));
        self.data = Value::Object(data).to_string();
    }
}

/// Returns the name and the size (bytes) of each JSON member that may be left out, in the order in which members are
/// left out.
fn parts(data: &Map<String, Value>) -> Vec<(String, usize)> {
    let rank = |name: &str| LARGE.iter().position(|large| *large == name).unwrap_or(LARGE.len());
    let parts = data.iter().filter(|(name, _)| !KEPT.contains(&name.as_str()));
    let mut parts: Vec<(String, usize)> = parts
        .map(|(name, value)| (name.clone(), name.len() + value.to_string().len() + MEMBER_BYTES))
        .collect();
    parts.sort_by_key(|(name, size)| (rank(name), std::cmp::Reverse(*size)));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{EventId, EventType, StoreId, Xid};
    use proptest::prelude::*;

    fn event(data: &Value) -> PartnerEvent {
        PartnerEvent {
            id: EventId(91),
            xid: Xid(1),
            store: StoreId::new("a/7"),
            kind: EventType::NewOrder,
            at: time::OffsetDateTime::UNIX_EPOCH,
            subject: None,
            previous: None,
            changed: Vec::new(),
            before: None,
            data: data.to_string(),
        }
    }

    #[test]
    fn an_event_that_fits_is_whole() {
        let data = json!({"order_id": "1", "items": ["x"], "comment": "y"});
        let mut told = event(&data);
        told.shorten(told.data.len());
        assert_eq!(told.data, data.to_string());
    }

    #[test]
    fn only_what_is_too_much_is_left_out() {
        let long = "ж".repeat(500);
        let mut told = event(&json!({"order_id": "1", "number": "5", "comment": long, "items": [long], "total": 7}));
        told.shorten(1300);
        let data: Value = serde_json::from_str(&told.data).unwrap();
        let expected = json!({"order_id": "1", "number": "5", "comment": long, "total": 7, "omitted": ["items"],
            "whole": "/api/partner/stores/a%2F7/events/91"});
        assert_eq!(data, expected);
        // The large field may have any name.
        let mut told = event(&json!({"order_id": "1", "number": long, "total": 7}));
        told.shorten(200);
        let data: Value = serde_json::from_str(&told.data).unwrap();
        assert_eq!((&data["omitted"], &data["total"]), (&json!(["number"]), &json!(7)));
    }

    proptest! {
        #[test]
        fn a_shortened_event_has_its_size_and_its_head(
            sizes in proptest::collection::vec(0_usize..3000, 1..12),
            max_bytes in 600_usize..4000,
        ) {
            let mut data = json!({"order_id": "1", "source": "orders", "status": "pending"});
            for (index, size) in sizes.iter().enumerate() {
                let name = LARGE.get(index).map_or_else(|| format!("field_{index}"), |name| (*name).to_owned());
                data[name] = json!("x".repeat(*size));
            }
            let mut told = event(&data);
            told.shorten(max_bytes);
            prop_assert!(told.data.len() <= max_bytes, "{} of {max_bytes}", told.data.len());
            let short: Value = serde_json::from_str(&told.data).unwrap();
            for name in ["order_id", "source", "status"] {
                prop_assert_eq!(&short[name], &data[name]);
            }
            for name in short["omitted"].as_array().into_iter().flatten() {
                prop_assert!(short.get(name.as_str().unwrap()).is_none());
            }
        }
    }
}
