//! Shows the newest orders that a derived mapping gives, before its table is attached. The expressions run with the
//! rights that they will have afterwards.

use std::collections::HashMap;

use time::OffsetDateTime;
use tokio_postgres::{Client, Transaction};

use super::super::catalog::{self, Table};
use super::super::changes::Found;
use super::super::mapping::Mapping;
use super::super::preview::Preview;
use super::super::sql::ident;
use super::super::{Context, RecordedColumn, Source, zone};
use super::project::{row_json, several_rows};
use super::{Derived, check, from_clause, function, key_text, reader, with_units};
use crate::domain::Subject;
use crate::domain::event::{SourceId, StoreId};
use crate::domain::money::Currency;
use crate::infra::db;

/// Time limit for computing the orders, milliseconds.
const STATEMENT_MS: u32 = 5000;

/// The newest orders that a derived mapping gives.
#[derive(Debug, Default)]
pub struct Newest {
    /// The orders, the newest first.
    pub orders: Vec<Preview>,
    /// One line for each expression that fails for one of the rows, and for joins that give several rows for an order
    /// of one store.
    pub problems: Vec<String>,
}

/// Computes the newest orders of a derived mapping; `rows` is the maximum number of rows. `None`: the mapping has
/// errors, which [`check()`] reports. All changes to the database are rolled back.
pub async fn newest(
    client: &mut Client,
    table: &Table,
    mapping: &Mapping,
    derived: &Derived,
    currencies: &HashMap<StoreId, Currency>,
    rows: i64,
) -> Result<Option<Newest>, catalog::Error> {
    let mut transaction = client.transaction().await?;
    let checked = check(&mut transaction, table, derived).await?;
    if !checked.findings.problems.is_empty() {
        return Ok(None);
    }
    let source = unattached(table, mapping, &checked.columns);
    if reader::prepare(&mut transaction, &checked.reads).await? {
        reader::become_it(&transaction, table).await?;
    } else {
        transaction
            .batch_execute("set local transaction_read_only = on")
            .await?;
    }
    transaction
        .batch_execute(&format!("set local statement_timeout = {STATEMENT_MS}"))
        .await?;
    let column = ident(&derived.key);
    let condition = format!(
        "o.{column} = any (array(select newest.{column} from {} newest order by newest.{column} desc limit {rows}))",
        table.quoted
    );
    let whole = function::select(
        &table.quoted,
        derived,
        &format!("{condition}\norder by o.{column} desc"),
    );
    let savepoint = transaction.transaction().await?;
    let found = match savepoint.query(&whole, &[]).await {
        Ok(found) => found,
        Err(error) if error.as_db_error().is_some() => {
            savepoint.rollback().await?;
            let problems = failures(&mut transaction, table, derived, &condition).await?;
            let problems = match problems.is_empty() {
                true => vec![format!("derived: {}", db::reason(&error))],
                false => problems,
            };
            return Ok(Some(Newest {
                orders: Vec::new(),
                problems,
            }));
        }
        Err(error) => return Err(error.into()),
    };
    savepoint.rollback().await?;
    transaction.rollback().await?;
    let mut newest = Newest::default();
    let mut seen = HashMap::new();
    for row in &found {
        let row: Vec<Option<String>> = row.try_get(0)?;
        let [Some(key), store, status, Some(data)] = <[Option<String>; 4]>::try_from(row).unwrap_or_default() else {
            continue;
        };
        let store = store
            .filter(|store| !store.is_empty())
            .map(|store| StoreId::new(&store));
        let values = (status.clone(), data.clone());
        if let Some(first) = seen.insert((key.clone(), store.clone()), values.clone()) {
            if first != values {
                newest
                    .problems
                    .push(several_rows(&key, store.as_ref().map_or("NONE", StoreId::as_str)));
            }
            continue;
        }
        let currency = store
            .as_ref()
            .and_then(|store| currencies.get(store))
            .copied()
            .unwrap_or(Currency::DEFAULT);
        let subject = subject(&source, derived, &key, status.as_deref(), &data, currency);
        newest.orders.push(Preview { store, subject });
    }
    Ok(Some(newest))
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
    let created = values["created_at"]
        .as_str()
        .and_then(|text| zone::moment(text, &derived.zone));
    let json = row_json(
        key,
        "",
        status.unwrap_or("null"),
        created.unwrap_or(OffsetDateTime::UNIX_EPOCH),
        data,
    );
    let lookup = Found::Nothing;
    let mut subject = source.translate(key, &json, Context { currency, lookup });
    subject.created_at = created;
    subject
}

/// Finds the expressions that fail for the rows of `condition`, and the key of the first row for which each one fails.
async fn failures(
    transaction: &mut Transaction<'_>,
    table: &Table,
    derived: &Derived,
    condition: &str,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let from = from_clause(&table.quoted, derived);
    let keys = format!("select distinct {} from {from} where {condition}", key_text(derived));
    let savepoint = transaction.transaction().await?;
    let keys = match savepoint.query(&keys, &[]).await {
        Ok(keys) => keys,
        Err(error) if error.as_db_error().is_some() => {
            savepoint.rollback().await?;
            return Ok(vec![format!("derived.from: {}", db::reason(&error))]);
        }
        Err(error) => return Err(error),
    };
    savepoint.rollback().await?;
    let mut problems = Vec::new();
    for (name, sql) in function::all_values(derived) {
        let one = format!("select ({sql}\n)::text from {from} where {} = $1", key_text(derived));
        for key in &keys {
            let key: &str = key.try_get(0)?;
            let savepoint = transaction.transaction().await?;
            let failed = savepoint.query(&one, &[&key]).await;
            savepoint.rollback().await?;
            match failed {
                Ok(_) => {}
                Err(error) if error.as_db_error().is_some() => {
                    problems.push(function::failure(derived, &name, key, &db::reason(&error)));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(problems)
}

fn unattached(table: &Table, mapping: &Mapping, columns: &[RecordedColumn]) -> Source {
    Source {
        id: SourceId(0),
        name: mapping.name.clone().unwrap_or_else(|| table.name.clone()).into(),
        table: table.quoted.clone(),
        columns: columns.to_vec(),
        mapping: with_units(mapping.clone(), columns),
    }
}
