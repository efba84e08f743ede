//! Parses a derived mapping: the section `[derived]`, and the SQL statements in `[answer]`.

use std::time::Duration;

use toml::Value;

use super::{Section, kind};
use crate::domain::status::Status;
use crate::sources::mapping::Mapping;
use crate::sources::mapping::derived::{Derived, FIELDS, Watch};
use crate::sources::zone::USUAL_ZONE;

/// Maximum wait for the items of an order if the mapping does not set it, milliseconds.
const WAIT_FOR_ITEMS_MS: i64 = 3000;
/// Maximum wait for items that a mapping may set, milliseconds.
const MAX_WAIT_FOR_ITEMS_MS: i64 = 60_000;

/// Keys at the top level of an ordinary mapping. In a derived mapping (one with SQL expressions), these keys belong to
/// the section `[derived]`.
const DIRECT_KEYS: [&str; 4] = ["store", "number", "status", "currency"];
/// Sections that are allowed only in a mapping without `[derived]`.
const DIRECT_SECTIONS: [&str; 4] = ["fields", "items", "details", "extra"];
/// Keys of the section `[answer]` that are allowed only in a mapping without `[derived]`.
const DIRECT_ANSWERS: [&str; 7] = [
    "updated_at",
    "accepted_at",
    "reason",
    "minutes",
    "version",
    "function",
    "zone",
];

/// Parses a mapping that has a section `[derived]`. `None`: a required key is missing. `top.problems` then names the
/// missing key.
pub(super) fn whole(top: &mut Section<'_>) -> Option<Mapping> {
    let table = top.required("table", "the table with its schema, such as 'public.orders'");
    let kind = kind(top);
    let name = top.text("name");
    let key = top.required("key", "the column of the row's key");
    let (answers, url) = answers(top);
    for key in DIRECT_KEYS {
        if top.take(key).is_some() {
            top.problem(
                key,
                format!("is not for a mapping with [derived]: write `{key}` there, as an SQL expression"),
            );
        }
    }
    for key in DIRECT_SECTIONS {
        if top.take(key).is_some() {
            top.problem(
                key,
                "is not for a mapping with [derived]: write its values there, as SQL expressions",
            );
        }
    }
    let mut section = top.below("derived")?;
    let from = section.text("from").unwrap_or_default();
    let is_zone_named = section.table.contains_key("zone");
    let zone = section.zone(USUAL_ZONE);
    let unit = section.unit();
    let store = section.required("store", "SQL for the store's id, such as \"o.store_id\" or \"'1'\"");
    let status = section.required(
        "status",
        "SQL for the status: pending, preparing, ready, delivering, completed, rejected, cancelled or hidden",
    );
    let mut fields = Vec::new();
    for field in FIELDS {
        fields.extend(section.text(field).map(|sql| (field, sql)));
    }
    let items = section.text("items");
    let wait = wait(&mut section);
    let extra = extra(&mut section);
    let watch = watch(&mut section);
    section.finish();
    let derived = Derived {
        key: key?,
        from,
        store: store?,
        status: status?,
        fields,
        extra,
        items,
        unit,
        zone,
        is_zone_named,
        wait_for_items: wait,
        watch,
        answers,
    };
    Some(derived.mapping(table?, kind?, name, url))
}

fn wait(section: &mut Section<'_>) -> Duration {
    let milliseconds = match section.take("wait_for_items_ms") {
        None => WAIT_FOR_ITEMS_MS,
        Some(Value::Integer(given)) if (0..=MAX_WAIT_FOR_ITEMS_MS).contains(&given) => given,
        Some(_) => {
            section.problem(
                "wait_for_items_ms",
                format!("must be a number of milliseconds up to {MAX_WAIT_FOR_ITEMS_MS}"),
            );
            WAIT_FOR_ITEMS_MS
        }
    };
    Duration::from_millis(milliseconds.unsigned_abs())
}

/// Reads the extra fields: the label and the SQL expression of each.
fn extra(section: &mut Section<'_>) -> Vec<(String, String)> {
    let table = match section.take("extra") {
        None => return Vec::new(),
        Some(Value::Table(table)) => table,
        Some(_) => {
            section.problem("extra", "must be a table of labels, each with an expression");
            return Vec::new();
        }
    };
    let mut extra = Vec::new();
    for (label, sql) in table {
        match sql {
            Value::String(sql) if !sql.trim().is_empty() => extra.push((label, sql)),
            _ => section.problem("extra", format!("`{label}` must be an expression in quotes")),
        }
    }
    extra
}

fn watch(section: &mut Section<'_>) -> Vec<Watch> {
    let tables = match section.take("watch") {
        None => return Vec::new(),
        Some(Value::Array(tables)) => tables,
        Some(_) => {
            section.problem("watch", "must be a list: [[derived.watch]]");
            return Vec::new();
        }
    };
    let mut watched = Vec::new();
    for (number, value) in tables.into_iter().enumerate() {
        let Value::Table(table) = value else {
            section.problem("watch", "must be a list of tables: [[derived.watch]]");
            continue;
        };
        let mut one = Section {
            path: format!("{}[{}]", section.place("watch"), number + 1),
            table,
            known_keys: Vec::new(),
            problems: section.problems,
        };
        let table = one.required("table", "a table whose rows concern an order");
        let column = one.required("column", "its column that leads to the order's key");
        let keys = one.text("keys");
        one.finish();
        if let (Some(table), Some(column)) = (table, column) {
            watched.push(Watch { table, column, keys });
        }
    }
    watched
}

/// Reads the section `[answer]`: the SQL statements of each status, and the address of the shop's API.
fn answers(top: &mut Section<'_>) -> (Vec<(Status, Vec<String>)>, Option<String>) {
    let Some(mut section) = top.below("answer") else {
        return (Vec::new(), None);
    };
    let url = section.address("url");
    for key in DIRECT_ANSWERS {
        if section.take(key).is_some() {
            section.problem(
                key,
                "is not for a mapping with [derived]: write an SQL statement for each status, such as preparing = \"update ...\"",
            );
        }
    }
    let mut answers = Vec::new();
    for status in Status::ALL {
        let statements = match section.take(status.as_str()) {
            None => continue,
            Some(Value::String(one)) => Some(vec![one]),
            Some(Value::Array(several)) => several.into_iter().map(|one| Some(one.as_str()?.to_owned())).collect(),
            Some(_) => None,
        };
        match statements {
            Some(statements) if statements.iter().all(|one| !one.trim().is_empty()) && !statements.is_empty() => {
                answers.push((status, statements));
            }
            _ => section.problem(status.as_str(), "must be a statement, or a list of statements"),
        }
    }
    section.finish();
    (answers, url)
}
