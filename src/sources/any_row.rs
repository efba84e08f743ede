//! Property tests: every row that a trigger can record can be translated into an order. The tests generate rows with
//! the column names of the mapping and with random values. `PROPTEST_CASES=1000000 cargo test --release any_row` runs
//! more cases.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::Context;
use super::fixtures::source;
use super::lookup_results::LookupResult;
use crate::domain::money::Currency;

/// A mapping with every kind of field, and with options such as units and zones.
const MAPPING: &str = r#"
    table = "public.orders"
    kind = "order"
    key = "id"
    store = "store_id"
    number = "short_no"
    zone = "Europe/Moscow"
    [status]
    column = "status"
    pending = ["new", "1"]
    preparing = ["accepted"]
    cancelled = ["cancelled"]
    hidden = ["cart"]
    [fields]
    customer_name = "name"
    phone = "contact.phone"
    address = "address"
    comment = "comment"
    persons = "persons"
    paid = "paid"
    payment_method = "method"
    change_from = { column = "change", unit = "major" }
    type = { column = "mode", delivery = ["D"], pickup = ["P"] }
    total = { column = "total", unit = "major", currency_column = "currency" }
    due_at = { column = "due", zone = "America/New_York" }
    created_at = "created"
    deleted_at = "deleted"
    [items]
    column = "items"
    [answer]
    minutes = "minutes"
    [extra]
    "Table" = "table_no"
    "Note" = "contact.note"
"#;
const COLUMNS: [&str; 21] = [
    "id", "store_id", "short_no", "status", "name", "contact", "address", "comment", "persons", "paid", "method",
    "change", "minutes", "mode", "total", "currency", "due", "created", "deleted", "items", "table_no",
];
/// Names for the members of the JSON objects that the tests generate. The code that translates rows treats most of
/// these names specially, such as `price`.
const NAMES: [&str; 19] = [
    "name",
    "title",
    "product",
    "quantity",
    "count",
    "qty",
    "price",
    "options",
    "modifiers",
    "note",
    "category",
    "phone",
    "street",
    "city",
    "value",
    "amount",
    "currency",
    "vst_omitted",
    "id",
];
const LITERALS: [&str; 22] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "12.50",
    "1e400",
    "-1e-400",
    "99999999999999999999999999",
    "0.1",
    "\"\"",
    "\"new\"",
    "\"cart\"",
    "\"NaN\"",
    "\"infinity\"",
    "\"2026-02-30T25:61:00\"",
    "\"2026-11-28 12:00:00+03\"",
    "\"0001-01-01 BC\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"12,50 €\"",
    "\"[{\\\"name\\\":\\\"Tea\\\"}]\"",
];

/// Generates JSON values that Postgres can store, nested up to five levels.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => select(&LITERALS[..]).prop_map(str::to_owned),
        1 => any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        1 => any::<f64>().prop_map(|number| serde_json::Value::from(number).to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(|values| format!("[{}]", values.join(","))),
            vec((select(&NAMES[..]), inner.clone()), 0..6).prop_map(|members| object(&members)),
            // This string contains another JSON text, because some applications encode JSON twice.
            inner.prop_map(|text| serde_json::Value::from(text).to_string()),
        ]
    })
}

fn object(members: &[(&str, String)]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn row() -> impl Strategy<Value = String> {
    vec(option::weighted(0.8, value()), COLUMNS.len()).prop_map(|values| {
        let present = COLUMNS
            .iter()
            .zip(values)
            .filter_map(|(name, value)| Some((*name, value?)));
        object(&present.collect::<Vec<_>>())
    })
}

fn has_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(values) => values.iter().any(has_nul),
        serde_json::Value::Object(members) => members.values().any(has_nul),
        _ => false,
    }
}

proptest! {
    #[test]
    fn any_row_is_an_order_that_can_be_sent(row in prop_oneof![9 => row(), 1 => any::<String>()], found in option::of(value())) {
        let context = Context {
            currency: Currency::DEFAULT,
            lookup: found.as_deref().map_or(LookupResult::Nothing, LookupResult::Found),
        };
        let order = source(MAPPING, &[("total", "numeric"), ("due", "timestamp without time zone")]).translate("1", &row, context);
        let sent = serde_json::to_string(&order.to_json()).unwrap();
        let read: serde_json::Value = serde_json::from_str(&sent).unwrap();
        prop_assert_eq!(&read["order_id"], "1");
        prop_assert!(!has_nul(&read), "many JSON parsers reject a NUL character: {}", sent);
        // Two translations of the same row must be equal. Otherwise Vestnik would report an unchanged order as changed.
        let again = source(MAPPING, &[("total", "numeric"), ("due", "timestamp without time zone")]).translate("1", &row, context);
        prop_assert!(order.changed_fields(&again).is_empty());
    }
}
