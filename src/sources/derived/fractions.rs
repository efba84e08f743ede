//! Finds amounts with a fraction in the newest orders of a derived mapping (a mapping with SQL expressions), although
//! the mapping says that amounts count minor units, such as cents. `validate.rs` does the same for columns.

use serde_json::Value;

use super::super::validate::fraction_warning;
use super::Derived;
use crate::domain::money::{Unit, has_fraction};

/// The warnings about the amounts of these orders, one line for each expression of the mapping. `orders` has the values
/// of the newest orders as JSON objects, the newest first.
pub(super) fn warnings(derived: &Derived, orders: &[String]) -> Vec<String> {
    if derived.unit != Some(Unit::Minor) {
        return Vec::new();
    }
    let orders: Vec<Value> = orders
        .iter()
        .filter_map(|values| serde_json::from_str(values).ok())
        .collect();
    let of_place = |place: &str, amount: fn(&Value) -> Option<String>| {
        let found: Vec<String> = orders.iter().filter_map(amount).collect();
        found.first().map(|newest| fraction_warning(place, found.len(), newest))
    };
    let of_all = [
        of_place("derived.total", |order| fraction(&order["total"])),
        of_place("derived.change_from", |order| fraction(&order["change_from"])),
        of_place("derived.items: price", |order| {
            let items = order["items"].as_array()?;
            items.iter().find_map(|item| fraction(&item["price"]))
        }),
    ];
    of_all.into_iter().flatten().collect()
}

/// The amount as text. `None`: the value is a whole number, or no amount.
fn fraction(amount: &Value) -> Option<String> {
    let text = match amount {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    has_fraction(&text).then_some(text)
}
