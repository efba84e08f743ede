//! Recognises JSON that lists the items of an order. `vestnik attach` looks into columns whose names do not say that
//! they hold items.

use super::names::{NAMES, QUANTITIES};
use super::{LEVELS, member, name_within, named_alike, quantity};
use crate::domain::subject::Quantity;
use crate::sources::json::Json;

/// Maximum number of elements of a list that are examined.
const EXAMINED_ELEMENTS: usize = 5;
/// Names of JSON members with the quantity of an item. A member whose name contains `quantity` or `qty` counts, too. The
/// names `amount` and `number` are left out, because a list of payments or taxes has them.
const COUNTS: [&str; 6] = ["count", "pcs", "units", "количество", "кол-во", "кол_во"];

/// Where a JSON value lists the items of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedItems {
    /// The member with the list, if the value is an object. `None`: the value itself is the list.
    pub path: Option<String>,
    /// The member of an item with its name.
    pub name: String,
    /// The member of an item with its quantity.
    pub quantity: String,
    /// Whether a mapping must name the member with the quantity, because Vestnik does not look for its name.
    pub is_quantity_unusual: bool,
}

/// Whether a JSON value has no items, such as null or an empty list.
pub fn is_empty(raw: &str) -> bool {
    let mut held = String::new();
    match Json::read_encoded_twice(raw, &mut held) {
        Json::Null => true,
        Json::Array(elements) => elements.is_empty(),
        Json::Object(members) => members.is_empty(),
        plain => plain.plain().is_none(),
    }
}

/// Finds the list of items in a JSON value: an array of objects that have a name and a quantity, or a member of an
/// object with such an array. `None`: the value lists no items.
pub fn recognise(raw: &str) -> Option<ListedItems> {
    let mut held = String::new();
    match Json::read_encoded_twice(raw, &mut held) {
        Json::Array(elements) => of_elements(&elements),
        Json::Object(members) => members.iter().find_map(|(name, value)| {
            let is_plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
            let Json::Array(elements) = Json::read(value) else {
                return None;
            };
            let listed = of_elements(&elements).filter(|_| is_plain)?;
            Some(ListedItems {
                path: Some(name.clone()),
                ..listed
            })
        }),
        _ => None,
    }
}

fn of_elements(elements: &[&str]) -> Option<ListedItems> {
    let examined = elements.iter().take(EXAMINED_ELEMENTS);
    let found: Option<Vec<ListedItems>> = examined.map(|element| of_element(element)).collect();
    found?.into_iter().next()
}

fn of_element(element: &str) -> Option<ListedItems> {
    let Json::Object(members) = Json::read(element) else {
        return None;
    };
    let has_name = |name: &str| member(&members, name).is_some_and(|value| name_within(value, LEVELS).is_some());
    let usual = NAMES.iter().find(|name| has_name(name)).map(|name| (*name).to_owned());
    let name = match usual {
        Some(name) => name,
        None => members
            .iter()
            .find(|one| named_alike(std::slice::from_ref(*one)).is_some())?
            .0
            .clone(),
    };
    let is_count = |(name, value): &&(String, &str)| {
        let lower = name.to_lowercase();
        let is_named = lower.contains("quantity") || lower.contains("qty") || COUNTS.contains(&&*lower);
        let number = Json::read(value).plain().map(|text| quantity(&text));
        is_named && matches!(number, Some(Quantity::Number(_)))
    };
    let count = members.iter().find(is_count)?.0.clone();
    // A customer may have written the JSON, and a person reads the names in the proposal.
    if !(is_plain_name(&name) && is_plain_name(&count)) {
        return None;
    }
    let read = QUANTITIES.iter().find(|name| member(&members, name).is_some());
    Some(ListedItems {
        path: None,
        name,
        is_quantity_unusual: read.is_none_or(|read| *read != count),
        quantity: count,
    })
}

/// Whether the name of a member is a word, and no text of somebody.
fn is_plain_name(name: &str) -> bool {
    name.len() <= 64
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_of_names_with_quantities_is_one_of_items() {
        let found = |raw: &str| {
            recognise(raw).map(|found| {
                (
                    found.path.unwrap_or_default(),
                    found.name,
                    found.quantity,
                    found.is_quantity_unusual,
                )
            })
        };
        let is = |path: &str, name: &str, quantity: &str, is_unusual| {
            Some((path.to_owned(), name.to_owned(), quantity.to_owned(), is_unusual))
        };
        for (raw, expected) in [
            (
                r#"[{"name":"Soup","qty":2},{"name":"Tea","qty":"1"}]"#,
                is("", "name", "qty", false),
            ),
            (r#""[{\"name\":\"Soup\",\"qty\":2}]""#, is("", "name", "qty", false)),
            (
                r#"{"to":{},"rows":[{"product":{"name":"Soup"},"Quantity":2}]}"#,
                is("rows", "product", "Quantity", true),
            ),
            (
                r#"[{"dishTitle":"Soup","amount":5,"units":2}]"#,
                is("", "dishTitle", "units", true),
            ),
            (r#"[{"title":"VAT","amount":5}]"#, None),
            (r#"[{"name":"Soup","qty":2},{"name":"Tea"}]"#, None),
            (r#"[{"name":"Soup","qty":"a lot"}]"#, None),
            (r#"[{"qty":2}]"#, None),
            (r#"{"width":10,"height":5}"#, None),
            ("[]", None),
            ("null", None),
            ("[1, 2]", None),
            ("a text", None),
        ] {
            assert_eq!(found(raw), expected, "{raw}");
        }
        assert!(["", "null", "[]", "{}", "\"\""].iter().all(|raw| is_empty(raw)));
        assert!(!is_empty("[1]") && !is_empty("\"a text\""));
    }
}
