//! Repairs the journal after a source was attached again: adds missing columns to earlier events, and records rows
//! without an event.

use tokio_postgres::Client;

use super::attach_error::Error;
use super::catalog::Table;
use super::mapping::{Mapping, StoreRef};
use super::sql::{ident, literal};
use crate::domain::event::SourceId;

/// Maximum number of a source's newest events that receive missing columns.
const FILLED_EVENTS: i64 = 100_000;
/// Maximum number of rows without an event that are recorded, the newest. More such rows are an import.
const RECORDED_ROWS: i64 = 10_000;

/// What was missing in the events of a source before it was attached again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lacked {
    /// The columns that the trigger did not record before.
    pub columns: Vec<String>,
    /// Whether rows may lack an event: the table had no triggers, or the mapping now reads the key or store elsewhere.
    pub rows: bool,
}

/// Adds the missing columns to the newest events, with the present values of the rows, and records the rows without an
/// event. Returns lines for a person.
/// It runs after the source was attached, because the shop's writers wait while a source is attached.
pub(super) async fn repair(
    client: &mut Client,
    id: SourceId,
    table: &Table,
    mapping: &Mapping,
    lacked: &Lacked,
) -> Result<Vec<String>, Error> {
    let mut done = Vec::new();
    if !lacked.columns.is_empty() {
        let events = fill(client, id, table, mapping, &lacked.columns).await?;
        if events > 0 {
            done.push(format!(
                "{events} earlier events have {} now",
                lacked.columns.join(", ")
            ));
        }
    }
    if lacked.rows {
        let rows = record_missed(client, id, table, mapping).await?;
        if rows > 0 {
            done.push(format!("recorded {rows} rows that had no event"));
        }
    }
    Ok(done)
}

/// Adds the values of missing columns to the newest events. The new values stand first in the JSON object: of two
/// members with one name the last counts, so recorded values stay in force.
async fn fill(
    client: &Client,
    id: SourceId,
    table: &Table,
    mapping: &Mapping,
    columns: &[String],
) -> Result<u64, Error> {
    let filled = |what: &str| {
        format!("(pg_catalog.left(r.columns, -1) || ',' || pg_catalog.substr(pg_catalog.ltrim({what}::text), 2))::json")
    };
    let sql = format!(
        "with newest as (select id, key from vestnik.vst_event where source = $1 and type in ('insert', 'update') order by id desc limit $2), \
           r as (select n.id, {columns}::text as columns \
                 from newest n join {table} t on t.{key}::text = n.key) \
         update vestnik.vst_event e set data = {data}, old = {old} from r where e.id = r.id",
        columns = table.columns_json(columns.iter().map(String::as_str)),
        table = table.quoted,
        key = ident(&mapping.key),
        data = filled("e.data"),
        old = filled("e.old"),
    );
    Ok(client.execute(&sql, &[&id.0, &FILLED_EVENTS]).await?)
}

/// Records the rows that have no event and are newer than the source's attachment. Returns their number.
/// The creation time decides, if the mapping has one. Otherwise the transaction id decides. It is less reliable: copied
/// rows have new transaction ids.
async fn record_missed(client: &mut Client, id: SourceId, table: &Table, mapping: &Mapping) -> Result<u64, Error> {
    let created = mapping
        .fields
        .created_at
        .as_ref()
        .filter(|created| created.column.path.is_empty());
    let created = created.and_then(|created| Some((table.column(&created.column.name)?, created)));
    let is_younger = match created {
        Some((column, _)) if column.base.starts_with("timestamp") && column.base.ends_with("with time zone") => {
            format!("t.{} >= s.attached_at", ident(&column.name))
        }
        Some((column, created)) if column.base.starts_with("timestamp") => {
            format!(
                "t.{} >= s.attached_at at time zone {}",
                ident(&column.name),
                literal(&created.zone)
            )
        }
        _ => "age(t.xmin) <= age(s.attached_xid::xid)".to_owned(),
    };
    let store = match &mapping.store {
        StoreRef::Column(name) => format!("vestnik.vst_store_id(t.{}::text)", ident(name)),
        StoreRef::Constant(store) => literal(store),
    };
    let key = format!("vestnik.vst_key(t.{}::text)", ident(&mapping.key));
    let sql = format!(
        "insert into vestnik.vst_event (source, store_id, key, type, data) \
         select $1, {store}, {key}, 'insert', {columns} \
         from {table} t, (select attached_at, attached_xid from vestnik.vst_source where id = $1) s \
         where {is_younger} and not exists (select from vestnik.vst_event e where e.source = $1 and e.key = t.{bare}::text and e.store_id is not null) \
         order by t.{bare} desc limit $2",
        columns = table.columns_json(mapping.recorded_columns()),
        table = table.quoted,
        bare = ident(&mapping.key),
    );
    let transaction = client.transaction().await?;
    // The lock makes two concurrent commands record each row only once.
    transaction
        .execute("select from vestnik.vst_source where id = $1 for update", &[&id.0])
        .await?;
    let rows = transaction.execute(&sql, &[&id.0, &RECORDED_ROWS]).await?;
    if rows > 0 {
        transaction.execute("select vestnik.vst_notify()", &[]).await?;
    }
    transaction.commit().await?;
    Ok(rows)
}
