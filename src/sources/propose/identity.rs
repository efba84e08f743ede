//! Finds the columns that identify an order: its key, its store, and the number that people call out.

use super::Draft;
use super::columns::{Columns, FOREIGN_KEY, is_plain, may_be_key};
use super::synonyms::{self, underscored};
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};
use crate::sources::sql::ident;

/// Maximum number of columns that the question for the store's column suggests, besides those of users.
const SUGGESTED_STORES: usize = 4;

/// Number of the table's newest rows in which the column of the number must have a value.
const NEWEST_ROWS: u32 = 1000;

/// Finds the columns of the key, the store and the number. Adds them to the draft of the proposal.
pub(super) async fn find(
    client: &impl GenericClient,
    table: &Table,
    columns: &mut Columns<'_>,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    // The query finds the primary key, or else the first unique index on one column that is never null. In a
    // partitioned table, every unique index must contain the columns of the partition key. So the query ignores these
    // columns, unless the index has no other column.
    const KEYS: &str = "with p as (select coalesce((select array_agg(a.attnum) from pg_partition_tree($1::oid) t join pg_partitioned_table l on l.partrelid = t.relid \
             cross join unnest(l.partattrs::int2[]) n join pg_attribute b on b.attrelid = l.partrelid and b.attnum = n \
             join pg_attribute a on a.attrelid = $1 and a.attname = b.attname), '{}') as attrs) \
         select a.attname::text from pg_index i cross join p \
         join lateral (select array_agg(n) as own from unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) n \
             where n <> all (p.attrs) or i.indnkeyatts = 1) k on true \
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.own[1] \
         where i.indrelid = $1 and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null and cardinality(k.own) = 1 \
           and (i.indisprimary or a.attnotnull) order by i.indisprimary desc, i.indnkeyatts, i.indexrelid";
    let keys: Vec<String> = client
        .query(KEYS, &[&table.oid])
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    match keys.first() {
        Some(key) => {
            columns.use_named(key);
            draft.key = Some(key.clone());
        }
        None => draft.ask(
            "key",
            "which column tells one row from all others? It needs a unique index: no index of one column is unique",
        ),
    }
    match columns.take(synonyms::STORES, may_be_key) {
        Some(store) => {
            draft.store = Some(store.name.clone());
            let name = underscored(&store.name);
            let name = name.trim_end_matches(FOREIGN_KEY);
            let is = |list: &[&str]| list.contains(&name);
            if is(synonyms::DOUBTFUL_STORES) {
                let other = if name == "location" {
                    "a place where the customer is"
                } else {
                    "a customer or a supplier"
                };
                draft.ask(
                    "store",
                    format!(
                        "is {} the store that prepares the order, or {other}?{} Where there is one store only: store = {{ constant = \"1\" }}",
                        store.name,
                        suggested_stores(columns)
                    ),
                );
            } else if is(synonyms::LIKELY_STORES) {
                draft.guess(
                    "store",
                    format!("{} is the store whose people receive the order", store.name),
                );
            }
        }
        None => draft.ask(
            "store",
            format!(
                "which column says whose order it is?{} Where there is one store only: store = {{ constant = \"1\" }}",
                suggested_stores(columns)
            ),
        ),
    }
    number(client, table, columns, draft).await
}

/// Finds the column of the number. A column that is null in all newest rows is chosen only if there is no other, and is
/// then a guess.
async fn number(
    client: &impl GenericClient,
    table: &Table,
    columns: &mut Columns<'_>,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let mut empty: Vec<String> = Vec::new();
    while let Some(column) = columns.peek(synonyms::NUMBERS, |column| {
        is_plain(column) && !empty.contains(&column.name)
    }) {
        let newest = draft.key.as_ref().unwrap_or(&column.name);
        let sql = format!(
            "select count(*) > 0 and count(value) = 0 from (select {} as value from {} order by {} desc limit {NEWEST_ROWS}) newest",
            ident(&column.name),
            table.quoted,
            ident(newest)
        );
        if !client.query_one(&sql, &[]).await?.try_get::<_, bool>(0)? {
            columns.use_named(&column.name);
            draft.number = Some(column.name.clone());
            return Ok(());
        }
        empty.push(column.name.clone());
    }
    // The shop may fill the column later. Until then, panels show the key.
    if let Some(first) = empty.first() {
        columns.use_named(first);
        draft.number = Some(first.clone());
        let guess =
            format!("{first} is the number: no row has a value in it, and an order without one is shown by its key");
        draft.guess("number", guess);
    }
    Ok(())
}

/// The part of a question for the column of the store that names the columns that may be it: those with a foreign key,
/// except to customers. A user comes last: it may be the customer, or the person whose booking it is. Empty: there is no
/// such column.
fn suggested_stores(columns: &Columns<'_>) -> String {
    let is = |names: &[&str], column: &TableColumn| names.contains(&&*underscored(&column.name));
    let (users, others): (Vec<_>, Vec<_>) = columns
        .foreign_keys()
        .filter(|(column, _)| !is(synonyms::CUSTOMER_KEYS, column))
        .partition(|(column, _)| is(synonyms::USER_KEYS, column));
    let leads = others.into_iter().take(SUGGESTED_STORES).chain(users);
    let leads: Vec<String> = leads
        .map(|(column, table)| format!("{} ({table})", column.name))
        .collect();
    match leads.is_empty() {
        true => String::new(),
        false => format!(
            " Perhaps one of these, with the table to which it leads: {}.",
            leads.join(", ")
        ),
    }
}
