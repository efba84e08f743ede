//! Computes the expected results of a test. The SQL query `truth.sql` of each shop system gives the orders that a panel
//! must show. The difference between two such results gives the events that the engine must publish.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use vestnik::infra::db::Client;

use super::shop::file;

/// The expected orders of all stores, by store and key, and the names of the columns of `truth.sql`.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    orders: BTreeMap<(String, String), Value>,
    members: BTreeSet<String>,
}

/// The expected events of each store. Each event is the order's key and the event's type.
pub type Events = BTreeMap<String, BTreeSet<(String, String)>>;

impl Orders {
    pub fn new() -> Self {
        Self::default()
    }

    /// The orders of one store, by key.
    pub fn of_store(&self, store: &str) -> BTreeMap<String, Value> {
        let of_store = self.orders.iter().filter(|((of, _), _)| of == store);
        of_store.map(|((_, key), order)| (key.clone(), order.clone())).collect()
    }

    /// The names of the columns of `truth.sql`.
    pub fn members(&self) -> &BTreeSet<String> {
        &self.members
    }
}

/// Runs `truth.sql`, and returns the orders that a panel must show now.
pub async fn orders(client: &Client, system: &str) -> Orders {
    let truth = file(system, "truth.sql");
    let sql = format!(
        "select row_to_json(t)::text from ({}) t",
        truth.trim().trim_end_matches(';')
    );
    let mut all = Orders::new();
    for row in client.query(&sql, &[]).await.unwrap() {
        let row: Value = serde_json::from_str(row.get(0)).unwrap();
        all.members.extend(row.as_object().unwrap().keys().cloned());
        let text = |name: &str| match &row[name] {
            Value::String(text) => text.clone(),
            Value::Null => "1".to_owned(),
            other => other.to_string(),
        };
        if row["status"] != "hidden" {
            all.orders.insert((text("store"), text("key")), canonical(&row, system));
        }
    }
    all
}

/// Converts a row of `truth.sql` to the field names and units of the HTTP API.
fn canonical(row: &Value, system: &str) -> Value {
    let minor = matches!(system, "coopcycle" | "vendure");
    let money = |value: &Value| {
        value
            .as_f64()
            .map(|amount| if minor { amount } else { (amount * 100.0).round() })
    };
    let mut order = Map::new();
    for (name, value) in row.as_object().unwrap() {
        let value = match name.as_str() {
            "key" | "store" | "zone" => continue,
            "number" | "customer" | "phone" | "address" | "note" | "payment" | "reason" | "currency" | "status"
            | "due_text" => text(value),
            "order_type" if system == "odoo-pos" => match value.as_str() {
                Some("table") => "dine_in".into(),
                Some("counter") => "pickup".into(),
                _ => value.clone(),
            },
            "order_type" => text(value),
            "total" => json!(money(value)),
            "due" => moment(value),
            "paid" => json!(value.as_bool().unwrap_or(false)),
            "persons" => json!(value.as_f64()),
            "items" => items(value, |item| {
                let note = if item["producer"].is_null() {
                    &item["note"]
                } else {
                    &item["producer"]
                };
                (
                    &item["name"],
                    &item["quantity"],
                    money(&item["price"]),
                    &item["options"],
                    note,
                )
            }),
            other => panic!("{other} of {system}"),
        };
        order.insert(name.clone(), value);
    }
    // If the row has no currency, the store's currency applies.
    if order.get("currency") == Some(&Value::Null) {
        order.insert("currency".into(), "RUB".into());
    }
    Value::Object(order)
}

/// Reduces an order from the HTTP API's list to the fields that `truth.sql` has, so that both can be compared.
pub fn of_list(row: &Value, members: &BTreeSet<String>) -> Value {
    let mut order = Map::new();
    for name in members {
        let value = match name.as_str() {
            "key" | "store" | "zone" => continue,
            "number" | "phone" | "address" | "reason" | "currency" | "status" | "order_type" => text(&row[name]),
            "customer" => text(&row["customer_name"]),
            "note" => text(&row["comment"]),
            "payment" => text(&row["payment"]["method"]),
            "total" => json!(row["total"].as_f64()),
            "due" => moment(&row["due_at"]),
            "due_text" => text(&row["extra"][0]["value"]),
            "paid" => json!(row["payment"]["paid"].as_bool().unwrap_or(false)),
            "persons" => json!(row["persons"].as_f64()),
            "items" => items(&row["items"], |item| {
                (
                    &item["name"],
                    &item["quantity"],
                    item["price"].as_f64(),
                    &item["options"],
                    &item["note"],
                )
            }),
            other => panic!("{other}"),
        };
        order.insert(name.clone(), value);
    }
    if let Some(unreadable) = row.get("unreadable") {
        order.insert("unreadable".into(), unreadable.clone());
    }
    Value::Object(order)
}

/// Converts a number to text, and an empty text to null, so that values of `truth.sql` and of the list can be compared.
fn text(value: &Value) -> Value {
    match value {
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::Number(number) => number.to_string().into(),
        other => other.clone(),
    }
}

fn moment(value: &Value) -> Value {
    let at = value
        .as_str()
        .map(|text| OffsetDateTime::parse(text, &Rfc3339).unwrap().unix_timestamp());
    json!(at)
}

fn items<'a>(
    items: &'a Value,
    of: impl Fn(&'a Value) -> (&'a Value, &'a Value, Option<f64>, &'a Value, &'a Value),
) -> Value {
    let mut all: Vec<Value> = Vec::new();
    for item in items.as_array().into_iter().flatten() {
        let (name, quantity, price, options, note) = of(item);
        let options = options.as_array().cloned().unwrap_or_default();
        all.push(json!([name, quantity.as_f64(), price, options, text(note)]));
    }
    all.sort_by_key(Value::to_string);
    Value::Array(all)
}

/// The events that the engine must publish when the orders change from `before` to `now`.
pub fn events(before: &Orders, now: &Orders) -> Events {
    let mut events = Events::new();
    let mut tell = |(store, key): &(String, String), kind: &str| {
        events
            .entry(store.clone())
            .or_default()
            .insert((key.clone(), kind.to_owned()));
    };
    let is_over = |status: &str| matches!(status, "completed" | "cancelled" | "rejected");
    for (place, order) in &now.orders {
        let status = order["status"].as_str().unwrap();
        match before.orders.get(place) {
            None if is_over(status) => {}
            None => tell(place, "new_order"),
            Some(was) if was == order => {}
            Some(was) if was["status"] == status => tell(place, "order_changed"),
            Some(was) => {
                let came_back = status == "pending" && (was["status"] == "cancelled" || was["status"] == "rejected");
                match status {
                    _ if came_back => tell(place, "new_order"),
                    "cancelled" if !is_over(was["status"].as_str().unwrap()) => tell(place, "order_cancelled"),
                    _ => tell(place, "order_status_changed"),
                }
            }
        }
    }
    for place in before.orders.keys().filter(|place| !now.orders.contains_key(*place)) {
        tell(place, "order_removed");
    }
    events
}
