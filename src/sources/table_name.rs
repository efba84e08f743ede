//! Reads the name of a table as SQL writes it, such as `orders` or `shop."tabSales Order"`.

/// Maximum length of a name in Postgres, bytes.
const NAME_BYTES: usize = 63;

/// The name of a table, without quotes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TableName {
    /// `None`: the name has no schema.
    pub schema: Option<String>,
    pub name: String,
}

impl TableName {
    /// Reads a name. As in Postgres, a part without quotes is in lower case. `None`: SQL does not accept the text as a
    /// name.
    pub fn read(text: &str) -> Option<Self> {
        let (first, rest) = part(text.trim())?;
        if rest.is_empty() {
            return Some(Self {
                schema: None,
                name: first,
            });
        }
        let (name, rest) = part(rest.strip_prefix('.')?)?;
        rest.is_empty().then_some(Self {
            schema: Some(first),
            name,
        })
    }
}

/// The first part of a name, and the rest of the text.
fn part(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut rest = quoted;
        loop {
            let (before, after) = rest.split_once('"')?;
            name.push_str(before);
            match after.strip_prefix('"') {
                Some(more) => {
                    name.push('"');
                    rest = more;
                }
                None => return (!name.is_empty()).then(|| (cut(name), after)),
            }
        }
    }
    let is_inner = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii();
    let end = text.find(|c| !is_inner(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_' || !c.is_ascii());
    is_name.then(|| (cut(name.to_ascii_lowercase()), rest))
}

/// A name as Postgres keeps it: at most [`NAME_BYTES`] long.
fn cut(mut name: String) -> String {
    let mut end = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_postgres_reads_them() {
        let read = |text| TableName::read(text).map(|it| (it.schema.unwrap_or_default(), it.name));
        let name = |schema: &str, name: &str| Some((schema.to_owned(), name.to_owned()));
        assert_eq!(read("orders"), name("", "orders"));
        assert_eq!(read("Shop.Orders"), name("shop", "orders"));
        assert_eq!(read("\"tabSales Order\""), name("", "tabSales Order"));
        assert_eq!(read("public.\"a\"\"b.c\""), name("public", "a\"b.c"));
        assert_eq!(read("заказы"), name("", "заказы"));
        let long = "a".repeat(70);
        assert_eq!(read(&long), name("", &long[..63]));
        for wrong in [
            "",
            "tabSales Order",
            "a.b.c",
            "1a",
            "\"a",
            "a.",
            ".a",
            "\"\"",
            "a\"b\"",
            "orders;",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
