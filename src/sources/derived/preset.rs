//! Built-in mappings for known shop systems such as Saleor, from `presets/NAME.toml`. They are derived mappings: SQL
//! expressions over the system's tables define the orders.

use tokio_postgres::Client;

use super::super::catalog::{self, Table};
use super::super::mapping::Mapping;
use super::check;

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
