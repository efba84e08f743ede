//! Attaches the tables `orders` and `bookings` of the reference shop, which Vestnik itself creates. The mappings are in
//! `sql/shop/*.toml`.

use tokio_postgres::Client;
use toml::{Table as Toml, Value};

use super::{Error, Progress};
use crate::sources::attach::{self, Attached, Options};
use crate::sources::catalog::{self, Table};

const TABLES: [(&str, &str); 2] = [
    ("public.orders", include_str!("../../sql/shop/orders.toml")),
    ("public.bookings", include_str!("../../sql/shop/bookings.toml")),
];

/// The status words that Vestnik writes into the reference shop's tables when somebody answers an order or booking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShopWords {
    /// The words before the migration V23: `new` and `confirmed`.
    BeforeV23,
    /// The words since the migration V23: `pending` and `preparing`.
    SinceV23,
}

/// Attaches the tables `orders` and `bookings`. If somebody then answers an order, Vestnik writes the status words of
/// V23 (such as `preparing`) into the table. A mapping that the shop's owner has changed is kept. Returns whether
/// anything changed.
pub async fn attach(client: &mut Client, say: Progress<'_>) -> Result<bool, Error> {
    attach_as(client, ShopWords::SinceV23, say).await
}

/// Attaches the tables `orders` and `bookings`. `words` selects the status words that Vestnik writes into the tables
/// when somebody answers an order or booking. Returns whether anything changed.
pub async fn attach_as(client: &mut Client, words: ShopWords, say: Progress<'_>) -> Result<bool, Error> {
    const KNOWN: &str = "select mapping from vestnik.vst_source where table_name = $1 and detached_at is null";
    let mut changed = false;
    for (name, reference) in TABLES {
        let table = match Table::find(client, name).await {
            Ok(table) => table,
            // The undo of the migration V23 must succeed even if the shop has only one of the two tables.
            Err(catalog::Error::NoTable(_)) if words == ShopWords::BeforeV23 => continue,
            Err(error) => return Err(attach::Error::from(error).into()),
        };
        let meant = without_missing(&in_words(reference, words), &table);
        let known: Option<String> = client
            .query_opt(KNOWN, &[&name])
            .await?
            .map(|row| row.try_get(0))
            .transpose()?;
        let is_ours = |known: String| {
            [ShopWords::BeforeV23, ShopWords::SinceV23]
                .iter()
                .any(|words| is_part_of(&known, &in_words(reference, *words)))
        };
        if known.is_some_and(|known| !is_ours(known)) {
            continue;
        }
        let attached = attach::attach(client, &meant, Options::default(), say).await;
        let attached = attached.map_err(|problem| match problem {
            attach::Error::Unfit { .. } => Error::Reference { table: name, problem },
            problem => problem.into(),
        });
        match attached? {
            Attached::Unchanged(_) => {}
            Attached::New(_) => {
                say(&format!("attached {name}"));
                changed = true;
            }
            Attached::Changed(_) => {
                say(&format!("attached {name} again"));
                changed = true;
            }
        }
    }
    Ok(changed)
}

/// Whether the mapping `whole` contains every key of `mapping` with an equal value. `whole` may have more keys.
fn is_part_of(mapping: &str, whole: &str) -> bool {
    fn all_in(part: &Toml, whole: &Toml) -> bool {
        part.iter().all(|(key, value)| match (value, whole.get(key)) {
            (Value::Table(part), Some(Value::Table(whole))) => all_in(part, whole),
            (value, found) => found == Some(value),
        })
    }
    match (mapping.parse(), whole.parse()) {
        (Ok(part), Ok(whole)) => all_in(&part, &whole),
        _ => false,
    }
}

/// Returns a mapping of the reference shop with its status words in another order. In each list, the word that `words`
/// selects is first: `SinceV23` gives `["pending", "new"]`, and `BeforeV23` gives `["new", "pending"]`. When somebody
/// answers an order, Vestnik writes the first word of a list into the table.
fn in_words(mapping: &str, words: ShopWords) -> String {
    match words {
        ShopWords::SinceV23 => mapping.to_owned(),
        ShopWords::BeforeV23 => mapping
            .replace(r#"["pending", "new"]"#, r#"["new", "pending"]"#)
            .replace(r#"["preparing", "confirmed"]"#, r#"["confirmed", "preparing"]"#),
    }
}

/// Removes from a mapping the columns that the table does not have, because old reference shops lack some columns. The
/// columns for key, store and status are never removed, because a mapping requires them.
fn without_missing(mapping: &str, table: &Table) -> String {
    let Ok(mut toml) = mapping.parse::<Toml>() else {
        return mapping.to_owned();
    };
    let column = |value: &Value| match value {
        Value::String(name) => Some(name.clone()),
        Value::Table(table) => table.get("column").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let is_missing = |value: &Value| column(value).is_some_and(|name| table.column(&name).is_none());
    let before = toml.clone();
    for section in ["fields", "answer"] {
        if let Some(Value::Table(section)) = toml.get_mut(section) {
            section.retain(|_, value| !is_missing(value));
        }
    }
    toml.retain(|key, value| !(key == "number" || key == "items") || !is_missing(value));
    match toml == before {
        true => mapping.to_owned(),
        false => toml::to_string(&toml).unwrap_or_else(|_| mapping.to_owned()),
    }
}
