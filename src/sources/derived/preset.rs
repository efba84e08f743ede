//! Built-in mappings for known shop systems such as Saleor, from `presets/NAME.toml`. They are derived mappings: SQL
//! expressions over the system's tables define the orders.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::super::catalog::{self, Table};
use super::super::mapping::Mapping;
use super::function::all_values;
use super::{Derived, check};

/// The built-in mappings as TOML, by name.
const PRESETS: [(&str, &str); 8] = [
    ("coopcycle", include_str!("../../../presets/coopcycle.toml")),
    ("evershop", include_str!("../../../presets/evershop.toml")),
    ("odoo-pos", include_str!("../../../presets/odoo-pos.toml")),
    ("openfoodnetwork", include_str!("../../../presets/openfoodnetwork.toml")),
    ("pretix", include_str!("../../../presets/pretix.toml")),
    ("saleor", include_str!("../../../presets/saleor.toml")),
    ("spree", include_str!("../../../presets/spree.toml")),
    ("vendure", include_str!("../../../presets/vendure.toml")),
];

/// The names of all built-in mappings.
pub fn names() -> [&'static str; PRESETS.len()] {
    PRESETS.map(|(name, _)| name)
}

/// The built-in mapping with this name, such as `saleor`, as TOML. `None`: no built-in mapping has this name.
pub fn mapping(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, toml)| *toml)
}

/// Finds a built-in mapping for this table that passes validation, and returns the mapping's name. `None`: no built-in
/// mapping fits.
pub async fn recognise(client: &mut Client, table: &Table) -> Result<Option<&'static str>, catalog::Error> {
    for (name, toml) in PRESETS {
        let Ok(mapping) = Mapping::from_toml(toml) else {
            continue;
        };
        let Some(derived) = &mapping.derived else { continue };
        if mapping.table.replace('"', "") != table.quoted.replace('"', "") {
            continue;
        }
        let mut transaction = client.transaction().await?;
        let checked = check(&mut transaction, table, derived).await?;
        transaction.rollback().await?;
        if checked.findings.problems.is_empty() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Finds the built-in mapping for another version of the system to which this table belongs, and returns the mapping's
/// name. The table has the name of the system's table, and most of the columns that the mapping reads.
pub fn resembling(table: &Table) -> Option<&'static str> {
    let share = |(name, toml): (&'static str, &str)| {
        let mapping = Mapping::from_toml(toml).ok()?;
        let derived = mapping.derived.as_ref()?;
        let named = named_columns(derived);
        let there = named.iter().filter(|column| table.column(column).is_some()).count();
        let is_of_table = mapping.table.replace('"', "") == table.quoted.replace('"', "");
        (is_of_table && there * 2 > named.len()).then(|| (there * 1000 / named.len(), name))
    };
    let (_, name) = PRESETS.into_iter().filter_map(share).max_by_key(|(share, _)| *share)?;
    Some(name)
}

/// The columns of the shop's row `o` that the mapping's expressions and joins name, each once.
fn named_columns(derived: &Derived) -> BTreeSet<String> {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let mut texts: Vec<String> = all_values(derived).into_iter().map(|(_, sql)| sql).collect();
    texts.push(derived.from.clone());
    let mut named = BTreeSet::from([derived.key.clone()]);
    for text in &texts {
        for (at, _) in text.match_indices("o.") {
            let rest = &text[at + 2..];
            let is_alias = !text[..at].ends_with(|c: char| is_letter(c) || c == '.' || c == '"');
            let column = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next(),
                None => rest.split(|c: char| !is_letter(c)).next(),
            };
            named.extend(column.filter(|name| is_alias && !name.is_empty()).map(str::to_owned));
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mappings_of_the_documentation_are_read() {
        let docs = include_str!("../../../docs/derived-sources.md");
        let blocks = docs
            .split("```toml")
            .skip(1)
            .filter_map(|rest| rest.split("```").next());
        let whole = blocks.filter(|block| block.trim_start().starts_with("table"));
        let watched = whole.map(|toml| Mapping::from_toml(toml).unwrap().derived.unwrap().watch.len());
        assert_eq!(watched.collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn every_preset_is_a_mapping() {
        for (name, toml) in PRESETS {
            let mapping = Mapping::from_toml(toml).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(mapping.derived.is_some(), "{name}");
        }
    }
}
