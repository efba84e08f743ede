//! Parses the items of an order from the JSON that shops store: arrays, objects with numbered members, or JSON encoded
//! as text. The mapping may not say which JSON members hold the name, the options or the notes. Vestnik then looks for
//! members with usual names, from `items/names.rs`.

mod names;
mod notes;
pub mod recognise;
pub mod serialized;

use std::borrow::Cow;

use names::{CATEGORIES, CHOICES, GROUPS, NAMES, NOTES, OPTIONS, PRICES, QUANTITIES, TECHNICAL};

use super::json::{Json, at_path, member};
use super::mapping::{self, Column};
use super::yes_no::says_no;
use crate::domain::money::{Currency, Unit, minor_units};
use crate::domain::subject::{Item, Items, Quantity};

/// Maximum number of items that an order lists; further items are only counted.
pub const LISTED_ITEMS: usize = 500;
/// The name that panels show for an item without a name.
const NAMELESS: &str = "?";
/// Maximum number of options that an item lists.
const ITEM_OPTIONS: usize = 50;
/// Maximum length of a name, option or note, in characters.
const TEXT_CHARACTERS: usize = 1000;
/// Maximum depth of nested JSON in which Vestnik searches for the name of a dish or product.
const LEVELS: usize = 3;
/// Maximum depth of nested JSON in which Vestnik searches for options. The limit is higher than for names, because a
/// group of options may contain lists of choices.
const OPTION_LEVELS: usize = 6;

/// Parses the items in the JSON text `raw`. If `mapped` does not name the member for a value, searches for members with
/// usual names, such as `title`.
pub fn read(raw: &str, mapped: &mapping::Items, unit: Option<Unit>, currency: Currency) -> Items {
    each(raw, |text| item(text, mapped, unit, currency))
}

/// Parses items that a look-up returned. The JSON members have Vestnik's own names, such as `name` and `quantity`.
pub fn read_canonical(raw: &str, unit: Option<Unit>, currency: Currency) -> Items {
    let column = |name: &str| Some(Column::whole(name));
    let mapped = mapping::Items {
        from: mapping::ItemsRef::Column(Column::whole("items")),
        name: column("name"),
        quantity: column("quantity"),
        price: column("price"),
        unit: None,
        note: column("note"),
        options: column("options"),
        category: column("category"),
        deleted_at: None,
    };
    each(raw, |text| item(text, &mapped, unit, currency))
}

/// Parses a quantity. A text that is not a number, such as `200 g`, stays a text.
pub fn quantity(text: &str) -> Quantity {
    let number = text.trim().replace(',', ".").parse::<f64>();
    match number {
        Ok(number) if number.is_finite() => Quantity::Number(number),
        _ => Quantity::Words(shortened(text)),
    }
}

fn each(raw: &str, item: impl Fn(&str) -> Option<Item>) -> Items {
    let mut held = String::new();
    let elements: Vec<Cow<'_, str>> = match Json::read_encoded_twice(raw, &mut held) {
        Json::Array(elements) => elements.into_iter().map(Cow::Borrowed).collect(),
        Json::Object(members) => elements_of(&members),
        // Each line of a text is the name of an item.
        Json::Text(text) => text
            .lines()
            .map(|line| Cow::Owned(serde_json::Value::from(line).to_string()))
            .collect(),
        _ => Vec::new(),
    };
    let mut items = Items::default();
    for element in elements {
        if items.list.len() < LISTED_ITEMS {
            items.list.extend(item(&element).and_then(named));
        } else {
            items.omitted += 1;
        }
    }
    items
}

/// Gives the name `?` to an item without a name, so that the kitchen asks about it. Returns `None` for an item that
/// also has no quantity, price, option or note.
fn named(item: Item) -> Option<Item> {
    if !item.name.is_empty() {
        return Some(item);
    }
    let has_quantity = item.quantity != Quantity::ONE && item.quantity != Quantity::Number(0.0);
    let says_something = has_quantity || item.price.is_some() || !item.options.is_empty() || item.note.is_some();
    says_something.then(|| Item {
        name: NAMELESS.to_owned(),
        ..item
    })
}

/// Splits a JSON object into items, and returns the JSON text of each item. The object may have a member with a list of
/// items, may be one item itself, or may have one member for each item.
fn elements_of<'a>(members: &[(String, &'a str)]) -> Vec<Cow<'a, str>> {
    for name in ["items", "lines", "products", "positions", "cart", "dishes"] {
        if let Some(list) = member(members, name)
            && let Json::Array(elements) = Json::read(list)
        {
            return elements.into_iter().map(Cow::Borrowed).collect();
        }
    }
    if NAMES.iter().any(|name| member(members, name).is_some()) {
        let whole: Vec<String> = members
            .iter()
            .map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name.as_str())))
            .collect();
        return vec![Cow::Owned(format!("{{{}}}", whole.join(",")))];
    }
    let named = |(name, value): &(String, &'a str)| match Json::read(value) {
        // The member's name is the item's name, and the member's value is the quantity: {"Soup": 2}.
        Json::Number(number) => Cow::Owned(serde_json::json!({"name": name, "quantity": number}).to_string()),
        // The member's name is the item's name: {"Soup": {"quantity": 2}}.
        Json::Object(inner)
            if NAMES.iter().all(|known| member(&inner, known).is_none()) && name.parse::<u64>().is_err() =>
        {
            let rest = value.trim().trim_start_matches('{');
            let comma = if inner.is_empty() { "" } else { "," };
            Cow::Owned(format!(
                "{{\"name\":{}{comma}{rest}",
                serde_json::Value::from(name.as_str())
            ))
        }
        _ => Cow::Borrowed(*value),
    };
    members.iter().map(named).collect()
}

/// Reads the JSON member that `mapped` names. If `mapped` is `None`, reads the first readable member whose name is in
/// `usual`.
fn find<T>(
    members: &[(String, &str)],
    mapped: &Option<Column>,
    usual: &[&str],
    read: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    match mapped {
        Some(column) => read(&at_path(member(members, &column.name)?, &column.path)?),
        None => usual.iter().filter_map(|name| member(members, name)).find_map(read),
    }
}

/// The item's name, from a JSON member such as `name_ru` or `dishTitle`: the member's own name contains `name`, `title`
/// or `назван`.
fn named_alike(members: &[(String, &str)]) -> Option<String> {
    let is_alike = |name: &str| {
        ["name", "title", "назван"]
            .iter()
            .any(|part| name.to_lowercase().contains(part))
    };
    let alike = members.iter().filter(|(name, _)| is_alike(name));
    alike.filter_map(|(_, value)| name_within(value, LEVELS)).next()
}

fn item(text: &str, mapped: &mapping::Items, unit: Option<Unit>, currency: Currency) -> Option<Item> {
    let mut held = String::new();
    let members = match Json::read_encoded_twice(text, &mut held) {
        Json::Object(members) => members,
        Json::Null => return None,
        Json::Array(elements) => {
            let name = elements.first().and_then(|first| name_within(first, LEVELS))?;
            let count = elements
                .get(1)
                .and_then(|second| Some(quantity(&Json::read(second).plain()?)));
            return Some(plain_item(name, count));
        }
        plain => return Some(plain_item(shortened(&plain.plain()?), None)),
    };
    let deleted = find(&members, &mapped.deleted_at, &[], |value| {
        Json::read(value).plain().map(std::borrow::Cow::into_owned)
    });
    if deleted.is_some_and(|text| !says_no(&text)) {
        return None;
    }
    let name = find(&members, &mapped.name, &NAMES, |value| name_within(value, LEVELS));
    let name = name.or_else(|| named_alike(&members).filter(|_| mapped.name.is_none()));
    let count = find(&members, &mapped.quantity, &QUANTITIES, |value| {
        Some(quantity(&Json::read(value).plain()?))
    });
    let price = find(&members, &mapped.price, &PRICES, |value| price(value, unit, currency));
    let options = match &mapped.options {
        Some(_) => find(&members, &mapped.options, &[], |value| {
            Some(options_of(value, OPTION_LEVELS))
        })
        .unwrap_or_default(),
        None => OPTIONS
            .iter()
            .filter_map(|name| member(&members, name))
            .flat_map(|value| options_of(value, OPTION_LEVELS))
            .collect(),
    };
    let mut notes: Vec<String> = match &mapped.note {
        Some(_) => find(&members, &mapped.note, &[], |value| name_within(value, LEVELS))
            .into_iter()
            .collect(),
        None => NOTES
            .iter()
            .filter_map(|name| name_within(member(&members, name)?, LEVELS))
            .collect(),
    };
    if mapped.name.is_none() && name.is_some() {
        notes.extend(notes::meta(&members));
        notes.extend(notes::unknown(&members, mapped));
    }
    let name = name.unwrap_or_else(|| shortened(&said_of(&members)));
    Some(Item {
        name,
        quantity: count.unwrap_or(Quantity::ONE),
        price,
        options: options.into_iter().take(ITEM_OPTIONS).collect(),
        note: (!notes.is_empty()).then(|| notes.join("; ")),
        category: category_of(&members, &mapped.category, LEVELS),
    })
}

/// The item's category, from a JSON member of the item or of the product object inside the item. `levels` is the
/// maximum depth of nested JSON.
fn category_of(members: &[(String, &str)], mapped: &Option<Column>, levels: usize) -> Option<String> {
    find(members, mapped, &CATEGORIES, first_name).or_else(|| {
        let products = NAMES.iter().filter_map(|name| member(members, name));
        let within = |product| match Json::read(product) {
            Json::Object(members) if levels > 0 => category_of(&members, mapped, levels - 1),
            _ => None,
        };
        products.filter(|_| mapped.is_none()).filter_map(within).next()
    })
}

/// Returns a name from a JSON value. From a list, returns the name of the first element that has a name.
fn first_name(raw: &str) -> Option<String> {
    let mut held = String::new();
    match Json::read_encoded_twice(raw, &mut held) {
        Json::Array(elements) => elements.iter().find_map(|element| name_within(element, LEVELS)),
        _ => name_within(raw, LEVELS),
    }
}

fn plain_item(name: String, quantity: Option<Quantity>) -> Item {
    Item {
        name,
        quantity: quantity.unwrap_or(Quantity::ONE),
        price: None,
        options: Vec::new(),
        note: None,
        category: None,
    }
}

/// The price of an item in minor units, such as cents; `None`: the value is not a price. `raw` is a plain amount, or an
/// object such as `{"amount": 5, "currency": "EUR"}`.
fn price(raw: &str, unit: Option<Unit>, currency: Currency) -> Option<i64> {
    let text = match Json::read(raw) {
        Json::Object(members) => ["amount", "value", "price"]
            .iter()
            .find_map(|name| Some(Json::read(member(&members, name)?).plain()?.into_owned()))?,
        plain => plain.plain()?.into_owned(),
    };
    minor_units(&text, unit.unwrap_or_else(|| unit_of_text(&text)), currency)
}

/// The unit of an amount, guessed from its text alone. A number with a fraction counts major units; a whole number
/// counts minor units, such as cents.
pub fn unit_of_text(text: &str) -> Unit {
    match text.contains(['.', ',']) {
        true => Unit::Major,
        false => Unit::Minor,
    }
}

/// A text for people from a JSON value. It is the plain value itself, or the name inside an object. Examples of objects
/// are `{"ru": "Борщ"}` and `{"product": {"name": "Soup"}}`. `levels` is the maximum depth of nested JSON.
fn name_within(raw: &str, levels: usize) -> Option<String> {
    let mut held = String::new();
    match Json::read_encoded_twice(raw, &mut held) {
        Json::Object(_) | Json::Array(_) if levels == 0 => None,
        Json::Object(members) => {
            let named = NAMES.iter().chain(&["value", "text", "ru", "en"]);
            let named = named
                .filter_map(|name| member(&members, name))
                .find_map(|value| name_within(value, levels - 1));
            named.or_else(|| {
                members.iter().find_map(|(_, value)| match Json::read(value) {
                    Json::Text(text) if !text.trim().is_empty() => Some(shortened(&text)),
                    _ => None,
                })
            })
        }
        Json::Array(elements) => {
            let names: Vec<String> = elements
                .iter()
                .take(ITEM_OPTIONS)
                .filter_map(|element| name_within(element, levels - 1))
                .collect();
            (!names.is_empty()).then(|| names.join(", "))
        }
        plain => Some(shortened(&plain.plain()?)).filter(|name| !name.is_empty()),
    }
}

/// The options of an item as texts for people. `raw` is a list of texts or objects, groups of options, or an object
/// such as `{"size": "L"}`. `levels` is the maximum depth of nested JSON.
fn options_of(raw: &str, levels: usize) -> Vec<String> {
    let mut held = String::new();
    match Json::read_encoded_twice(raw, &mut held) {
        Json::Object(_) | Json::Array(_) if levels == 0 => Vec::new(),
        Json::Array(elements) => elements
            .iter()
            .take(ITEM_OPTIONS)
            .flat_map(|element| options_of(element, levels - 1))
            .collect(),
        Json::Object(members) => {
            let names = NAMES.iter().chain(&GROUPS);
            let name = names
                .filter_map(|name| member(&members, name))
                .find_map(|value| name_within(value, levels - 1));
            let inner: Vec<String> = OPTIONS
                .iter()
                .chain(&CHOICES)
                .filter_map(|name| member(&members, name))
                .flat_map(|value| options_of(value, levels - 1))
                .collect();
            let value = member(&members, "value").and_then(|value| name_within(value, levels - 1));
            let count = QUANTITIES
                .iter()
                .filter_map(|name| member(&members, name))
                .find_map(|value| Some(Json::read(value).plain()?.into_owned()));
            match (name, value, inner.is_empty()) {
                (Some(name), _, false) => vec![format!("{name}: {}", inner.join(", "))],
                (Some(name), Some(value), true) => vec![format!("{name}: {value}")],
                (Some(name), None, true) => match count.as_deref() {
                    None | Some("1") => vec![name],
                    Some(count) => vec![format!("{count} × {name}")],
                },
                (None, _, false) => inner,
                (None, _, true) => members
                    .iter()
                    .filter(|(name, _)| !TECHNICAL.contains(&name.as_str()))
                    .filter_map(|(name, value)| match Json::read(value) {
                        Json::Bool(true) => Some(shortened(name)),
                        Json::Bool(false) => None,
                        _ => Some(format!("{name}: {}", name_within(value, levels - 1)?)),
                    })
                    .collect(),
            }
        }
        plain => plain.plain().map(|text| shortened(&text)).into_iter().collect(),
    }
}

/// A line of text that replaces the name of an item without a name. The line has the item's texts and numbers. Quantity
/// and price are left out, because panels show them separately.
fn said_of(members: &[(String, &str)]) -> String {
    let is_shown = |name: &str| QUANTITIES.contains(&name) || PRICES.contains(&name);
    let rest = members.iter().filter(|(name, _)| !is_shown(name));
    let plain = rest.filter_map(|(name, value)| Some(format!("{name}: {}", Json::read(value).plain()?)));
    plain.take(ITEM_OPTIONS).collect::<Vec<_>>().join(", ")
}

fn shortened(text: &str) -> String {
    text.trim()
        .chars()
        .filter(|c| *c != '\0')
        .take(TEXT_CHARACTERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usual() -> mapping::Items {
        mapping::Items {
            from: mapping::ItemsRef::Column(Column::whole("items")),
            name: None,
            quantity: None,
            price: None,
            unit: None,
            note: None,
            options: None,
            category: None,
            deleted_at: None,
        }
    }

    fn items(raw: &str) -> Vec<Item> {
        read(raw, &usual(), None, Currency::DEFAULT).list
    }

    /// Formats each item as the text `2 Soup (options) [note]`.
    fn told(raw: &str) -> Vec<String> {
        let one = |item: Item| {
            let quantity = match &item.quantity {
                Quantity::Number(number) => number.to_string(),
                Quantity::Words(words) => words.clone(),
            };
            let options = if item.options.is_empty() {
                String::new()
            } else {
                format!(" ({})", item.options.join(", "))
            };
            let note = item.note.map_or_else(String::new, |note| format!(" [{note}]"));
            format!("{quantity} {}{options}{note}", item.name)
        };
        items(raw).into_iter().map(one).collect()
    }

    #[test]
    fn every_usual_shape_is_read() {
        for (raw, expected) in [
            (r#"[{"name":"Soup","count":2}]"#, vec!["2 Soup"]),
            (r#"["Soup", "Tea"]"#, vec!["1 Soup", "1 Tea"]),
            (r#""[{\"name\":\"Soup\",\"qty\":2}]""#, vec!["2 Soup"]),
            (
                r#"{"1":{"name":"Soup"},"2":{"name":"Tea","quantity":"3"}}"#,
                vec!["1 Soup", "3 Tea"],
            ),
            (r#"{"Soup":{"quantity":2},"Tea":1}"#, vec!["2 Soup", "1 Tea"]),
            (r#"{"items":[{"title":"Soup"}],"total":5}"#, vec!["1 Soup"]),
            (r#"[{"product":{"name":"Pizza"},"quantity":2}]"#, vec!["2 Pizza"]),
            (r#"[{"name":{"ru":"Борщ","en":"Soup"}}]"#, vec!["1 Борщ"]),
            (
                r#"[{"name":"Burger","special_instructions":"gluten free!","addons":["cheese"]}]"#,
                vec!["1 Burger (cheese) [gluten free!]"],
            ),
            (
                r#"[{"name":"Pizza","meta_data":[{"key":"Note","value":"NO NUTS"},{"key":"_sku","value":"7"}]}]"#,
                vec!["1 Pizza [Note: NO NUTS]"],
            ),
            (
                r#"[{"name":"Tea","options":[{"name":"Size","value":"L"},{"name":"Sugar","quantity":2}]}]"#,
                vec!["1 Tea (Size: L, 2 × Sugar)"],
            ),
            (
                r#"[{"name":"Tea","modifiers":[{"name":"Milk","options":[{"name":"Oat"}]}]}]"#,
                vec!["1 Tea (Milk: Oat)"],
            ),
            (
                r#"[{"name":"Tea","options":{"size":"L","hot":true}}]"#,
                vec!["1 Tea (size: L, hot)"],
            ),
            (
                r#"[{"name":"Tea","colour":"green","id":7,"sku":"T-7"}]"#,
                vec!["1 Tea [colour: green]"],
            ),
            (r#"[["Soup", 2], ["Tea"]]"#, vec!["2 Soup", "1 Tea"]),
            (r#"[{"name":"Сыр","quantity":"200 г"}]"#, vec!["200 г Сыр"]),
            (r#""Soup\nTea""#, vec!["1 Soup", "1 Tea"]),
            (r#"[{"code":"A1","price":5}]"#, vec!["1 code: A1"]),
            (
                r#"[{"item":{"id":5},"name_ru":"Борщ","dishTitle":"x"}]"#,
                vec!["1 Борщ [dishTitle: x]"],
            ),
            (
                r#"[{"name":null,"title":"","productName":"Sushi","count":null,"qty":2}]"#,
                vec!["2 Sushi"],
            ),
            (
                r#"[{"name":"Coffee","selectedOptions":{"milk":"oat","shots":2},"allergies":["nuts","milk"],"gluten_free":true}]"#,
                vec!["1 Coffee [selectedOptions: milk: oat, shots: 2; allergies: nuts, milk; gluten_free]"],
            ),
            (
                r#"[{"name":"Ramen","modifiers":[{"group":"Egg","items":[{"name":"soft","qty":2}]}]}]"#,
                vec!["1 Ramen (Egg: 2 × soft)"],
            ),
            (r#"[null, {"name":"Soup"}]"#, vec!["1 Soup"]),
            ("null", vec![]),
            ("[]", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(told(raw), expected, "{raw}");
        }
    }

    #[test]
    fn an_item_without_a_name_is_left_out_or_asked_about() {
        for (raw, expected) in [
            (
                r#"[null, {}, "", "  ", {"name":"","quantity":0}, {"name":null}]"#,
                vec![],
            ),
            (r#"[{"name":" ","title":"Soup"}]"#, vec!["1 Soup"]),
            (
                r#"[{"quantity":2}, {"name":"","price":500}, {"name":"","note":"no nuts"}]"#,
                vec!["2 ?", "1 ?", "1 note: no nuts [no nuts]"],
            ),
            ("\"Soup\\n\\nTea\\n\"", vec!["1 Soup", "1 Tea"]),
        ] {
            assert_eq!(told(raw), expected, "{raw}");
        }
    }

    #[test]
    fn the_category_of_an_item_is_read_under_its_usual_names() {
        for (raw, expected) in [
            (r#"[{"name":"Soup","category":"Hot"}]"#, Some("Hot")),
            (
                r#"[{"name":"Soup","category":{"id":7,"name":"Hot"},"station":" Grill "}]"#,
                Some("Grill"),
            ),
            (
                r#"[{"name":"Soup","categories":[{"id":7,"name":"Hot"},{"id":8,"name":"New"}]}]"#,
                Some("Hot"),
            ),
            (r#"[{"name":"Борщ","цех":"Горячий"}]"#, Some("Горячий")),
            (r#"[{"name":"Борщ","категория":"Супы"}]"#, Some("Супы")),
            (r#"[{"название":"Борщ","section":"Супы"}]"#, Some("Супы")),
            (
                r#"[{"product":{"name":"Pizza","category":{"name":"Oven"}},"quantity":2}]"#,
                Some("Oven"),
            ),
            (r#"[{"name":"Tea","station":2}]"#, Some("2")),
            (r#"[{"name":"Tea","category":"","section":null}]"#, None),
            (r#"[{"name":"Tea","category_id":7,"categoryId":7}]"#, None),
            (r#"["Tea"]"#, None),
        ] {
            let item = items(raw).remove(0);
            assert_eq!(item.category.as_deref(), expected, "{raw}");
            assert_eq!(item.note, None, "the category must not become a note: {raw}");
        }
    }

    #[test]
    fn prices_are_exact_and_of_the_unit_that_is_said() {
        let price = |raw: &str, unit| read(raw, &usual(), unit, Currency::DEFAULT).list[0].price;
        assert_eq!(price(r#"[{"name":"a","price":25000}]"#, None), Some(25_000));
        assert_eq!(price(r#"[{"name":"a","price":6.25}]"#, None), Some(625));
        assert_eq!(price(r#"[{"name":"a","price":"6"}]"#, Some(Unit::Major)), Some(600));
        assert_eq!(
            price(r#"[{"name":"a","price":{"amount":"6.50","currency":"RUB"}}]"#, None),
            Some(650)
        );
        assert_eq!(price(r#"[{"name":"a","price":"free"}]"#, None), None);
    }

    #[test]
    fn a_mapping_that_says_where_things_are_is_followed() {
        let column = |name: &str, path: &[&str]| {
            Some(Column {
                name: name.into(),
                path: path.iter().map(|name| (*name).to_owned()).collect(),
            })
        };
        let mapped = mapping::Items {
            name: column("p", &["n"]),
            quantity: column("q", &[]),
            note: column("w", &[]),
            category: column("p", &["kitchen"]),
            deleted_at: column("gone", &[]),
            ..usual()
        };
        let items = read(
            r#"[{"p":{"n":"Soup","kitchen":"Hot"},"q":3,"w":"hot","name":"wrong","category":"wrong","gone":false},
                {"p":{"n":"Tea"},"gone":"2026-01-01"}]"#,
            &mapped,
            None,
            Currency::DEFAULT,
        );
        let expected = Item {
            note: Some("hot".into()),
            category: Some("Hot".into()),
            ..plain_item("Soup".into(), Some(Quantity::Number(3.0)))
        };
        assert_eq!(items.list, [expected]);
    }

    #[test]
    fn nothing_that_a_customer_can_shape_costs_more_than_itself() {
        let deep = format!("[{}1{}]", "[".repeat(5000), "]".repeat(5000));
        assert!(items(&deep).is_empty());
        assert_eq!(told(r#"[{"name":{"toString":"x"}}]"#), ["1 x"]);
        assert_eq!(told(r#"[{"name":"tea","quantity":1e400}]"#), ["1e400 tea"]);
        let many = format!("[{}]", vec![r#"{"name":"a"}"#; 700].join(","));
        let read = read(&many, &usual(), None, Currency::DEFAULT);
        assert_eq!((read.list.len(), read.omitted), (LISTED_ITEMS, 200));
    }

    proptest! {
        #[test]
        fn any_text_is_some_items(text in ".{0,200}") {
            let _ = items(&text);
        }
    }
}
