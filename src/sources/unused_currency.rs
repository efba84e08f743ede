//! Finds the column of a table that says the currency of its orders, if the mapping names no currency.

use super::catalog::{Table, TableColumn};
use super::mapping::Mapping;
use super::propose::{is_code, is_whole, underscored};
use super::sql::ident;
use crate::domain::money::Currency;
use crate::infra::db::GenericClient;

/// The advice for amounts without a currency.
pub(super) const OF_STORE: &str = "set the store's currency (`vestnik store set`)";
/// Number of newest values that must look like codes of currencies.
const CHECKED_VALUES: i64 = 20;

/// The warning that the table has a column for the currency, and the mapping names none. A number and a key of another
/// table are no code of a currency, so the warning then says how to look the code up.
pub(super) async fn warning(
    client: &impl GenericClient,
    table: &Table,
    mapping: &Mapping,
) -> Result<Option<String>, tokio_postgres::Error> {
    const LOOK_UP: &str = "write a section [derived] that looks the code up (docs/derived-sources.md)";
    let may = |column: &&TableColumn| {
        let leads_to_it = is_code(column) || is_whole(column) || !column.references.is_empty();
        leads_to_it && underscored(&column.name).contains("currency")
    };
    let candidates: Vec<&TableColumn> = table.columns.iter().filter(may).collect();
    let mut code = candidates.iter().find(|column| is_code(column)).copied();
    for column in candidates.iter().filter(|column| is_text(column)) {
        if code.is_none() && holds_codes(client, table, mapping, column).await? {
            code = Some(column);
        }
    }
    let Some(column) = code.or(candidates.first().copied()) else {
        return Ok(None);
    };
    let is_derived = mapping.derived.is_some();
    let advice = match (code.is_some(), column.references.first()) {
        (true, _) if is_derived => format!(", so write currency = 'o.{}'", ident(&column.name)),
        (true, _) => format!(", so write currency_column = \"{}\" of `total`", column.name),
        (false, Some(key)) if is_derived => format!(
            ", which is a key of {0} and no code: join {0} in `from`, and let `currency` be its column with the code of three letters",
            key.table
        ),
        (false, Some(key)) => format!(", which is a key of {} and no code: {LOOK_UP}", key.table),
        (false, None) if is_derived => {
            ", which is a number and no code: let `currency` be an expression for the code of three letters".to_owned()
        }
        (false, None) => format!(", which is a number and no code: {LOOK_UP}"),
    };
    Ok(Some(format!(
        "currency: the mapping names none, and amounts are shown in {}; the table has a column {}{advice}, or {OF_STORE}",
        Currency::DEFAULT,
        column.name
    )))
}

fn is_text(column: &TableColumn) -> bool {
    column.base == "text" || column.base.starts_with("character")
}

/// Whether the newest values of the column are codes of three letters. A table of currencies may have the code as its
/// key, so that a foreign key refers to it.
async fn holds_codes(
    client: &impl GenericClient,
    table: &Table,
    mapping: &Mapping,
    column: &TableColumn,
) -> Result<bool, tokio_postgres::Error> {
    let key = mapping.derived.as_ref().map_or(&mapping.key, |derived| &derived.key);
    let sql = format!(
        "select coalesce(bool_and(code ~ '^[A-Za-z]{{3}}$'), false) from (select t.{column}::text as code from {table} t \
             where t.{column} is not null order by t.{key} desc limit $1) newest",
        column = ident(&column.name),
        table = table.quoted,
        key = ident(key),
    );
    match client.query_one(&sql, &[&CHECKED_VALUES]).await {
        // A right that is missing, or a missing key, is reported elsewhere.
        Err(error) if error.as_db_error().is_some() => Ok(false),
        found => found?.try_get(0),
    }
}
