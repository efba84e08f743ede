//! Finds the columns of amounts and currency in a table, and the units of the amounts.

use super::Draft;
use super::columns::{Columns, is_code, is_number, is_text};
use super::synonyms::{self, underscored};
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};
use crate::sources::sql::ident;

/// Finds the columns of the total, the cash that the customer pays with, and the currency. Adds them to the draft of
/// the proposal.
pub(super) async fn find(
    client: &impl GenericClient,
    table: &Table,
    columns: &mut Columns<'_>,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let may = |column: &TableColumn| is_number(column) || is_text(column);
    if let Some(total) = columns.take(synonyms::TOTALS, may) {
        let unit = unit_of(total);
        if unit == "major" && total.base == "numeric" && whole_numbers_only(client, table, &total.name).await? {
            draft.ask(
                "total",
                format!(
                    "is 1250 in {} 12.50 (unit = \"minor\") or 1250.00 (unit = \"major\")? No row has a fraction",
                    total.name
                ),
            );
        }
        draft.total = Some((total.name.clone(), unit));
    }
    draft.put("change_from", columns.take(synonyms::CHANGE_FROM, is_number));
    // The currency is a part of `total` in the mapping.
    if draft.total.is_some() {
        draft.currency = columns
            .take(synonyms::CURRENCIES, is_code)
            .map(|column| column.name.clone());
    }
    Ok(())
}

/// The unit of the amounts in this column, as the TOML word `minor` or `major`. A suffix of the column's name decides,
/// such as `_cents`; otherwise the column's type decides.
pub(super) fn unit_of(column: &TableColumn) -> &'static str {
    let name = underscored(&column.name);
    let says_minor = synonyms::MINOR_UNITS
        .iter()
        .any(|suffix| name.ends_with(suffix.trim_start_matches('_')));
    match says_minor || crate::sources::usual_unit(&column.base) == crate::domain::money::Unit::Minor {
        true => "minor",
        false => "major",
    }
}

/// Whether the column has values, and all its values in a sample of rows are whole numbers.
async fn whole_numbers_only(client: &impl GenericClient, table: &Table, column: &str) -> Result<bool, catalog::Error> {
    let name = ident(column);
    let sql = format!(
        "select count(*) > 0 and bool_and({name} = trunc({name})) from (select {name} from {} where {name} is not null limit 1000) sample",
        table.quoted
    );
    Ok(client
        .query_one(&sql, &[])
        .await?
        .try_get::<_, Option<bool>>(0)?
        .unwrap_or(false))
}
