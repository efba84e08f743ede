//! Formats names, texts and column values as SQL.

/// Quotes an identifier.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text; valid for any `standard_conforming_strings`.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// A path of names into JSON, as an SQL array of texts.
pub fn path_array<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| literal(name)).collect();
    format!("array[{}]", names.join(", "))
}

/// A value of the row `t` as text: the whole column, or the value at a path in its JSON.
pub fn value_text(column: &str, path: &[String]) -> String {
    let name = ident(column);
    match path.is_empty() {
        true => format!("t.{name}::text"),
        false => format!("(t.{name}::jsonb #>> {})", path_array(path)),
    }
}

/// The columns of the row `place` as one JSON object. Each column has a name and a type; a missing column has no type,
/// and is null. A value that is too long is omitted and named. An unreadable value affects only itself
/// (`triggers/values.sql`).
pub fn columns_json<'a>(place: &str, columns: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    format!(
        "vestnik.vst_bounded((select vst_part from (select {}) vst_part))",
        short_columns(place, columns)
    )
}

/// The same columns as a select list, each value that is far too long replaced by a mark.
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

/// Extracts the function of a template, and replaces `{quote}` with a dollar quote that the function does not contain.
/// The text before the function is documentation.
pub(super) fn quoted(mut template: String) -> String {
    let begin = template.find("create or replace").unwrap_or_default();
    let sql = template.split_off(begin);
    let quote = (0..)
        .map(|number| format!("$vst{number}$"))
        .find(|quote| !sql.contains(quote.as_str()));
    sql.replace("{quote}", &quote.unwrap_or_default())
}
