//! The payload of an event, as a message reads it. Postgres holds JSON that our parser refuses: numbers beyond a double,
//! and nesting without end. Such a value costs its field, not the event, nor the deliveries behind it.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio_postgres::types::Json;

/// Reads it; a field that cannot be read is left out, and of items it is said that they were.
pub(super) fn read(Json(data): Json<Box<RawValue>>) -> Value {
    if let Ok(data) = serde_json::from_str(data.get()) {
        return data;
    }
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(data.get()).unwrap_or_default();
    let read = |(name, value): (String, &RawValue)| match serde_json::from_str(value.get()) {
        Ok(value) => Some((name, value)),
        Err(_) if name == "items" => Some(("items_omitted".to_owned(), Value::Bool(true))),
        Err(_) => None,
    };
    Value::Object(fields.into_iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_that_cannot_be_read_costs_its_field() {
        let of = |text: &str| read(Json(RawValue::from_string(text.to_owned()).unwrap()));
        assert_eq!(
            of(r#"{"order_id": "1", "total": 5}"#),
            json!({"order_id": "1", "total": 5})
        );
        let deep = format!(
            r#"{{"order_id": "1", "items": {}{}}}"#,
            "[".repeat(400),
            "]".repeat(400)
        );
        for text in [r#"{"order_id": "1", "items": [{"quantity": 1e400}]}"#, &deep] {
            assert_eq!(of(text), json!({"order_id": "1", "items_omitted": true}), "{text}");
        }
        assert_eq!(of(r#"{"order_id": "1", "total": 1e400}"#), json!({"order_id": "1"}));
        assert_eq!(of("[1e400]"), json!({}));
    }
}
