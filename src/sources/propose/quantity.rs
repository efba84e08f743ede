//! Finds the column of an items table with the quantity of an item. A column `amount` may be a quantity or money, so the
//! other columns and the rows decide.

use super::columns::{Columns, is_number, is_whole};
use super::synonyms::underscored;
use super::{Draft, item_synonyms};
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};
use crate::sources::sql::ident;

/// Number of rows from which the meaning of `amount` is derived.
const SAMPLED_ROWS: u32 = 1000;

/// What a whole number `amount` of an items table is.
enum Amount {
    Quantity,
    /// The sum of the line.
    Sum,
    Unknown,
}

/// Whether the table has a column that may hold the quantity of an item.
pub(super) fn is_counted(columns: &Columns<'_>) -> bool {
    columns.peek(item_synonyms::QUANTITIES, is_count).is_some()
        || columns.peek(item_synonyms::AMOUNT, is_amount).is_some()
}

/// Finds the column with the quantity of an item, and marks it as used. If only the rows could say which column it is,
/// adds a question to the draft.
pub(super) async fn find<'a>(
    client: &impl GenericClient,
    table: &Table,
    columns: &mut Columns<'a>,
    price: Option<&TableColumn>,
    draft: &mut Draft,
) -> Result<Option<&'a TableColumn>, catalog::Error> {
    if let Some(quantity) = columns.take(item_synonyms::QUANTITIES, is_count) {
        return Ok(Some(quantity));
    }
    if let Some(amount) = columns.peek(item_synonyms::AMOUNT, is_amount) {
        let name = &amount.name;
        match meaning(client, table, amount, price).await? {
            Amount::Quantity => {
                columns.use_named(name);
                return Ok(Some(amount));
            }
            Amount::Unknown => {
                let question = format!(
                    "is {name} of {} the quantity, or money? If it is money, delete the line `quantity`: each item then comes as one piece",
                    table.quoted
                );
                draft.ask("items", question);
                columns.use_named(name);
                return Ok(Some(amount));
            }
            Amount::Sum => draft.guess(
                "items",
                format!("{name} of {} is the sum of the line, and no quantity", table.quoted),
            ),
        }
    }
    Ok(None)
}

/// Adds a question if the table has no quantity, but whole numbers that may be one. `columns` are those that the proposal
/// does not use for anything else.
pub(super) async fn ask(
    client: &impl GenericClient,
    table: &Table,
    columns: &Columns<'_>,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let keys = primary_key(client, table).await?;
    let rest = columns.rest();
    let may = |column: &&TableColumn| {
        let is_key = keys.contains(&column.name) || !column.references.is_empty();
        is_whole(column) && !is_key && rest.contains(&column.name) && may_be_quantity(&underscored(&column.name))
    };
    let names: Vec<&str> = table.columns.iter().filter(may).map(|column| &*column.name).collect();
    if let [first, ..] = names.as_slice() {
        let question = format!(
            "is {} of {} the quantity? If so, write quantity = \"{first}\". Without a quantity each item comes as one piece",
            names.join(" or "),
            table.quoted
        );
        draft.ask("items", question);
    }
    Ok(())
}

/// The columns of the table's primary key.
pub(super) async fn primary_key(
    client: &impl GenericClient,
    table: &Table,
) -> Result<Vec<String>, tokio_postgres::Error> {
    const KEY: &str = "select a.attname::text from pg_index i join pg_attribute a on a.attrelid = i.indrelid \
         and a.attnum = any (i.indkey::int2[]) where i.indrelid = $1 and i.indisprimary";
    let rows = client.query(KEY, &[&table.oid]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Whether the column may hold a quantity: a number that is no key of another table.
fn is_count(column: &TableColumn) -> bool {
    is_number(column) && column.references.is_empty()
}

/// Whether the column is a whole number `amount` whose name does not say that it is money, as `amount_cents` does.
fn is_amount(column: &TableColumn) -> bool {
    is_whole(column) && !super::money::says_minor(&underscored(&column.name))
}

/// Whether a whole number with this name may be a quantity. `name` has underscores between its words.
fn may_be_quantity(name: &str) -> bool {
    let is_other = |part: &str| item_synonyms::NO_QUANTITIES.contains(&part);
    !name.split('_').any(is_other) && !super::money::says_minor(name)
}

/// What the whole number `amount` is. Beside a price with digits after the point, it is a quantity. Beside a price that
/// is a whole number, too, the rows decide: a quantity is smaller than every price, the sum of a line is a multiple of
/// its price.
async fn meaning(
    client: &impl GenericClient,
    table: &Table,
    amount: &TableColumn,
    price: Option<&TableColumn>,
) -> Result<Amount, catalog::Error> {
    let Some(price) = price else {
        return Ok(Amount::Unknown);
    };
    if !super::money::is_whole_number(price) {
        return Ok(Amount::Quantity);
    }
    let sql = format!(
        "select count(*), coalesce(max(amount) < min(price), false), coalesce(bool_and(amount >= price and amount % price = 0), false) \
         from (select {}::numeric as amount, {}::numeric as price from {} where {} is not null and {price} > 0 limit {SAMPLED_ROWS}) sample",
        ident(&amount.name),
        ident(&price.name),
        table.quoted,
        ident(&amount.name),
        price = ident(&price.name)
    );
    let row = client.query_one(&sql, &[]).await?;
    let (rows, is_smaller, is_multiple): (i64, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(match (rows, is_smaller, is_multiple) {
        (0, ..) => Amount::Unknown,
        (_, true, _) => Amount::Quantity,
        (_, _, true) => Amount::Sum,
        _ => Amount::Unknown,
    })
}
