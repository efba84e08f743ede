//! Finds amounts of a derived mapping (a mapping with SQL expressions) that count different units, because the mapping
//! names no unit and the SQL type of each amount decides. Such amounts contradict each other: 12.50 beside 1250.00.

use super::super::usual_unit;
use super::{Derived, RecordedColumn};
use crate::domain::money::Unit;

/// The name of the items' price among the expressions.
const ITEM_PRICE: &str = "items.price";

/// The warning that the total, the change or the prices of items count different units. `columns` has the names and
/// types of the expressions. `None`: all amounts count the same unit, or the mapping names the unit.
pub(super) fn warning(derived: &Derived, columns: &[RecordedColumn]) -> Option<String> {
    if derived.unit.is_some() {
        return None;
    }
    let names = ["total", "change_from", ITEM_PRICE];
    let amounts = names
        .iter()
        .filter_map(|name| columns.iter().find(|column| column.name == *name));
    let (major, minor): (Vec<&RecordedColumn>, Vec<&RecordedColumn>) =
        amounts.partition(|column| usual_unit(&column.kind) == Unit::Major);
    if major.is_empty() || minor.is_empty() {
        return None;
    }
    let named = |columns: &[&RecordedColumn]| {
        let columns = columns.iter().map(|column| {
            let sql = expression(derived, &column.name).map_or_else(String::new, |sql| format!("`{sql}`, "));
            format!("{} ({sql}{})", column.name, column.kind)
        });
        columns.collect::<Vec<_>>().join(" and ")
    };
    Some(format!(
        "derived.unit: without `unit` the types decide, and the amounts contradict each other 100-fold: {} counts major units, and {} counts \
         cents: write unit = \"minor\" where all amounts count cents (a sum of whole numbers is numeric), or unit = \"major\"",
        named(&major),
        named(&minor)
    ))
}

/// The SQL expression of an amount. `None`: it stands in the query for items in a form that this function cannot read.
fn expression<'a>(derived: &'a Derived, name: &str) -> Option<&'a str> {
    match name {
        ITEM_PRICE => column_of(derived.items.as_deref()?, "price"),
        _ => derived
            .fields
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, sql)| sql.trim()),
    }
}

/// The SQL expression of the column `name` in a query, from `expression as name`.
fn column_of<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let lower = query.to_ascii_lowercase();
    let end = lower.find(&format!(" as {name}"))?;
    let mut depth = 0;
    for (at, character) in query[..end].char_indices().rev() {
        match character {
            ')' => depth += 1,
            '(' if depth == 0 => return None,
            '(' => depth -= 1,
            ',' if depth == 0 => return Some(query[at + 1..end].trim()),
            _ => {}
        }
    }
    let first = lower[..end].trim_start().strip_prefix("select ")?;
    Some(query[end - first.len()..end].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expression_of_a_column_is_found() {
        for (query, found) in [
            (
                "select l.title as name, l.unit_price as price from line l",
                Some("l.unit_price"),
            ),
            (
                "SELECT coalesce(l.n, 0) AS price, l.title as name from line l",
                Some("coalesce(l.n, 0)"),
            ),
            (
                "select l.title as name, (l.n * round(l.q, 2)) as price from line l",
                Some("(l.n * round(l.q, 2))"),
            ),
            ("select l.title as name, l.price from line l", None),
        ] {
            assert_eq!(column_of(query, "price"), found, "{query}");
        }
    }
}
