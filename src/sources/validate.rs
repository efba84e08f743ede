//! Validates a mapping against its table: finds missing columns and impossible settings, and gives warnings for the
//! table's owner.

use tokio_postgres::Client;

use crate::infra::db::GenericClient;

use super::access;
use super::catalog::{self, Shape, Table, TableColumn};
use super::items_table::{self, Missing};
use super::mapping::{Column, ItemsRef, Mapping, StoreRef};
use super::sql::ident;
use super::status_words::{self, can_hold};
use crate::domain::money::{Currency, Unit, minor_units};

/// Maximum number of columns that an error about a missing column lists.
const NAMED_COLUMNS: usize = 60;

/// Number of newest rows whose amounts are checked for fractions.
const CHECKED_AMOUNTS: i64 = 20;

/// The result of validating a mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Errors that prevent attaching, one line each. Each line starts with the key in the mapping.
    pub problems: Vec<String>,
    /// Warnings for the table's owner, one line each. A mapping with warnings can be attached.
    pub warnings: Vec<String>,
}

/// Validates a mapping against its table and against the other tables that the mapping names. Also checks row level
/// security for the current role.
pub async fn validate(client: &Client, table: &Table, mapping: &Mapping) -> Result<Findings, catalog::Error> {
    let mut findings = Findings::default();
    columns(table, mapping, &mut findings);
    if table.column(&mapping.key).is_some() {
        key(client, table, &mapping.key, &mut findings).await?;
    }
    let Findings { problems, warnings } = &mut findings;
    status_words::validate(table, mapping, problems, warnings);
    paid_words(table, mapping, &mut findings);
    findings.warnings.extend(date_without_time(table, mapping));
    items(client, table, mapping, &mut findings).await?;
    if let Some(function) = &mapping.answer.function {
        answer_function(client, function, &mut findings).await?;
    }
    if let Some(query) = &mapping.details {
        details(client, query, &mut findings).await?;
    }
    let access = access::row_security(client, table, mapping).await?;
    findings.warnings.extend(access.missing.into_iter().chain(access.notes));
    Ok(findings)
}

/// Warnings that need a lock on the table: about words of its CHECK constraints, and about amounts of its newest rows.
/// `derived/preview.rs` has the warnings about amounts of a derived mapping.
/// Only commands of a person ask for them, because `vestnik migrate` must not wait for a locked table.
pub async fn warnings_of_rows(
    client: &Client,
    table: &Table,
    mapping: &Mapping,
) -> Result<Vec<String>, catalog::Error> {
    let mut warnings = status_words::missing_of_checks(client, table, mapping).await?;
    fractions(client, table, mapping, &mut warnings).await?;
    Ok(warnings)
}

fn columns(table: &Table, mapping: &Mapping, findings: &mut Findings) {
    let there = || {
        let names: Vec<&str> = table
            .columns
            .iter()
            .take(NAMED_COLUMNS)
            .map(|column| column.name.as_str())
            .collect();
        format!("it has {}", names.join(", "))
    };
    let missing = |key: &str, name: &str| match table.column(name) {
        Some(_) => None,
        None => Some(format!("{key}: {} has no column {name}: {}", table.quoted, there())),
    };
    findings.problems.extend(missing("key", &mapping.key));
    if let StoreRef::Column(name) = &mapping.store {
        findings.problems.extend(missing("store", name));
    }
    let mut seen = Vec::new();
    for (key, name) in mapping.answer.columns() {
        findings.problems.extend(missing(&format!("answer.{key}"), name));
        seen.push(Column::whole(name));
    }
    findings.problems.extend(unfit_answer_columns(table, mapping));
    for column in mapping.columns() {
        if seen.contains(column) {
            continue;
        }
        seen.push(column.clone());
        findings.problems.extend(missing(&format!("`{column}`"), &column.name));
        path(table, column, findings);
    }
    for name in mapping
        .recorded_columns()
        .into_iter()
        .filter(|name| name.starts_with("vst_"))
    {
        findings.problems.push(format!(
            "`{name}`: names that begin with vst_ are the engine's own: leave it out"
        ));
    }
}

/// Reports a reference to a JSON value, such as `contact.phone`, if the column `contact` cannot hold JSON.
fn path(table: &Table, column: &Column, findings: &mut Findings) {
    let Some(found) = table.column(&column.name) else {
        return;
    };
    let holds_json =
        matches!(found.base.as_str(), "json" | "jsonb" | "text") || found.base.starts_with("character varying");
    if !column.path.is_empty() && !holds_json {
        findings.problems.push(format!(
            "`{column}`: {} is of type {}, and a dot reaches into JSON only",
            column.name, found.kind
        ));
    }
}

/// Reports a key column that is not unique. Vestnik finds the order of a person's answer by the key, so two rows must
/// not have the same key.
pub(super) async fn key(
    client: &impl GenericClient,
    table: &Table,
    key: &str,
    findings: &mut Findings,
) -> Result<(), catalog::Error> {
    // In a partitioned table, a unique index must contain the partition keys of every level. So the query accepts an
    // index that has the key and any of the partition keys.
    const UNIQUE: &str = "with k as (select attnum from pg_attribute where attrelid = $1 and attname = $2), \
         p as (select coalesce((select array_agg(a.attnum) from pg_partition_tree($1::oid) t join pg_partitioned_table l on l.partrelid = t.relid \
             cross join unnest(l.partattrs::int2[]) n join pg_attribute b on b.attrelid = l.partrelid and b.attnum = n \
             join pg_attribute a on a.attrelid = $1 and a.attname = b.attname), '{}') as attrs) \
         select exists (select from pg_index i, k, p where i.indrelid = $1 and i.indisunique and i.indisvalid and i.indpred is null \
             and i.indexprs is null and k.attnum = any (i.indkey::int2[]) \
             and (i.indkey::int2[])[0:i.indnkeyatts - 1] <@ (array[k.attnum] || p.attrs))";
    let is_unique: bool = client.query_one(UNIQUE, &[&table.oid, &key]).await?.try_get(0)?;
    if is_unique && table.shape == Shape::Plain {
        return Ok(());
    }
    let column = ident(key);
    let twice = format!(
        "select {column}::text, count(*) from {} where {column} is not null group by {column} having count(*) > 1 limit 1",
        table.quoted
    );
    match client.query_opt(&twice, &[]).await? {
        Some(row) => findings.problems.push(format!(
            "key: {key} is not unique: {} rows have {}: choose the column that tells one row of {} from all others",
            row.try_get::<_, i64>(1)?,
            row.try_get::<_, Option<&str>>(0)?.unwrap_or("?"),
            table.quoted
        )),
        None if is_unique => {}
        None if table.shape == Shape::Partitioned => findings.problems.push(format!(
            "key: no index keeps {key} unique but for the columns that {} is partitioned by: choose a column with such an index",
            table.quoted
        )),
        None => findings.problems.push(format!(
            "key: nothing keeps {key} unique: choose a column with a unique index, or make one: \
             create unique index concurrently on {} ({column})",
            table.quoted
        )),
    }
    Ok(())
}

/// Warns if the column `paid` holds words and the mapping does not say which words mean paid. Reports words that the
/// column never holds.
fn paid_words(table: &Table, mapping: &Mapping, findings: &mut Findings) {
    let Some(paid) = &mapping.fields.paid else {
        return;
    };
    let column = table.column(&paid.column.name).filter(|_| paid.column.path.is_empty());
    let Some(column) = column else {
        return;
    };
    for word in paid.words.iter().filter(|word| !can_hold(column, word)) {
        findings.problems.push(format!(
            "fields.paid: {} is of type {} and never holds `{word}`: write the values that it has",
            paid.column, column.kind
        ));
    }
    let holds_words = |base: &str| base == "text" || base.starts_with("character");
    if paid.words.is_empty() && (!column.labels.is_empty() || holds_words(&column.base)) {
        findings.warnings.push(format!(
            "fields.paid: {0} holds words: say which mean paid, or only true, yes and a time do: {{ column = \"{0}\", words = [\"PAID\"] }}",
            paid.column
        ));
    }
}

/// The warning that the time of an order or booking is a column of dates.
fn date_without_time(table: &Table, mapping: &Mapping) -> Option<String> {
    let due = &mapping.fields.due_at.as_ref()?.column;
    let column = table.column(&due.name).filter(|_| due.path.is_empty())?;
    (column.base == "date").then(|| {
        format!(
            "fields.due_at: {due} is a date, and is read as midnight: where another column has the time, let the query of [details] return \
             `({due} + time) at time zone 'Europe/Paris' as due_at`, or else show the date under [extra]"
        )
    })
}

/// The warning that amounts of the newest rows have fractions, but the mapping says that they count minor units, such
/// as cents. `place` is the mapping's key of the amount, `rows` the number of such rows, and `text` one of the amounts.
pub(super) fn fraction_warning(place: &str, rows: usize, text: &str) -> String {
    let read = minor_units(text, Unit::Minor, Currency::DEFAULT).unwrap_or_default();
    let verb = if rows == 1 { "has" } else { "have" };
    format!(
        "{place}: {rows} of the newest rows {verb} a fraction, and `unit = \"minor\"` counts cents: {text} is read as {read} cents: \
         write unit = \"major\" where {text} is an amount of that size"
    )
}

/// Warns if amounts have fractions, but the mapping says that their column counts minor units, such as cents.
async fn fractions(
    client: &impl GenericClient,
    table: &Table,
    mapping: &Mapping,
    warnings: &mut Vec<String>,
) -> Result<(), catalog::Error> {
    let fields = &mapping.fields;
    let newest = format!("{} t order by t.{} desc", table.quoted, ident(&mapping.key));
    for (place, amount) in [
        ("fields.total", &fields.total),
        ("fields.change_from", &fields.change_from),
    ] {
        if let Some(amount) = amount.as_ref().filter(|amount| amount.unit == Some(Unit::Minor)) {
            warnings.extend(fractions_of(client, place, table, &amount.column, &newest).await?);
        }
    }
    if let Some(items) = mapping.items.as_ref().filter(|items| items.unit == Some(Unit::Minor))
        && let (ItemsRef::Table { table: name, order_key }, Some(price)) = (&items.from, &items.price)
        && let Ok(of_items) = Table::find(client, name).await
    {
        let kind = of_items.column(order_key).map_or("text", |column| column.base.as_str());
        let newest = format!(
            "{} t where t.{} = any ((select array_agg(o.key) from (select o.{key}::text as key from {} o order by o.{key} desc limit $1) o)::{kind}[])",
            of_items.quoted,
            ident(order_key),
            table.quoted,
            key = ident(&mapping.key),
        );
        warnings.extend(fractions_of(client, "items.price", &of_items, price, &newest).await?);
    }
    Ok(())
}

/// The warning about fractions in the column `amount` of `table`. `newest` selects the newest rows, as the end of an
/// SQL query with the table's alias `t`. `None`: no amount has a fraction, or the column cannot be read.
async fn fractions_of(
    client: &impl GenericClient,
    place: &str,
    table: &Table,
    amount: &Column,
    newest: &str,
) -> Result<Option<String>, catalog::Error> {
    let has_fractions = |base: &str| base.starts_with("numeric") || matches!(base, "real" | "double precision");
    let column = table.column(&amount.name).filter(|_| amount.path.is_empty());
    if !column.is_some_and(|column| has_fractions(&column.base)) {
        return Ok(None);
    }
    let sql = format!(
        "select count(*), min(amount::text) from (select t.{}::numeric as amount from {newest} limit $1) newest \
         where amount <> trunc(amount)",
        ident(&amount.name),
    );
    // A right that is missing, or a missing key, is reported elsewhere.
    let found = match client.query_one(&sql, &[&CHECKED_AMOUNTS]).await {
        Err(error) if error.as_db_error().is_some() => return Ok(None),
        found => found?,
    };
    let (rows, text): (i64, Option<&str>) = (found.try_get(0)?, found.try_get(1)?);
    let rows = usize::try_from(rows).unwrap_or_default();
    Ok(text.map(|text| fraction_warning(place, rows, text)))
}

async fn items(
    client: &impl GenericClient,
    orders: &Table,
    mapping: &Mapping,
    findings: &mut Findings,
) -> Result<(), catalog::Error> {
    let Some(items) = &mapping.items else { return Ok(()) };
    let ItemsRef::Table { table: name, order_key } = &items.from else {
        return Ok(());
    };
    let (found, lacking) = match items_table::missing(client, items, name, order_key).await? {
        Missing::Table(problem) => {
            findings.problems.push(format!("items.table: {problem}"));
            return Ok(());
        }
        Missing::Columns(found, lacking) => (found, lacking),
    };
    for (key, column) in lacking {
        let names: Vec<&str> = found
            .columns
            .iter()
            .take(NAMED_COLUMNS)
            .map(|column| column.name.as_str())
            .collect();
        findings.problems.push(format!(
            "items.{key}: {} has no column {column}: it has {}",
            found.quoted,
            names.join(", ")
        ));
    }
    if let Some(other) = found.other_column_with_key(order_key, orders, &mapping.key) {
        findings.warnings.push(format!(
            "items.order_key: column {order_key} has no foreign key to {}, and column {} has one: if that holds the order's key, \
             write order_key = \"{}\"",
            orders.quoted, other.name, other.name
        ));
    }
    let index = "select exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] \
         where i.indrelid = $1 and i.indisvalid and a.attname = $2)";
    if !client
        .query_one(index, &[&found.oid, order_key])
        .await?
        .try_get::<_, bool>(0)?
    {
        let column = ident(order_key);
        findings.warnings.push(format!(
            "items: {} has no index on {order_key}, so each order reads all of it: create index concurrently on {} ({column})",
            found.quoted, found.quoted
        ));
    }
    Ok(())
}

async fn answer_function(
    client: &impl GenericClient,
    function: &str,
    findings: &mut Findings,
) -> Result<(), catalog::Error> {
    const FUNCTION: &str = "select to_regprocedure($1 || '(text, text, text, integer, text)') is not null";
    let found = match client.query_one(FUNCTION, &[&function]).await {
        Ok(row) => row.try_get(0)?,
        Err(error) if error.as_db_error().is_some() => false,
        Err(error) => return Err(error.into()),
    };
    if !found {
        findings.problems.push(format!(
            "answer.function: there is no function {function}(key text, status text, reason text, minutes integer, by text)"
        ));
    }
    Ok(())
}

async fn details(client: &Client, query: &str, findings: &mut Findings) -> Result<(), catalog::Error> {
    match client
        .prepare_typed(query, &[tokio_postgres::types::Type::TEXT_ARRAY])
        .await
    {
        Ok(statement) if statement.columns().iter().any(|column| column.name() == "key") => {}
        Ok(_) => findings
            .problems
            .push("details.query: has no column `key`: it says which order a row is about".to_owned()),
        Err(error) if error.as_db_error().is_some() => {
            findings
                .problems
                .push(format!("details.query: {}", crate::infra::db::reason(&error)));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The columns for answers whose type takes no number, one line each. Each answer would fail.
fn unfit_answer_columns(table: &Table, mapping: &Mapping) -> Vec<String> {
    let is_whole = |column: &TableColumn| matches!(&*column.base, "smallint" | "integer" | "bigint");
    let takes_number = |column: &TableColumn| {
        let base = column.base.split('(').next().unwrap_or_default();
        let others = ["numeric", "real", "double precision", "text", "character varying"];
        is_whole(column) || others.contains(&base)
    };
    let named = |name: &Option<String>| name.as_ref().and_then(|name| table.column(name));
    let version = named(&mapping.answer.version).filter(|column| !is_whole(column));
    let minutes = named(&mapping.answer.minutes).filter(|column| !takes_number(column));
    let unfit = [
        ("version", "a whole number", version),
        ("minutes", "a number of minutes", minutes),
    ];
    let line = |(key, wanted, column): (&str, &str, &TableColumn)| {
        format!(
            "answer.{key}: {} is of type {}, and an answer writes {wanted}",
            column.name, column.kind
        )
    };
    unfit
        .into_iter()
        .filter_map(|(key, wanted, column)| Some(line((key, wanted, column?))))
        .collect()
}
