//! Shows the newest orders that a derived mapping gives, before its table is attached. The expressions run with the
//! rights that they will have afterwards.

use std::collections::HashMap;

use time::OffsetDateTime;
use tokio_postgres::Client;

use super::super::catalog::{self, Table};
use super::super::changes::Found;
use super::super::mapping::Mapping;
use super::super::preview::Preview;
use super::super::sql::ident;
use super::super::{Context, RecordedColumn, Source, zone};
use super::project::row_json;
use super::{Derived, check, function, reader, with_units};
use crate::domain::event::{SourceId, StoreId};
use crate::domain::money::Currency;

/// Time limit for computing the orders, milliseconds.
const STATEMENT_MS: u32 = 5000;

/// The newest orders of a derived mapping; `rows` is their maximum number. Empty: the mapping has errors. All changes
/// to the database are rolled back.
pub async fn newest(
    client: &mut Client,
    table: &Table,
    mapping: &Mapping,
    derived: &Derived,
    currencies: &HashMap<StoreId, Currency>,
    rows: i64,
) -> Result<Vec<Preview>, catalog::Error> {
    let mut transaction = client.transaction().await?;
    let checked = check(&mut transaction, table, derived).await?;
    if !checked.findings.problems.is_empty() {
        return Ok(Vec::new());
    }
    let source = unattached(table, mapping, &checked.columns);
    if reader::prepare(&mut transaction, &checked.reads).await? {
        reader::become_it(&transaction, table).await?;
    } else {
        transaction
            .batch_execute("set local transaction_read_only = on")
            .await?;
    }
    let column = ident(&derived.key);
    let condition = format!(
        "o.{column} = any (array(select newest.{column} from {} newest order by newest.{column} desc limit {rows}))",
        table.quoted
    );
    transaction
        .batch_execute(&format!("set local statement_timeout = {STATEMENT_MS}"))
        .await?;
    let found = transaction
        .query(&function::select(&table.quoted, derived, &condition), &[])
        .await?;
    transaction.rollback().await?;
    let mut previews = Vec::new();
    for row in &found {
        let row: Vec<Option<String>> = row.try_get(0)?;
        let [Some(key), store, status, Some(data)] = <[Option<String>; 4]>::try_from(row).unwrap_or_default() else {
            continue;
        };
        let values: serde_json::Value = serde_json::from_str(&data).unwrap_or_default();
        let created = values["created_at"]
            .as_str()
            .and_then(|text| zone::moment(text, &derived.zone));
        let store = store
            .filter(|store| !store.is_empty())
            .map(|store| StoreId::new(&store));
        let currency = store
            .as_ref()
            .and_then(|store| currencies.get(store))
            .copied()
            .unwrap_or(Currency::DEFAULT);
        let status = status.as_deref().unwrap_or("null");
        let json = row_json(&key, "", status, created.unwrap_or(OffsetDateTime::UNIX_EPOCH), &data);
        let mut subject = source.translate(
            &key,
            &json,
            Context {
                currency,
                lookup: Found::Nothing,
            },
        );
        subject.created_at = created;
        previews.push(Preview { store, subject });
    }
    Ok(previews)
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
