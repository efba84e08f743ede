//! Formats names, texts and column values as SQL.

/// A name as a quoted SQL identifier.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL literal that is valid for any setting of `standard_conforming_strings`.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// The member names of a path into JSON, as an SQL array of texts.
pub fn path_array<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| literal(name)).collect();
    format!("array[{}]", names.join(", "))
}

/// An SQL expression for the type of the column `a` of `pg_attribute`, for a cast without a precision. `format_type`
/// alone would give `character`, which means `char(1)`.
pub const CAST_TYPE: &str = "case a.atttypid when 'bpchar'::regtype then 'bpchar' when 'bit'::regtype then 'varbit' \
     else format_type(a.atttypid, null) end";

/// An SQL expression for a column of the row `t` as text. `kind` is the column's SQL type. If `path` is not empty, the
/// expression gives the value at this path in the column's JSON; null if the column has no valid JSON.
pub fn value_text(column: &str, path: &[String], kind: &str) -> String {
    let name = ident(column);
    match (path.is_empty(), kind) {
        (true, _) => format!("t.{name}::text"),
        (false, "jsonb") => format!("(t.{name} #>> {})", path_array(path)),
        (false, _) => format!("vestnik.vst_at_path(t.{name}::text, {})", path_array(path)),
    }
}

/// Returns an SQL expression that combines columns of one row into one JSON object. `place` is the row's alias.
/// `columns` has the name and the SQL type of each column. `None` as the type: the table lacks the column, and its
/// value is null. Values that are too long are left out, and the JSON member `vst_omitted` lists the names of their
/// columns. If the row cannot be converted, the object has only the member `vst_unreadable` (`triggers/values.sql`).
pub fn columns_json<'a>(place: &str, columns: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    format!(
        "vestnik.vst_bounded((select vst_part from (select {}) vst_part))",
        short_columns(place, columns)
    )
}

/// Returns an SQL select list. `place` is the row's alias, and `columns` has the name and the SQL type of each column.
/// `None` as the type: the table lacks the column, and its value is null. If a value is far too long to record, the SQL
/// function `vst_short` puts a mark in its place.
pub(super) fn short_columns<'a>(place: &str, columns: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let columns: Vec<String> = columns
        .into_iter()
        .map(|(name, kind)| {
            let name = ident(name);
            match kind {
                None => format!("null as {name}"),
                Some("text" | "character varying") => {
                    format!("vestnik.vst_short({place}.{name}::pg_catalog.text) as {name}")
                }
                Some(kind) if is_long(kind) => format!("vestnik.vst_short({place}.{name}) as {name}"),
                Some(_) => format!("{place}.{name}"),
            }
        })
        .collect();
    columns.join(", ")
}

/// Whether a value of this built-in type may be too long to record.
fn is_long(kind: &str) -> bool {
    ["json", "jsonb", "bytea", "xml"].contains(&kind) || kind.ends_with("[]")
}

/// Extracts the function from a template in `triggers/`, without the comment before it. Replaces `{quote}` with a
/// dollar quote that the function does not contain.
pub(super) fn quoted(mut template: String) -> String {
    let begin = template.find("create or replace").unwrap_or_default();
    let sql = template.split_off(begin);
    let quote = (0..)
        .map(|number| format!("$vst{number}$"))
        .find(|quote| !sql.contains(quote.as_str()));
    sql.replace("{quote}", &quote.unwrap_or_default())
}

/// SQL that selects what the mapping's `[details]` query says about the orders whose keys are in the array `$1`.
pub(super) fn details_sql(query: &str) -> String {
    let query = query.trim().trim_end_matches(';');
    format!("select details.key::text, row_to_json(details)::text from ({query}) details where details.key is not null")
}
