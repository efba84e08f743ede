//! Finds the columns of amounts and currency in a table, and the units of the amounts.

use super::column_words::default_word;
use super::columns::{Columns, is_code, is_number, is_text, is_whole};
use super::synonyms::{self, underscored};
use super::{Draft, Items};
use crate::domain::money::Currency;
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};
use crate::sources::sql::ident;

/// The unit of the amounts in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProposedUnit {
    /// The unit as the mapping has it: `minor` or `major`.
    pub word: &'static str,
    /// Whether the column's name, its type or a comment says so. A whole number without a comment may count either.
    pub is_sure: bool,
}

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
        let unit = unit_of(client, table, total).await?;
        if unit.word == "major" && total.base == "numeric" && whole_numbers_only(client, table, &total.name).await? {
            draft.ask(
                "total",
                format!(
                    "is 1250 in {} 12.50 (unit = \"minor\") or 1250.00 (unit = \"major\")? No row has a fraction",
                    total.name
                ),
            );
        }
        draft.total_unit = Some(unit);
        draft.total = Some((total.name.clone(), unit.word));
    }
    change(client, table, columns, draft).await?;
    // The currency is a part of `total` in the mapping.
    if draft.total.is_some() {
        draft.currency = columns
            .take(synonyms::CURRENCIES, is_code)
            .map(|column| column.name.clone());
    }
    Ok(())
}

/// Finds the column of the banknote that the customer pays with. A column `change` may have the change that is given
/// back, so it is a question.
async fn change(
    client: &impl GenericClient,
    table: &Table,
    columns: &mut Columns<'_>,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let sure = columns.take(synonyms::CHANGE_FROM, is_number);
    let Some(column) = sure.or_else(|| columns.take(synonyms::CHANGE, is_number)) else {
        return Ok(());
    };
    if sure.is_none() {
        let question = format!(
            "is {} the banknote that the customer pays with, or the change that is given back? If it is the change, delete this key",
            column.name
        );
        draft.ask("change_from", question);
    }
    let unit = unit_of(client, table, column).await?;
    // Without a unit, the column's type decides, which is right for amounts with a fraction.
    draft.change_from = Some((column.name.clone(), Some(unit.word).filter(|_| is_whole_number(column))));
    Ok(())
}

/// The unit of the prices in the column `price` of an items table. Whole numbers count as the total does, if the total
/// is a whole number of a sure unit.
pub(super) async fn unit_of_price(
    client: &impl GenericClient,
    table: &Table,
    price: &TableColumn,
    orders: &Table,
    draft: &mut Draft,
) -> Result<ProposedUnit, catalog::Error> {
    let unit = unit_of(client, table, price).await?;
    let total = draft.total.as_ref().zip(draft.total_unit);
    let Some(((total, _), of_total)) = total.filter(|(_, of_total)| !unit.is_sure && of_total.is_sure) else {
        return Ok(unit);
    };
    if !orders.column(total).is_some_and(is_whole_number) {
        return Ok(unit);
    }
    let guess = format!("{} counts as {total} does: {} units", price.name, of_total.word);
    draft.guess("items", guess);
    Ok(of_total)
}

/// Adds a guess if nothing says whether amounts that are whole numbers count major or minor units. All such amounts are
/// one guess, because a shop counts all of them likewise.
pub(super) async fn guess_units(
    client: &impl GenericClient,
    table: &Table,
    columns: &Columns<'_>,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let is_unsure = |unit: &Option<ProposedUnit>| unit.is_some_and(|unit| !unit.is_sure);
    let total = draft.total.as_ref().filter(|_| is_unsure(&draft.total_unit));
    let price = match &draft.items {
        Some(Items::Table {
            table, columns, unit, ..
        }) if is_unsure(unit) => {
            let price = columns.iter().find(|(key, _)| *key == "price");
            price.map(|(_, column)| format!("in {column} of {table}"))
        }
        _ => None,
    };
    let key = if total.is_some() { "total" } else { "items" };
    let change = draft
        .change_from
        .as_ref()
        .filter(|(_, unit)| unit.is_some() && total.is_some());
    let named = total
        .map(|(column, _)| column)
        .into_iter()
        .chain(change.map(|(column, _)| column));
    let places: Vec<String> = named.map(|column| format!("in {column}")).chain(price).collect();
    if places.is_empty() || has_no_digits(client, table, columns, draft).await? {
        return Ok(());
    }
    let guess = format!(
        "1250 {} is 12.50: whole numbers count cents, unless the mapping says unit = \"major\"",
        places.join(" and ")
    );
    draft.guess(key, guess);
    Ok(())
}

/// The unit of the amounts in this column. A word in the column's name decides, such as `_cents`; otherwise its comment,
/// then its type.
async fn unit_of(
    client: &impl GenericClient,
    table: &Table,
    column: &TableColumn,
) -> Result<ProposedUnit, catalog::Error> {
    let sure = |word| ProposedUnit { word, is_sure: true };
    if says_minor(&underscored(&column.name)) {
        return Ok(sure("minor"));
    }
    if let Some(said) = said_by_comment(client, table, &column.name).await? {
        return Ok(sure(said));
    }
    Ok(match is_whole(column) {
        true => ProposedUnit {
            word: "minor",
            is_sure: false,
        },
        false => sure("major"),
    })
}

/// Whether a name says that an amount counts minor units. `name` has underscores between its words.
pub(super) fn says_minor(name: &str) -> bool {
    let suffixes = synonyms::MINOR_UNITS;
    suffixes.iter().any(|suffix| name.ends_with(suffix))
        || ["cents", "kopecks", "kopeks"].iter().any(|end| name.ends_with(end))
        || name.split('_').any(|part| synonyms::MINOR_WORDS.contains(&part))
}

/// Whether the column holds whole numbers only. A `numeric` of scale 0 does.
pub(super) fn is_whole_number(column: &TableColumn) -> bool {
    let base = column.base.as_str();
    is_whole(column) || base.starts_with("numeric(") && (base.ends_with(",0)") || !base.contains(','))
}

/// The unit that the column's comment names. `None`: there is no comment, or it names both or no unit.
async fn said_by_comment(
    client: &impl GenericClient,
    table: &Table,
    column: &str,
) -> Result<Option<&'static str>, catalog::Error> {
    const COMMENT: &str =
        "select col_description(attrelid, attnum) from pg_attribute where attrelid = $1 and attname = $2";
    let row = client.query_opt(COMMENT, &[&table.oid, &column]).await?;
    let comment: Option<String> = row.map(|row| row.try_get(0)).transpose()?.flatten();
    let comment = comment.unwrap_or_default().to_lowercase();
    let mut words = comment.split(|c: char| !c.is_alphanumeric());
    let mut other_words = words.clone();
    let is_minor = words.any(|word| synonyms::MINOR_WORDS.contains(&word) || word.starts_with("копе"));
    let is_major = other_words.any(|word| synonyms::MAJOR_WORDS.contains(&word) || word.starts_with("рубл"));
    Ok(match (is_minor, is_major) {
        (true, false) => Some("minor"),
        (false, true) => Some("major"),
        _ => None,
    })
}

/// Whether the currency column names only currencies without digits after the point, such as JPY. Both units are the
/// same then.
async fn has_no_digits(
    client: &impl GenericClient,
    table: &Table,
    columns: &Columns<'_>,
    draft: &Draft,
) -> Result<bool, catalog::Error> {
    let named = draft.currency.as_ref().and_then(|name| table.column(name));
    let Some(column) = named.or_else(|| columns.peek(synonyms::CURRENCIES, is_code)) else {
        return Ok(false);
    };
    let sql = format!(
        "select distinct code from (select {}::text as code from {} limit 1000) sample where code is not null limit 20",
        ident(&column.name),
        table.quoted
    );
    let mut codes: Vec<String> = default_word(column).into_iter().collect();
    for row in client.query(&sql, &[]).await? {
        codes.push(row.try_get(0)?);
    }
    let is_whole =
        |code: &String| Currency::from_code(code).is_some_and(|currency| currency.is_known() && currency.digits() == 0);
    Ok(!codes.is_empty() && codes.iter().all(is_whole))
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
