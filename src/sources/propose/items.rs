//! Finds where the shop stores the items of orders: in a column of the order's row, or in a second table.

use super::columns::{Columns, is_json, is_name, is_number, is_text, is_time, may_list};
use super::json_items::{self, FoundItems};
use super::{Draft, Items, deletion, item_synonyms, money, quantity, synonyms};
use crate::domain::status::SubjectKind;
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};

/// Finds the column of `table`, or a second table, with the items of the orders. Adds it to the draft of the proposal.
pub(super) async fn find(
    client: &impl GenericClient,
    table: &Table,
    columns: &mut Columns<'_>,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    if draft.kind == Some(SubjectKind::Booking) {
        return Ok(());
    }
    let found = second_table(client, table, draft).await?;
    // If a second table has the names and the quantities of items, then a text column in the table of orders is often a
    // copy of the cart. Only the application can parse this copy, so text columns are ignored.
    let is_whole = found
        .as_ref()
        .is_some_and(|second| second.is_named && second.is_counted);
    let may = |column: &TableColumn| may_list(column) && !(is_text(column) && is_whole);
    if let Some(column) = columns.take(item_synonyms::ITEMS, may) {
        draft.items = Some(Items::Column {
            name: column.name.clone(),
            path: None,
            quantity: None,
        });
        return Ok(());
    }
    // A list in a column with another name may be one of discounts. A table with quantities is the better guess then.
    let is_counted = found.as_ref().is_some_and(|second| second.is_counted);
    let in_json = match is_whole {
        true => None,
        false => json_items::find(client, table, columns, draft).await?,
    };
    if let Some(FoundItems { column, listed, .. }) = in_json.filter(|json| json.is_named || !is_counted) {
        columns.use_named(&column.name);
        draft.guess(
            "items",
            format!(
                "{} has the items of the orders: the newest values are lists with {} and {}",
                column.name, listed.name, listed.quantity
            ),
        );
        draft.items = Some(Items::Column {
            name: column.name.clone(),
            path: listed.path,
            quantity: Some(listed.quantity).filter(|_| listed.is_quantity_unusual),
        });
        return Ok(());
    }
    if let Some(found) = &found {
        of_table(client, table, found, draft).await?;
    }
    Ok(())
}

/// Adds a second table with the items of the orders to the draft of the proposal. `orders` is the table of the orders.
async fn of_table(
    client: &impl GenericClient,
    orders: &Table,
    second: &SecondTable,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let SecondTable {
        table: found,
        order_key,
        ..
    } = second;
    if second.is_guess {
        let guess = format!(
            "{} has the items of the orders, by its column {order_key}",
            found.quoted
        );
        draft.guess("items", guess);
    }
    let mut theirs = Columns::new(found);
    theirs.use_named(order_key);
    let text = |column: &TableColumn| is_text(column) || is_json(column);
    let named = name(found, &mut theirs, draft);
    let price = theirs.take(item_synonyms::PRICES, |column| is_number(column) || is_text(column));
    let quantity = quantity::find(client, found, &mut theirs, price, draft).await?;
    let mut mapped = Vec::new();
    for (key, column) in [
        ("name", named),
        ("quantity", quantity),
        ("note", theirs.take(item_synonyms::ITEM_NOTES, is_text)),
        ("options", theirs.take(item_synonyms::ITEM_OPTIONS, text)),
        (
            "category",
            theirs.take(item_synonyms::ITEM_CATEGORIES, |column| {
                text(column) && column.references.is_empty()
            }),
        ),
        ("deleted_at", deleted(&mut theirs, draft)),
        ("price", price),
    ] {
        mapped.extend(column.map(|column| (key, column.name.clone())));
    }
    if quantity.is_none() {
        quantity::ask(client, found, &theirs, draft).await?;
    }
    let unit = match price {
        Some(price) => Some(money::unit_of_price(client, found, price, orders, draft).await?),
        None => None,
    };
    let keys = quantity::primary_key(client, found).await?;
    let mut left = theirs.rest();
    left.retain(|name| !keys.contains(name));
    draft.items = Some(Items::Table {
        table: found.quoted.clone(),
        order_key: order_key.clone(),
        columns: mapped,
        unit,
        left,
    });
    Ok(())
}

/// The column of an items table with the name of a dish. If there is none, adds a question to the draft.
fn name<'a>(found: &Table, theirs: &mut Columns<'a>, draft: &mut Draft) -> Option<&'a TableColumn> {
    let text = |column: &TableColumn| is_text(column) || is_json(column);
    let is_reference = |column: &TableColumn| !column.references.is_empty();
    let named = theirs.take(item_synonyms::ITEM_NAMES, |column| {
        text(column) && !is_reference(column)
    });
    if named.is_none() {
        let key = theirs.peek(item_synonyms::ITEM_NAMES, is_reference);
        let stands_behind = key.and_then(|key| {
            let table = &key.references.first()?.table;
            Some(format!(": {} is the key of a row of {table}", key.name))
        });
        draft.ask(
            "items",
            format!(
                "{} has no name of the dish{}: a query under [details] (docs/sources.md) or `items` of a section [derived] (docs/derived-sources.md) brings items with their names",
                found.quoted,
                stands_behind.unwrap_or_default()
            ),
        );
    }
    named
}

/// A table that may hold the items of orders.
struct SecondTable {
    table: Table,
    /// The column of the table that holds the order's key.
    order_key: String,
    /// Whether only the names of the table and of its column suggest that the table holds items. `false`: a foreign key
    /// of the table refers to the orders.
    is_guess: bool,
    /// Whether the table has a column for the names of dishes.
    is_named: bool,
    /// Whether the table has a column for quantities.
    is_counted: bool,
}

/// Finds the table that most likely holds the items of the orders. A table with quantities and names is preferred,
/// because a table of addresses or shipments has no such columns. `None`: no table can hold the items.
async fn second_table(
    client: &impl GenericClient,
    table: &Table,
    draft: &Draft,
) -> Result<Option<SecondTable>, catalog::Error> {
    let looks_like_items = |name: &str| {
        let name = name.to_lowercase();
        item_synonyms::ITEM_TABLES.iter().any(|part| name.contains(part))
    };
    let mut tables = Vec::new();
    let by_key = referencing(client, table)
        .await?
        .into_iter()
        .map(|found| (found, false));
    let by_name = named_alike(client, table).await?.into_iter().map(|found| (found, true));
    for ((name, order_key), is_guess) in by_key.chain(by_name) {
        let found = Table::find(client, &name).await?;
        let mut columns = Columns::new(&found);
        let (is_counted, is_named) = (
            quantity::is_counted(&columns),
            columns.take(item_synonyms::ITEM_NAMES, is_name).is_some(),
        );
        if looks_like_items(&found.name) && (is_counted || !is_guess) && draft.key.is_some() {
            tables.push(SecondTable {
                table: found,
                order_key,
                is_guess,
                is_named,
                is_counted,
            });
        }
    }
    tables.sort_by_key(|it| (it.is_guess, !it.is_counted, !it.is_named));
    match tables.into_iter().next() {
        Some(first) => Ok(Some(SecondTable {
            table: first.table.with_defaults(client).await?,
            ..first
        })),
        None => Ok(None),
    }
}

/// Finds items tables by their names, because many frameworks declare no foreign key. For a table of orders with the
/// name `orders`, the items table's name must begin with `order`, and it must have a column `order_id` or, as Frappe
/// has it, `parent`. Returns each such table with this column.
async fn named_alike(
    client: &impl GenericClient,
    table: &Table,
) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
    const ALIKE: &str = "select format('%I.%I', n.nspname, c.relname), a.attname::text \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid \
         where n.nspname = $1 and c.oid <> $2 and c.relkind in ('r', 'p') and not c.relispartition and a.attnum > 0 and not a.attisdropped \
           and starts_with(lower(regexp_replace(c.relname, '[ _-]', '', 'g')), $3) \
           and lower(replace(a.attname, '_', '')) in ($3 || 'id', 'parent') \
         order by length(c.relname), 1";
    let name = synonyms::underscored(&table.name).replace('_', "");
    let one = name.strip_suffix('s').unwrap_or(&name);
    let rows = client.query(ALIKE, &[&table.schema, &table.oid, &one]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The column of an items table that marks a deleted item. If the column's name is ambiguous, such as `voided`, adds a
/// guess to the draft.
fn deleted<'a>(theirs: &mut Columns<'a>, draft: &mut Draft) -> Option<&'a TableColumn> {
    let deleted = theirs.take(item_synonyms::ITEM_DELETED, deletion::may_mark);
    if deleted.is_some() {
        return deleted;
    }
    // A number such as `cancelled` may count pieces.
    let may = |column: &TableColumn| column.base == "boolean" || is_time(column);
    let withdrawn = theirs.take(item_synonyms::ITEM_WITHDRAWN, may)?;
    let guess = format!(
        "an item with {} is not to be prepared, and nobody sees it",
        withdrawn.name
    );
    draft.guess("items", guess);
    Some(withdrawn)
}

/// The tables with a foreign key to `table`, each with the column of the foreign key. A foreign key that consists of
/// several columns is left out.
async fn referencing(
    client: &impl GenericClient,
    table: &Table,
) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
    const REFERENCING: &str = "select format('%I.%I', n.nspname, c.relname), a.attname::text from pg_constraint f \
         join pg_class c on c.oid = f.conrelid join pg_namespace n on n.oid = c.relnamespace \
         join pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.conkey[1] \
         where f.contype = 'f' and f.confrelid = $1 and cardinality(f.conkey) = 1 and f.conrelid <> $1 and not c.relispartition \
         order by 1";
    let rows = client.query(REFERENCING, &[&table.oid]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
