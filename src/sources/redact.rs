//! Removes the customer's data from a recorded row. Only the values that are needed to find and count the order stay.

use serde_json::{Map, Value};

use super::Source;
use super::json::{Json, at_path, member};
use super::mapping::{Column, CurrencyRef, StoreRef};

impl Source {
    /// The recorded row `data`, a JSON object, without the customer's data. The key, store, number, status, total,
    /// currency, type, and the times of creation and deletion stay. All other values are removed, such as names,
    /// addresses, notes, items and extra fields.
    pub fn without_customer(&self, data: &str) -> String {
        let Json::Object(members) = Json::read(data) else {
            return "{}".to_owned();
        };
        let mut kept = Map::new();
        for column in self.kept_columns() {
            if let Some(value) = member(&members, &column.name) {
                keep(&mut kept, &column, value);
            }
        }
        Value::Object(kept).to_string()
    }

    fn kept_columns(&self) -> Vec<Column> {
        let whole = |name: &String| Column {
            name: name.clone(),
            path: Vec::new(),
        };
        let mapping = &self.mapping;
        let fields = &mapping.fields;
        let store = match &mapping.store {
            StoreRef::Column(name) => Some(name),
            StoreRef::Constant(_) => None,
        };
        let currency = match &mapping.currency {
            CurrencyRef::Column(column) => Some(column),
            CurrencyRef::Store | CurrencyRef::Constant(_) => None,
        };
        let mapped = [&mapping.status.column]
            .into_iter()
            .chain(&mapping.number)
            .chain(currency)
            .chain(fields.total.as_ref().map(|total| &total.column))
            .chain(fields.order_type.as_ref().map(|kind| &kind.column))
            .chain(fields.created_at.as_ref().map(|time| &time.column))
            .chain(&fields.deleted_at);
        std::iter::once(&mapping.key)
            .chain(store)
            .map(whole)
            .chain(mapped.cloned())
            .collect()
    }
}

/// Copies a column's value into `row`. If the mapping refers to a value inside the column's JSON, copies only this
/// value.
fn keep(row: &mut Map<String, Value>, column: &Column, value: &str) {
    let Some(part) = at_path(value, &column.path) else {
        return;
    };
    let Ok(part) = serde_json::from_str::<Value>(&part) else {
        return;
    };
    let mut here = row;
    let mut name = &column.name;
    for next in &column.path {
        let below = here.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(below) = below else { return };
        (here, name) = (below, next);
    }
    here.insert(name.clone(), part);
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{REFERENCE, source};

    #[test]
    fn what_an_order_is_found_and_counted_by_stays_and_nothing_else() {
        let orders = source(REFERENCE, &[]);
        let row = r#"{"id": 12, "store_id": "7", "status": "ready", "total": 12.50, "customer_name": "Ann", "reason": "Ann is ill",
            "customer_phone": "+7 900", "items": [{"name": "tea", "note": "for Ann"}], "order_type": "delivery", "note": "Ann"}"#;
        let kept: serde_json::Value = serde_json::from_str(&orders.without_customer(row)).unwrap();
        let expected =
            serde_json::json!({"id": 12, "store_id": "7", "status": "ready", "total": 12.5, "order_type": "delivery"});
        assert_eq!(kept, expected);
        assert_eq!(
            orders.without_customer(&orders.without_customer(row)),
            orders.without_customer(row)
        );
        assert_eq!(orders.without_customer("[1]"), "{}");
    }

    #[test]
    fn of_a_column_of_json_only_the_paths_that_are_kept_stay() {
        let mapping = "table = 't'\nkind = 'order'\nkey = 'id'\nstore = 's'\nnumber = 'doc.no'\n[status]\ncolumn = 'doc.state.word'\n\
             pending = ['p']\n[fields]\nphone = 'doc.contact.phone'\n[extra]\nNote = 'doc.note'\n";
        let orders = source(mapping, &[]);
        let row = r#"{"id": "a", "s": 1, "doc": {"no": "A-1", "state": {"word": "p", "by": "Ann"}, "contact": {"phone": "1"}, "note": "Ann"}}"#;
        let kept: serde_json::Value = serde_json::from_str(&orders.without_customer(row)).unwrap();
        let expected = serde_json::json!({"id": "a", "s": 1, "doc": {"no": "A-1", "state": {"word": "p"}}});
        assert_eq!(kept, expected);
    }
}
