//! Runs the queries of a look-up: the query for the items in a separate table, and the mapping's `[details]` query. If
//! one of them fails, the other still gives its data.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::Source;
use super::items::LISTED_ITEMS;
use super::lookup_parts::{Part, Parts};
use super::mapping::{Column, Items, ItemsRef};
use super::sql::{CAST_TYPE, details_sql, ident, path_array, value_text};
use super::yes_no::says_no_sql;
use crate::infra::db::GenericClient;

/// Maximum number of statements of one part of a look-up. If the values of some orders make the statement fail, the
/// further statements find these orders, so that all others get their data.
const MOST_STATEMENTS: usize = 24;

/// The result of a look-up of several orders.
#[derive(Debug, Default)]
pub struct Found {
    /// The data as one JSON object for the key of each order that has any.
    pub orders: HashMap<String, String>,
    /// What failed. The data of these parts is missing in `orders`.
    pub failed: Vec<Failed>,
}

/// A part of a look-up that failed.
#[derive(Debug)]
pub struct Failed {
    /// The part.
    pub part: Part,
    /// The keys of the orders whose values made the query fail. `None`: the query failed for all orders.
    pub keys: Option<Vec<Arc<str>>>,
    /// The error of the query.
    pub error: tokio_postgres::Error,
}

impl Failed {
    /// The key of the first order whose values made the query fail. `None`: the query failed for all orders.
    pub fn first_key(&self) -> Option<&str> {
        self.keys.as_ref()?.first().map(|key| &**key)
    }
}

/// Looks up the parts `wanted` of a source's orders in other tables. `keys` has the keys of the orders. If the query of
/// a part fails, the function rolls back to a savepoint, so that the transaction goes on. An error means that the
/// connection failed.
pub async fn look_up(
    transaction: &impl GenericClient,
    source: &Source,
    keys: &[Arc<str>],
    wanted: Parts,
) -> Result<Found, tokio_postgres::Error> {
    let mut found = Found::default();
    for part in source.parts().iter().filter(|part| wanted.has(*part)) {
        look_up_part(transaction, source, keys, part, &mut found).await?;
    }
    Ok(found)
}

/// Looks up one part. If the values of an order make the query fail, halves the orders until this order is alone.
async fn look_up_part(
    transaction: &impl GenericClient,
    source: &Source,
    keys: &[Arc<str>],
    part: Part,
    found: &mut Found,
) -> Result<(), tokio_postgres::Error> {
    let mut to_read = vec![keys];
    let mut unread: Option<(Vec<Arc<str>>, tokio_postgres::Error)> = None;
    let mut statements = 0;
    while let Some(keys) = to_read.pop() {
        // The next savepoint of this name hides this one, and the end of the transaction releases both.
        transaction.batch_execute("savepoint vst_part").await?;
        statements += 1;
        let rows = match part {
            Part::Details => details(transaction, source, keys).await,
            Part::Items => items(transaction, source, keys).await,
        };
        let error = match rows {
            Ok(rows) => {
                rows.into_iter().for_each(|row| found.add(part, row));
                continue;
            }
            Err(error) if error.as_db_error().is_some() => error,
            Err(error) => return Err(error),
        };
        transaction.batch_execute("rollback to savepoint vst_part").await?;
        if !is_of_values(&error) {
            found.failed.push(Failed {
                part,
                keys: None,
                error,
            });
            return Ok(());
        }
        if keys.len() > 1 && statements + to_read.len() < MOST_STATEMENTS {
            let (first, last) = keys.split_at(keys.len() / 2);
            to_read.extend([last, first]);
        } else {
            let known = unread.map(|(known, _)| known).unwrap_or_default();
            unread = Some(([known, keys.to_vec()].concat(), error));
        }
    }
    if let Some((unread, error)) = unread {
        // A query that fails for each of several orders is wrong itself.
        let is_query = unread.len() == keys.len() && keys.len() > 1;
        let keys = (!is_query).then_some(unread);
        found.failed.push(Failed { part, keys, error });
    }
    Ok(())
}

/// Whether the values of some orders cause the error, such as a text that is no number. The query may work for other
/// orders.
fn is_of_values(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map_or("", SqlState::code);
    code.starts_with("22") || error.code() == Some(&SqlState::CARDINALITY_VIOLATION)
}

impl Found {
    /// Adds the key of an order, and the JSON that the query of this part returned for it.
    fn add(&mut self, part: Part, (key, json): (String, String)) {
        let more = match part {
            Part::Details => json,
            Part::Items => format!("{{\"items\":{json}}}"),
        };
        let known = self.orders.remove(&key);
        let all = match known {
            // Of two members with one name, the last counts. The items of the table come last, because a `[details]`
            // query may have a column `items`, too.
            Some(known) if part == Part::Details => merged(&more, &known),
            Some(known) => merged(&known, &more),
            None => more,
        };
        self.orders.insert(key, all);
    }
}

/// One JSON object with the members of two.
fn merged(first: &str, last: &str) -> String {
    let inner = |object: &str| {
        let object = object.trim();
        let inner = object.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
        inner.unwrap_or_default().trim().to_owned()
    };
    let members = [inner(first), inner(last)];
    let members: Vec<&str> = members
        .iter()
        .map(String::as_str)
        .filter(|members| !members.is_empty())
        .collect();
    format!("{{{}}}", members.join(","))
}

/// Runs the mapping's `[details]` query for the orders with these keys. Returns the key of each row, and the row as a
/// JSON object.
async fn details(
    transaction: &impl GenericClient,
    source: &Source,
    keys: &[Arc<str>],
) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
    match &source.mapping.details {
        Some(query) => rows(transaction, &details_sql(query), keys).await,
        None => Ok(Vec::new()),
    }
}

/// Selects the items of the orders with these keys from their table. Returns the key of each order with items, and its
/// items as a JSON array.
async fn items(
    transaction: &impl GenericClient,
    source: &Source,
    keys: &[Arc<str>],
) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
    let Some(items) = &source.mapping.items else {
        return Ok(Vec::new());
    };
    match &items.from {
        ItemsRef::Table { table, order_key } => {
            let sql = items_sql(transaction, items, table, order_key).await?;
            rows(transaction, &sql, keys).await
        }
        ItemsRef::Column(_) => Ok(Vec::new()),
    }
}

async fn rows(
    transaction: &impl GenericClient,
    sql: &str,
    keys: &[Arc<str>],
) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
    let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
    let rows = transaction.query_typed(sql, &[(&keys, Type::TEXT_ARRAY)]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// SQL that selects the items of the orders whose keys are in the array `$1`. The columns get Vestnik's names, such as
/// `name` and `quantity`. Items are sorted by the primary key of their table.
pub(super) async fn items_sql(
    transaction: &impl GenericClient,
    items: &Items,
    table: &str,
    order_key: &str,
) -> Result<String, tokio_postgres::Error> {
    let facts = format!(
        "select {CAST_TYPE}, \
             array(select quote_ident(p.attname) from pg_index i join pg_attribute p on p.attrelid = i.indrelid and p.attnum = any (i.indkey::int2[]) \
                   where i.indrelid = a.attrelid and i.indisprimary order by array_position(i.indkey::int2[], p.attnum)), \
             (select relkind = 'v' from pg_class where oid = a.attrelid) \
         from pg_attribute a where a.attrelid = to_regclass($1) and a.attname = $2 and not a.attisdropped"
    );
    let row = transaction
        .query_typed_opt(&facts, &[(&table, Type::TEXT), (&order_key, Type::TEXT)])
        .await?;
    let (kind, primary, is_view): (String, Vec<String>, bool) = match row {
        Some(row) => (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?),
        // The items table or its column is missing. Return a statement anyway: Postgres then gives an error that names
        // the missing table or column.
        None => ("text".to_owned(), Vec::new(), false),
    };
    let key = ident(order_key);
    let named = items
        .named_columns()
        .filter(|(name, _)| *name != "deleted_at")
        .map(|(name, column)| format!("{} as {name}", expression(column)));
    let named: Vec<String> = named.collect();
    let order = match primary.as_slice() {
        // The shop may have put a view in the place of the table. The rows of a view have no place.
        [] if is_view => key.clone(),
        [] => "ctid".to_owned(),
        primary => primary.join(", "),
    };
    let alive = items.deleted_at.as_ref().map_or_else(String::new, |column| {
        format!(" and {}", says_no_sql(&value_text(&column.name, &column.path, "text")))
    });
    let (wanted, rows) = match has_one_text(&kind) {
        true => (
            format!("{key}::text"),
            format!("{table} t where {key} = any ($1::text[]::{kind}[])"),
        ),
        // Such a key may stand in another text form beside the item, such as in another case.
        false => (
            "wanted".to_owned(),
            format!("unnest($1::text[]) wanted join {table} t on t.{key} = wanted::{kind} where true"),
        ),
    };
    Ok(format!(
        "select key, json_agg(item order by place)::text from ( \
             select {wanted} as key, row_number() over (partition by {wanted} order by {order}) as place, \
                 row_to_json((select one from (select {columns}) one)) as item \
             from {rows}{alive}) listed \
         where place <= {most} group by key",
        columns = named.join(", "),
        most = LISTED_ITEMS + 1,
    ))
}

/// Whether equal values of this type have the same text.
fn has_one_text(kind: &str) -> bool {
    const ONE_TEXT: [&str; 7] = [
        "smallint",
        "integer",
        "bigint",
        "uuid",
        "text",
        "character varying",
        "bpchar",
    ];
    ONE_TEXT.contains(&kind)
}

/// An SQL expression for a column of an items table. If the column has a path, the expression gives the value at this
/// path in the column's JSON.
fn expression(column: &Column) -> String {
    let name = ident(&column.name);
    if column.path.is_empty() {
        return name;
    }
    format!("{name}::jsonb #> {}", path_array(&column.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_items_of_the_table_come_last_in_either_order() {
        let details = (
            "1".to_owned(),
            r#"{"key":"1","place":{"floor":{"number":2}},"items":null}"#.to_owned(),
        );
        let items = ("1".to_owned(), r#"[{"name":"Soup"}]"#.to_owned());
        let whole = r#"{"key":"1","place":{"floor":{"number":2}},"items":null,"items":[{"name":"Soup"}]}"#;
        for parts in [[Part::Items, Part::Details], [Part::Details, Part::Items]] {
            let mut found = Found::default();
            for part in parts {
                let row = if part == Part::Items { &items } else { &details };
                found.add(part, row.clone());
            }
            assert_eq!(found.orders["1"], whole);
        }
        assert_eq!(merged("{}", "{\"a\":1}"), "{\"a\":1}");
    }
}
