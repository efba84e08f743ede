//! Searches the journal for the events of some orders.

use tokio_postgres::types::{ToSql, Type};

use super::{EVENT_COLUMNS, event};
use crate::domain::event::{JournalEvent, StoreId};
use crate::infra::db::{GenericClient, Transaction};

/// Searches the newest `scanned` journal rows of the store for orders with these keys. Returns the found rows, sorted
/// by id.
pub async fn newest_of(
    client: &Transaction<'_>,
    store: &StoreId,
    keys: &[&str],
    scanned: i64,
) -> Result<Vec<JournalEvent>, tokio_postgres::Error> {
    let sql = format!(
        "select {EVENT_COLUMNS} from (select * from vestnik.vst_event where store_id = $1 order by xid desc, id desc limit $3) e \
         where key = any ($2) order by id"
    );
    let statement = client.prepare_cached(&sql).await?;
    let rows = client.query(&statement, &[&store.as_str(), &keys, &scanned]).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        events.extend(event(row, 0)?);
    }
    Ok(events)
}

/// Returns the text in the form that it has inside a recorded row: encoded as JSON, without the quotes around it. SQL
/// can search for it with `strpos(data::text, ...)`.
pub fn as_recorded(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Reads the events that match an SQL condition. `condition` is the text after `where`, and may end with an `order by`.
pub async fn read_where(
    client: &impl GenericClient,
    condition: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<JournalEvent>, tokio_postgres::Error> {
    let sql = format!("select {EVENT_COLUMNS} from vestnik.vst_event where {condition}");
    let rows = client.query_typed(&sql, parameters).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        events.extend(event(row, 0)?);
    }
    Ok(events)
}
