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
