//! Finds defaults of columns that store a wrong time. `timezone('utc', now())` is a time without a zone. If the column
//! has the type `timestamptz`, Postgres reads this time in the zone of the session, which may not be UTC.

use super::catalog::{self, Table, TableColumn};
use super::mapping::Mapping;
use super::sql::ident;
use crate::infra::db::GenericClient;

/// Names of the zone UTC, in lower case.
const UTC: [&str; 7] = ["utc", "etc/utc", "gmt", "etc/gmt", "uct", "etc/uct", "zulu"];
/// Functions that give the current time.
const NOW: [&str; 5] = [
    "now()",
    "current_timestamp",
    "clock_timestamp()",
    "statement_timestamp()",
    "transaction_timestamp()",
];

/// The warnings about defaults of the mapping's times that store a wrong time, one line each. Postgres reads a default
/// only under a lock on the table, so only commands of a person may ask for these warnings.
pub async fn warnings(
    client: &impl GenericClient,
    table: &Table,
    mapping: &Mapping,
) -> Result<Vec<String>, catalog::Error> {
    let read = |key: &str, column: &TableColumn| match &mapping.derived {
        Some(derived) => {
            let mut fields = derived.fields.iter().filter(|(field, _)| *field == key);
            fields.any(|(_, expression)| has_word(expression, &column.name))
        }
        None => {
            let fields = &mapping.fields;
            let time = match key {
                "due_at" => &fields.due_at,
                _ => &fields.created_at,
            };
            let is = |column_of: &super::mapping::Column| column_of.path.is_empty() && column_of.name == column.name;
            time.as_ref().is_some_and(|time| is(&time.column))
        }
    };
    let is_read = |column: &TableColumn| ["due_at", "created_at"].iter().any(|key| read(key, column));
    let is_zoned =
        |column: &&TableColumn| column.base.starts_with("timestamp") && column.base.contains("with time zone");
    if !table.columns.iter().filter(is_zoned).any(is_read) {
        return Ok(Vec::new());
    }
    let zone: String = client
        .query_one("select current_setting('TimeZone')", &[])
        .await?
        .try_get(0)?;
    let table = table.with_defaults(client).await?;
    let of_column = |column: &TableColumn| {
        let default = column.default.as_deref()?;
        let is_shifted = converted_to(default).is_some_and(|to| !is_same(&to, &zone));
        is_shifted.then(|| {
            format!(
                "{}: its default ({default}) stores a wrong time, because the database's TimeZone is {zone}: \
                 alter table {} alter column {} set default now()",
                column.name,
                table.quoted,
                plain_or_quoted(&column.name)
            )
        })
    };
    let read = table.columns.iter().filter(is_zoned).filter(|column| is_read(column));
    Ok(read.filter_map(of_column).collect())
}

/// The name of the zone, in lower case, to which a default converts the current time. `None`: the default does not give
/// the current time, or converts it twice, which gives the right time again.
fn converted_to(default: &str) -> Option<String> {
    let default = default.to_lowercase();
    if !NOW.iter().any(|now| default.contains(now)) {
        return None;
    }
    let starts = ["timezone('", " at time zone '"];
    let mut zones = starts.iter().flat_map(|start| default.split(start).skip(1));
    let (zone, other) = (zones.next()?, zones.next());
    let zone = zone.split('\'').next()?;
    other.is_none().then(|| zone.to_owned())
}

fn is_same(one: &str, other: &str) -> bool {
    let other = other.to_lowercase();
    one == other || UTC.contains(&one) && UTC.contains(&&*other)
}

/// Whether an SQL expression contains the name as a whole word.
fn has_word(expression: &str, name: &str) -> bool {
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    expression.split(|c: char| !is_of_name(c)).any(|word| word == name)
}

/// A name as a person writes it in SQL.
fn plain_or_quoted(name: &str) -> String {
    let is_plain = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match is_plain {
        true => name.to_owned(),
        false => ident(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversion_of_the_current_time_is_found_in_each_form() {
        for (default, zone) in [
            ("timezone('utc'::text, now())", Some("utc")),
            ("(now() AT TIME ZONE 'UTC'::text)", Some("utc")),
            (
                "(CURRENT_TIMESTAMP AT TIME ZONE 'Europe/Paris'::text)",
                Some("europe/paris"),
            ),
            ("((now() AT TIME ZONE 'utc'::text) AT TIME ZONE 'utc'::text)", None),
            ("timezone('utc'::text, timezone('utc'::text, now()))", None),
            ("now()", None),
            (
                "timezone('utc'::text, '2020-01-01 00:00:00+00'::timestamp with time zone)",
                None,
            ),
        ] {
            assert_eq!(converted_to(default).as_deref(), zone, "{default}");
        }
        assert!(
            is_same("utc", "Etc/UTC") && is_same("europe/paris", "Europe/Paris") && !is_same("utc", "Europe/Paris")
        );
        assert!(has_word("coalesce(o.placed, o.created_at)", "created_at") && !has_word("o.created_at2", "created_at"));
    }
}
