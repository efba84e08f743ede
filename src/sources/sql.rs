//! How SQL writes names, texts and the values of columns.

use super::mapping::Column;

/// An identifier as SQL writes it.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL writes it, whatever `standard_conforming_strings` is.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// A path of names into JSON, as an array of texts.
pub fn path_array<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| literal(name)).collect();
    format!("array[{}]", names.join(", "))
}

/// A value of the row `t` as text: a whole column, or what is at its path.
pub fn value_text(column: &Column) -> String {
    let name = ident(&column.name);
    match column.path.is_empty() {
        true => format!("t.{name}::text"),
        false => format!("(t.{name}::jsonb #>> {})", path_array(&column.path)),
    }
}

/// The columns of the row `place` as one JSON object. Each has its name and its type; a column that is gone has none, and is
/// null. What is far too long is left out and named, and what cannot be read costs only itself (`triggers/values.sql`).
pub fn columns_json<'a>(place: &str, columns: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
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
    format!(
        "vestnik.vst_bounded((select vst_part from (select {}) vst_part))",
        columns.join(", ")
    )
}

/// Whether a value of this type, of Postgres' own, may be far too long.
fn is_long(kind: &str) -> bool {
    ["json", "jsonb", "bytea", "xml"].contains(&kind) || kind.ends_with("[]")
}

/// The function of a template, with a quote that does not occur in it where `{quote}` stands. What is before the function is
/// for whoever reads the template.
pub(super) fn quoted(mut template: String) -> String {
    let begin = template.find("create or replace").unwrap_or_default();
    let sql = template.split_off(begin);
    let quote = (0..)
        .map(|number| format!("$vst{number}$"))
        .find(|quote| !sql.contains(quote.as_str()));
    sql.replace("{quote}", &quote.unwrap_or_default())
}
