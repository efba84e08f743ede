//! Finds the customer's notes to an item in JSON members that do not hold a name, quantity, price or option.

use super::names::{self, META};
use super::{ITEM_OPTIONS, LEVELS, OPTION_LEVELS, name_within, options_of, shortened};
use crate::sources::json::{Json, member};
use crate::sources::mapping;

/// Notes from lists of keys and values, in the form of WooCommerce:
/// `"meta_data": [{"key": "Note", "value": "NO NUTS"}]`.
pub(super) fn meta(members: &[(String, &str)]) -> Vec<String> {
    let lists = META.iter().filter_map(|name| member(members, name));
    let mut notes = Vec::new();
    for list in lists {
        let Json::Array(entries) = Json::read(list) else {
            continue;
        };
        for entry in entries.iter().take(ITEM_OPTIONS) {
            let Json::Object(entry) = Json::read(entry) else {
                continue;
            };
            let text = |names: [&str; 2]| names.iter().find_map(|name| name_within(member(&entry, name)?, LEVELS));
            // A key that begins with an underscore is internal to the shop's software.
            if let (Some(key), Some(value)) = (text(["display_key", "key"]), text(["display_value", "value"]))
                && !key.starts_with('_')
            {
                notes.push(format!("{key}: {value}"));
            }
        }
    }
    notes
}

/// Notes from the JSON members that neither the mapping nor Vestnik knows by name, because such a member may hold a
/// customer's wish. Plain numbers are left out, because they are usually prices or ids.
pub(super) fn unknown(members: &[(String, &str)], mapped: &mapping::Items) -> Vec<String> {
    let is_mapped = |name: &str| mapped.named_columns().any(|(_, column)| column.name == name);
    let is_known = |name: &str| is_mapped(name) || names::is_usual(name);
    let unknown = members.iter().filter(|(name, _)| !is_known(name));
    let told = unknown.filter_map(|(name, value)| match Json::read(value) {
        Json::Text(text) if !text.trim().is_empty() && !text.starts_with("http") => {
            Some(format!("{name}: {}", shortened(&text)))
        }
        Json::Bool(true) if !name.starts_with("is") && !name.starts_with("has") => Some(shortened(name)),
        Json::Array(_) | Json::Object(_) => {
            let within = options_of(value, OPTION_LEVELS);
            (!within.is_empty()).then(|| shortened(&format!("{name}: {}", within.join(", "))))
        }
        _ => None,
    });
    told.take(ITEM_OPTIONS).collect()
}
