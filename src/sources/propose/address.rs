//! Finds the columns of a delivery address: one column, or several with the parts of the address.

use super::Draft;
use super::columns::{Columns, is_json, is_text, is_whole};
use super::synonyms::underscored;
use crate::sources::catalog::TableColumn;

/// Names of the column with a whole address. If no other column has the street, other columns may have the rest of it,
/// such as the city.
const ADDRESSES: &[&str] = &[
    "address",
    "delivery_address",
    "shipping_address",
    "customer_address",
    "full_address",
    "address_line",
    "street_address",
    "адрес",
    "адрес_доставки",
];
/// Beginnings of the names of columns with the parts of one address. The address of a delivery comes first.
const PREFIXES: &[&str] = &[
    "delivery_",
    "delivery_address_",
    "shipping_",
    "shipping_address_",
    "",
    "address_",
    "customer_",
    "customer_address_",
    "recipient_",
];
const STREETS: &[&str] = &[
    "street", "street_name", "street_address", "address_line_1", "address_line1", "line_1", "line1", "address1", "address_1", "street1", "street_1",
    "улица",
];
/// The parts behind the street, in the order in which people read them.
const PARTS: &[&[&str]] = &[
    &["house", "house_number", "house_no", "house_num", "building", "building_number", "street_number", "street_no", "дом", "номер_дома"],
    &["address_line_2", "address_line2", "line_2", "line2", "address2", "address_2", "street2", "street_2"],
    &["apartment", "apartment_number", "apartment_no", "apt", "apt_number", "flat", "flat_number", "flat_no", "квартира"],
    &["zip", "zip_code", "zipcode", "postal_code", "post_code", "postcode", "postalcode", "индекс", "почтовый_индекс"],
    &["city", "town", "locality", "city_name", "город"],
];

/// Finds the columns of the address. Adds them to the draft of the proposal, in the order in which people read them.
pub(super) fn find(columns: &mut Columns<'_>, draft: &mut Draft) {
    let is_address = |column: &TableColumn| is_text(column) || is_json(column);
    let found = match columns.take(ADDRESSES, is_address) {
        Some(whole) => {
            let name = underscored(&whole.name);
            let prefix = PREFIXES.iter().find(|prefix| !prefix.is_empty() && name.starts_with(**prefix));
            let prefix = prefix.filter(|_| name != "address_line").copied().unwrap_or_default();
            let has_street = take(columns, prefix, STREETS, false).is_some();
            let is_alone = is_json(whole) || has_street || name == "full_address";
            let rest = if is_alone { Vec::new() } else { rest(columns, prefix) };
            std::iter::once(whole).chain(rest).collect()
        }
        None => {
            let street = |columns: &mut Columns<'_>, prefix: &str| take(columns, prefix, STREETS, false).is_some();
            let prefix = PREFIXES.iter().find(|prefix| street(columns, prefix)).copied();
            prefix.map_or_else(Vec::new, |prefix| {
                let street = take(columns, prefix, STREETS, true);
                street.into_iter().chain(rest(columns, prefix)).collect::<Vec<_>>()
            })
        }
    };
    if !found.is_empty() {
        let names = found.iter().map(|column| column.name.clone());
        draft.fields.push(("address", names.collect()));
    }
}

/// The columns of the parts behind the street, which are then used.
fn rest<'a>(columns: &mut Columns<'a>, prefix: &str) -> Vec<&'a TableColumn> {
    let parts = PARTS.iter();
    parts.filter_map(|names| take(columns, prefix, names, true)).collect()
}

/// The column of one part of an address. `is_used`: the column is marked as used.
fn take<'a>(columns: &mut Columns<'a>, prefix: &str, names: &[&str], is_used: bool) -> Option<&'a TableColumn> {
    let names: Vec<String> = names.iter().map(|name| format!("{prefix}{name}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let may = |column: &TableColumn| (is_text(column) || is_whole(column)) && column.references.is_empty();
    match is_used {
        true => columns.take(&names, may),
        false => columns.peek(&names, may),
    }
}
