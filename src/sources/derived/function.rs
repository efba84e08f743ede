//! Generates the SQL function that computes the orders of a derived source. The function runs the mapping's SQL
//! expressions as one query for given keys of orders. The function's owner is a role that may only read the tables of
//! the expressions.

use super::super::catalog::Table;
use super::super::sql::{ident, literal, quoted};
use super::{Derived, extra_name, from_clause, joins, key_text};
use crate::domain::event::SourceId;

/// One value of an order, and what its query computes besides it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneValue<'a> {
    /// The name of the value, as in [`all_values`].
    pub name: &'a str,
    /// Whether the query also computes the order's store. Without the store, the query works even if the expression of
    /// the store fails.
    pub with_store: bool,
    /// The numbers of the joins that the query has, counted from 1. See [`join_parts`]. `None`: all joins.
    pub joins: Option<&'a [usize]>,
}

impl<'a> OneValue<'a> {
    /// No value. The query only tests whether the joins work.
    pub fn none(joins: Option<&'a [usize]>) -> Self {
        Self {
            name: "none",
            with_store: false,
            joins,
        }
    }

    /// The parameter `vst_field` of the source's SQL function for this value, such as `total|store|1,3`, or
    /// `total||all` without the store and with all joins.
    pub fn field(&self) -> String {
        let store = if self.with_store { "store" } else { "" };
        let joins = self.joins.map_or_else(
            || "all".to_owned(),
            |joins| joins.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
        );
        format!("{}|{store}|{joins}", self.name)
    }
}

/// The joins of the mapping. If one of them fails, orders are computed with the others.
pub(super) fn join_parts(derived: &Derived) -> Vec<&str> {
    joins::split(&derived.from)
}

/// A value of the parameter `vst_field` of the source's SQL function. With this value, the function returns only the
/// keys of the rows that its owner may read. It then evaluates no expression of the mapping.
pub(super) const KEY: &str = "key";

/// The keys in the rows that the source's SQL function returns for [`KEY`], or for the `keys` query of a watched table.
/// Each row is an array whose first element is the key. A null is left out.
pub(super) fn keys_of(rows: &[tokio_postgres::Row]) -> Result<Vec<String>, tokio_postgres::Error> {
    let mut keys = Vec::new();
    for row in rows {
        keys.extend(row.try_get::<_, Vec<Option<String>>>(0)?.into_iter().next().flatten());
    }
    Ok(keys)
}

/// The name of the SQL function that computes the orders of this derived source.
pub(super) fn name(source: SourceId) -> String {
    format!("vestnik.vst_derive_{}", source.0)
}

/// The name of the source's SQL function with the types of its parameters.
pub(super) fn signature(source: SourceId) -> String {
    format!("{}(text[], text)", name(source))
}

/// The name and the SQL expression of every value of an order, except store and status: the fields, the items, and the
/// extra fields.
pub(super) fn values(derived: &Derived) -> Vec<(String, String)> {
    let fields = derived
        .fields
        .iter()
        .map(|(name, sql)| ((*name).to_owned(), sql.clone()));
    let items = derived.items.iter().map(|query| {
        let query = query.trim().trim_end_matches(';');
        (
            "items".to_owned(),
            format!("select pg_catalog.json_agg(vst_i) from (\n{query}\n) vst_i"),
        )
    });
    let extra = derived
        .extra
        .iter()
        .enumerate()
        .map(|(number, (_, sql))| (extra_name(number), sql.clone()));
    fields.chain(items).chain(extra).collect()
}

/// The name and the SQL expression of every value of an order. Store and status come first.
pub(super) fn all_values(derived: &Derived) -> Vec<(String, String)> {
    let named = [
        ("store".to_owned(), derived.store.clone()),
        ("status".to_owned(), derived.status.clone()),
    ];
    named.into_iter().chain(values(derived)).collect()
}

/// The place of a value's expression in the mapping, such as `derived.total` or `derived.extra.Table`.
pub(super) fn place(derived: &Derived, name: &str) -> String {
    let label = name
        .strip_prefix("extra_")
        .and_then(|number| derived.extra.get(number.parse::<usize>().ok()?));
    match label {
        Some((label, _)) => format!("derived.extra.{label}"),
        None => format!("derived.{name}"),
    }
}

/// SQL that selects rows of the shop's table by `condition`, an SQL condition. In the condition, the table has the
/// alias `o`. For each row, the SQL returns one text array: key, store, status, and all values as a JSON object. If the
/// database has another encoding than UTF-8, `vst_readable` replaces each character that cannot be sent to clients.
pub(super) fn select(table: &str, derived: &Derived, condition: &str) -> String {
    let values = values(derived)
        .into_iter()
        .map(|(name, sql)| format!("{}, ({sql}\n)", literal(&name)));
    format!(
        "select array[{key}, vestnik.vst_readable(({store}\n)::pg_catalog.text), vestnik.vst_readable(({status}\n)::pg_catalog.text),\n    vestnik.vst_readable(pg_catalog.json_build_object({values})::pg_catalog.text)]\nfrom {from}\nwhere {condition}",
        key = readable_key(derived),
        store = derived.store,
        status = derived.status,
        values = values.collect::<Vec<_>>().join(",\n    "),
        from = from_clause(table, derived),
    )
}

/// The SQL that creates the source's function. If the parameter `vst_field` is null, the function computes whole
/// orders; otherwise it computes the one value that `vst_field` names. The projector can therefore compute an order
/// value by value, and an expression that fails affects no other value.
pub(super) fn sql(source: SourceId, table: &Table, derived: &Derived) -> String {
    let condition = has_key(table, derived, "vst_keys");
    let whole = select(&table.quoted, derived, &condition);
    let mut branches = String::new();
    branches.push_str(&format!(
        "    elsif vst_field = {field} then\n        return query select array[{key}, null, null, null] from {table} o where {condition};\n",
        field = literal(KEY),
        key = readable_key(derived),
        table = table.quoted,
    ));
    for (number, watch) in derived.watch.iter().enumerate() {
        if let Some(keys) = &watch.keys {
            let keys = keys.trim().trim_end_matches(';');
            branches.push_str(&format!(
                "    elsif vst_field = {field} then\n        return query select array[vestnik.vst_readable(vst_k.key::pg_catalog.text), null, null, null] from (\n{keys}\n) vst_k (key);\n",
                field = literal(&watch_name(number + 1)),
            ));
        }
    }
    quoted(format!(
        "create or replace function {name}(vst_keys text[], vst_field text) returns setof text[]\n\
         language plpgsql stable security definer set search_path = {schema}, pg_temp as {{quote}}\n\
         #variable_conflict use_column\n\
         begin\n    if vst_field is null then\n        return query {whole};\n{branches}    else\n{one_value}    end if;\nend {{quote}};",
        name = name(source),
        schema = ident(&table.schema),
        one_value = one_value(table, derived),
    ))
}

/// The part of the source's function that computes one value. It builds the query from the parts that
/// [`OneValue::field`] names.
fn one_value(table: &Table, derived: &Derived) -> String {
    let texts = all_values(derived);
    let texts = texts
        .iter()
        .map(|(name, sql)| format!("when {} then {}", literal(name), literal(sql)));
    let joins = join_parts(derived)
        .into_iter()
        .map(|join| literal(&format!("{join}\n")));
    let store = format!("vestnik.vst_readable(({}\n)::pg_catalog.text)", derived.store);
    format!(
        "        return query execute pg_catalog.concat({select}, case pg_catalog.split_part(vst_field, '|', 2) when 'store' then {store} else 'null' end,\n\
             {null}, case pg_catalog.split_part(vst_field, '|', 1)\n            {texts} else 'null' end, {from},\n\
             (select pg_catalog.string_agg(vst_j.sql, '' order by vst_j.number) from pg_catalog.unnest(array[{joins}]::pg_catalog.text[]) with ordinality vst_j (sql, number)\n\
                 where pg_catalog.split_part(vst_field, '|', 3) = 'all' or vst_j.number::pg_catalog.text = any (pg_catalog.string_to_array(pg_catalog.split_part(vst_field, '|', 3), ','))),\n\
             {condition})\n            using vst_keys, pg_catalog.split_part(vst_field, '|', 1);\n",
        select = literal(&format!("select array[{}, ", readable_key(derived))),
        store = literal(&store),
        null = literal(", null, vestnik.vst_readable(pg_catalog.json_build_object($2, ("),
        texts = texts.collect::<Vec<_>>().join("\n            "),
        from = literal(&format!("\n))::pg_catalog.text)]\nfrom {} o\n", table.quoted)),
        joins = joins.collect::<Vec<_>>().join(", "),
        condition = literal(&format!("where {}", has_key(table, derived, "$1"))),
    )
}

/// Returns an SQL condition: the key of the row `o` is in `keys`, an SQL expression for a text array. The array is cast
/// to the type of the key column, so that Postgres can use an index.
pub(super) fn has_key(table: &Table, derived: &Derived, keys: &str) -> String {
    let kind = table.column(&derived.key).map_or("text", |column| column.base.as_str());
    format!("o.{} = any ({keys}::{kind}[])", ident(&derived.key))
}

fn readable_key(derived: &Derived) -> String {
    format!("vestnik.vst_readable({})", key_text(derived))
}

/// The value of the parameter `vst_field` with which the source's SQL function runs the `keys` query of a watched
/// table. The query finds the orders that a row of this table affects. `number` is the table's number, counted from 1.
pub(super) fn watch_name(number: usize) -> String {
    format!("watch {number}")
}
