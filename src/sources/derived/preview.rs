//! Computes the newest orders of a derived mapping (a mapping with SQL expressions) before its table is attached. A
//! person can check these orders. The expressions run with the rights that they will have after attaching.

use std::collections::{HashMap, HashSet};

use time::OffsetDateTime;
use tokio_postgres::{Client, Transaction};

use super::super::catalog::{self, Table};
use super::super::lookup_results::LookupResult;
use super::super::mapping::Mapping;
use super::super::preview::Preview;
use super::super::translate::named_currency;
use super::super::{Context, RecordedColumn, Source};
use super::failure::Failure;
use super::order_identity::creation_time;
use super::project::row_json;
use super::savepoint_query::{Attempt, attempt};
use super::trial::Trial;
use super::{Derived, check, fractions, function, watched_rows, with_units};
use crate::domain::Subject;
use crate::domain::event::{SourceId, StoreId};
use crate::domain::money::Currency;
use crate::infra::db;

/// Time limit of each query of the preview, milliseconds.
const STATEMENT_MS: u32 = 5000;

/// The newest orders that a derived mapping (a mapping with SQL expressions) gives, and the expressions that fail.
#[derive(Debug, Default)]
pub struct NewestOrders {
    /// The orders for which every expression works, the newest first.
    pub orders: Vec<Preview>,
    /// One line for each distinct failure: an expression fails, or the mapping's joins return several rows for one
    /// order and store.
    pub problems: Vec<String>,
    /// Whether the table has rows, but each of the newest rows has a failure.
    pub all_fail: bool,
    /// One line for each probable mistake that the newest rows show, such as a join that leaves out rows.
    pub warnings: Vec<String>,
}

/// Computes the newest orders of a derived mapping (a mapping with SQL expressions). `rows` is the maximum number of
/// orders. `None`: the mapping has errors, which [`check()`] reports. All changes to the database are rolled back.
pub async fn newest(
    client: &mut Client,
    table: &Table,
    mapping: &Mapping,
    derived: &Derived,
    currencies: &HashMap<StoreId, Currency>,
    rows: i64,
) -> Result<Option<NewestOrders>, catalog::Error> {
    let mut transaction = client.transaction().await?;
    let checked = check(&mut transaction, table, derived).await?;
    if !checked.findings.problems.is_empty() {
        return Ok(None);
    }
    let source = unattached(table, mapping, &checked.columns);
    let watched = watched_rows::newest(&mut transaction, &checked.watched).await?;
    let trial = Trial::begin(&mut transaction, table, derived, &checked.reads).await?;
    let limit = format!("set local statement_timeout = {STATEMENT_MS}");
    transaction.batch_execute(&limit).await?;
    let found = match attempt(&mut transaction, &trial.newest_rows(table, derived, rows), &[]).await? {
        Attempt::Done(found) => found,
        Attempt::Failed(error) => {
            let problem = format!("derived.from: {}", db::reason(&error));
            return Ok(Some(NewestOrders {
                problems: trial.with_remedies(&transaction, vec![problem], &table.schema).await?,
                all_fail: true,
                ..NewestOrders::default()
            }));
        }
    };
    let (mut keys, mut left_out) = (Vec::new(), Vec::new());
    for row in &found {
        let is_kept: bool = row.try_get(1)?;
        let to: &mut Vec<String> = if is_kept { &mut keys } else { &mut left_out };
        to.push(row.try_get(0)?);
    }
    let mut newest = NewestOrders::default();
    newest
        .warnings
        .extend(rows_without_order(table, &left_out, found.len()));
    let (mut failures, mut values) = (Failures::default(), Vec::new());
    let together = whole(&mut transaction, &trial, table, derived, &keys).await?;
    for key in &keys {
        let one = std::slice::from_ref(key);
        let rows = match &together {
            Attempt::Done(rows) => rows.iter().filter(|row| row.key == *key).cloned().collect(),
            Attempt::Failed(_) => match whole(&mut transaction, &trial, table, derived, one).await? {
                Attempt::Done(rows) => rows,
                Attempt::Failed(error) => {
                    let named = value_failures(&mut transaction, &trial, table, derived, key).await?;
                    match named.is_empty() {
                        true => failures.add(failure(key, "derived".to_owned(), &error)),
                        false => named.into_iter().for_each(|failure| failures.add(failure)),
                    }
                    continue;
                }
            },
        };
        let mut seen: HashMap<Option<StoreId>, Row> = HashMap::new();
        for row in rows {
            let store = row.store.as_ref().filter(|store| !store.is_empty());
            let store = store.map(|store| StoreId::new(store));
            if let Some(first) = seen.get(&store) {
                if *first != row {
                    failures.add(Failure::several_rows(key));
                }
                continue;
            }
            if seen.is_empty() {
                values.push(row.data.clone());
            }
            let known = store.as_ref().and_then(|store| currencies.get(store));
            let currency = known.copied().unwrap_or(Currency::DEFAULT);
            let preview = Preview {
                store: store.clone(),
                subject: subject(&source, derived, key, row.status.as_deref(), &row.data, currency),
                currency: named_currency(&source, &format!("{{\"data\":{}}}", row.data)),
                store_has_currency: known.is_some(),
            };
            newest.orders.push(preview);
            seen.insert(store, row);
        }
    }
    newest.warnings.extend(fractions::warnings(derived, &values));
    newest.all_fail = !keys.is_empty() && failures.keys.len() == keys.len();
    newest.problems = trial
        .with_remedies(&transaction, failures.lines(), &table.schema)
        .await?;
    if !found.is_empty() {
        let of_watched = watched_rows::warnings(&mut transaction, &trial, table, derived, &watched).await?;
        let of_watched = trial.with_remedies(&transaction, of_watched, &table.schema).await?;
        newest.warnings.extend(of_watched);
    }
    transaction.rollback().await?;
    Ok(Some(newest))
}

/// The failures to compute the rows of a preview.
#[derive(Default)]
struct Failures {
    /// Each distinct failure of the previewed rows, and the number of affected orders. The failure has the key of the
    /// newest affected order.
    distinct: Vec<(Failure, usize)>,
    /// The keys of the orders with at least one failure.
    keys: HashSet<String>,
}

impl Failures {
    /// Adds the failure of an order. The caller adds the failures of newer orders first.
    fn add(&mut self, failure: Failure) {
        self.keys.insert(failure.key.clone());
        let is_like_it =
            |known: &&mut (Failure, usize)| (&known.0.place, &known.0.reason) == (&failure.place, &failure.reason);
        match self.distinct.iter_mut().find(is_like_it) {
            Some((_, count)) => *count += 1,
            None => self.distinct.push((failure, 1)),
        }
    }

    fn lines(&self) -> Vec<String> {
        let line = |(newest, count): &(Failure, usize)| match count {
            1 => newest.to_string(),
            _ => format!(
                "{}: {}, for {count} of the newest orders, the newest is the order with key {}",
                newest.place, newest.reason, newest.key
            ),
        };
        self.distinct.iter().map(line).collect()
    }
}

/// The failure of an expression. The error text keeps the values that Postgres quotes, because the person who writes
/// the mapping may see the shop's data.
fn failure(key: &str, place: String, error: &tokio_postgres::Error) -> Failure {
    Failure {
        key: key.to_owned(),
        place,
        reason: db::reason(error),
    }
}

/// The warning that the mapping's joins leave out some of the newest rows of the shop's table. Such rows are no orders,
/// and no expression fails. `left_out` has the keys of these rows, the newest first, and `rows` is the number of all
/// newest rows.
fn rows_without_order(table: &Table, left_out: &[String], rows: usize) -> Option<String> {
    let newest = left_out.first()?;
    let table = &table.quoted;
    let what = match left_out.len() {
        1 if rows == 1 => format!("the newest row of {table} gives no order"),
        count if count == rows => format!("none of the newest {rows} rows of {table} gives an order"),
        1 => format!("1 of the newest {rows} rows of {table} gives no order"),
        count => format!("{count} of the newest {rows} rows of {table} give no order"),
    };
    Some(format!(
        "derived.from: {what}, so nobody sees such rows; the newest is the row with key {newest}: \
         `left join` keeps a row whose joined row is missing, and a join that is to leave out rows may stay"
    ))
}

/// A row of the preview's query. The row is an order in one store.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    key: String,
    store: Option<String>,
    status: Option<String>,
    data: String,
}

async fn whole(
    transaction: &mut Transaction<'_>,
    trial: &Trial,
    table: &Table,
    derived: &Derived,
    keys: &[String],
) -> Result<Attempt<Vec<Row>>, tokio_postgres::Error> {
    let found = match attempt(transaction, &trial.orders(table, derived), &[&keys]).await? {
        Attempt::Done(found) => found,
        Attempt::Failed(error) => return Ok(Attempt::Failed(error)),
    };
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        let row: Vec<Option<String>> = row.try_get(0)?;
        if let [Some(key), store, status, Some(data)] = <[Option<String>; 4]>::try_from(row).unwrap_or_default() {
            rows.push(Row {
                key,
                store,
                status,
                data,
            });
        }
    }
    Ok(Attempt::Done(rows))
}

fn subject(
    source: &Source,
    derived: &Derived,
    key: &str,
    status: Option<&str>,
    data: &str,
    currency: Currency,
) -> Subject {
    let values: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    let created = creation_time(&values, derived);
    let json = row_json(
        key,
        "",
        status.unwrap_or("null"),
        created.unwrap_or(OffsetDateTime::UNIX_EPOCH),
        data,
    );
    let lookup = LookupResult::Nothing;
    let mut subject = source.translate(key, &json, Context { currency, lookup });
    subject.created_at = created;
    subject
}

/// Runs each expression of the mapping alone for one order, and returns a failure for each expression that fails.
async fn value_failures(
    transaction: &mut Transaction<'_>,
    trial: &Trial,
    table: &Table,
    derived: &Derived,
    key: &str,
) -> Result<Vec<Failure>, tokio_postgres::Error> {
    let mut failures = Vec::new();
    for (name, sql) in function::all_values(derived) {
        let one = trial.value(table, derived, &name, &sql);
        if let Attempt::Failed(error) = attempt(transaction, &one, &[&key]).await? {
            failures.push(failure(key, function::place(derived, &name), &error));
        }
    }
    Ok(failures)
}

fn unattached(table: &Table, mapping: &Mapping, columns: &[RecordedColumn]) -> Source {
    Source {
        id: SourceId(0),
        name: mapping.name.clone().unwrap_or_else(|| table.name.clone()).into(),
        table: table.quoted.clone(),
        columns: columns.to_vec(),
        mapping: with_units(mapping.clone(), columns),
        former: None,
    }
}
