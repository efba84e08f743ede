//! Finds where the items of orders stand: a column of the row, or a second table.

use super::columns::{Columns, is_json, is_number, is_text, is_time, may_list};
use super::{Draft, Items, money, synonyms};
use crate::domain::status::SubjectKind;
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};

/// Finds the column, or the second table, with the items of the orders.
pub(super) async fn find(
    client: &impl GenericClient,
    table: &Table,
    columns: &mut Columns<'_>,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    if draft.kind == Some(SubjectKind::Booking) {
        return Ok(());
    }
    if let Some(column) = columns.take(synonyms::ITEMS, may_list) {
        draft.items = Some(Items::Column(column.name.clone()));
        return Ok(());
    }
    let candidates = referencing(client, table).await?;
    let looks_like_items = |name: &str| {
        synonyms::ITEM_TABLES
            .iter()
            .any(|part| name.to_lowercase().contains(part))
    };
    let mut with_items: Vec<(Table, String)> = Vec::new();
    for (name, column) in candidates {
        let found = Table::find(client, &name).await?;
        if looks_like_items(&found.name) {
            with_items.push((found, column));
        }
    }
    // An items table has a quantity; a table of addresses or shipments does not.
    with_items
        .sort_by_key(|(found, _)| usize::from(Columns::new(found).take(synonyms::QUANTITIES, is_number).is_none()));
    let Some((found, order_key)) = with_items.first() else {
        return Ok(());
    };
    let mut theirs = Columns::new(found);
    theirs.use_named(order_key);
    let mut mapped = Vec::new();
    let text = |column: &TableColumn| is_text(column) || is_json(column);
    let price = |column: &TableColumn| is_number(column) || is_text(column);
    let named = theirs.take(synonyms::ITEM_NAMES, text);
    if named.is_none() {
        draft.ask(
            "items",
            format!(
                "{} has no name of the dish: a query under [details] (docs/sources.md) or `items` of a section [derived] (docs/derived-sources.md) brings items with their names",
                found.quoted
            ),
        );
    }
    let quantity = theirs.take(synonyms::QUANTITIES, is_number);
    let price = theirs.take(synonyms::PRICES, price);
    let note = theirs.take(synonyms::ITEM_NOTES, is_text);
    for (key, column) in [
        ("name", named),
        ("quantity", quantity),
        ("note", note),
        ("options", theirs.take(synonyms::ITEM_OPTIONS, text)),
        ("category", theirs.take(synonyms::ITEM_CATEGORIES, text)),
        ("deleted_at", deleted(&mut theirs, draft)),
    ] {
        mapped.extend(column.map(|column| (key, column.name.clone())));
    }
    mapped.extend(price.map(|column| ("price", column.name.clone())));
    draft.items = Some(Items::Table {
        table: found.quoted.clone(),
        order_key: order_key.clone(),
        columns: mapped,
        unit: price.map(money::unit_of),
    });
    Ok(())
}

/// The column of an items table that marks a deleted item. A likely one is marked.
fn deleted<'a>(theirs: &mut Columns<'a>, draft: &mut Draft) -> Option<&'a TableColumn> {
    let may = |column: &TableColumn| column.base == "boolean" || is_time(column);
    let deleted = theirs.take(synonyms::ITEM_DELETED, may);
    if deleted.is_some() {
        return deleted;
    }
    let withdrawn = theirs.take(synonyms::ITEM_WITHDRAWN, may)?;
    let guess = format!(
        "an item with {} is not to be prepared, and nobody sees it",
        withdrawn.name
    );
    draft.guess("items", guess);
    Some(withdrawn)
}

/// The tables with a foreign key of one column to this table, each with that column.
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
