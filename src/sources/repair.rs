//! Repairs the journal after a source was attached again: adds missing columns to earlier events, and appends events
//! for rows that have none.

use tokio_postgres::Client;

use super::Source;
use super::attach_error::Error;
use super::catalog::Table;
use super::mapping::Mapping;
use super::missed_writes::{self, MissedWrites};
use super::replaced_table::Replaced;
use super::sql::{ident, literal};
use crate::domain::event::SourceId;

/// Maximum number of events of one source to which the repair adds missing columns. The repair chooses the newest
/// events.
const FILLED_EVENTS: i64 = 100_000;
/// Maximum number of rows for which the repair appends an event. The repair chooses the newest rows. A larger number of
/// rows without an event usually comes from an import.
const RECORDED_ROWS: i64 = 10_000;

/// A regular expression for the beginning of a journal row of a derived source. Such rows of a source that is direct now
/// have no columns of the shop's table.
const DERIVED_FORM: &str = r#"^\{"(key|created_at)":.*"store_id":"#;

/// The data that a source's events lacked before the source was attached again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lacked {
    /// The columns that the trigger did not record before.
    pub columns: Vec<String>,
    /// Whether some rows may have no event. This is so if the table had no triggers. It is also so if the mapping now
    /// reads the key or the store from another column.
    pub rows: bool,
    /// The writes that made no events, because the table had no triggers. `None`: it had its triggers, or the mapping
    /// now reads the key or the store from another column.
    pub writes: Option<MissedWrites>,
}

/// Adds missing columns to the newest events, with the current values of the rows. Also appends events for rows that
/// have none. Returns lines for a person that say what was repaired. The repair runs after the transaction that
/// attaches the source, because that transaction makes the shop's writers wait.
pub(super) async fn repair(
    client: &mut Client,
    source: &Source,
    table: &Table,
    lacked: &Lacked,
) -> Result<Vec<String>, Error> {
    let (id, mapping) = (source.id, &source.mapping);
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
    if let Some(missed) = &lacked.writes {
        let orders = missed_writes::tell(client, source, table, missed).await?;
        if orders > 0 {
            done.push(format!(
                "told {orders} orders that changed while the table had no triggers"
            ));
        }
    }
    if lacked.rows {
        let replaced = lacked.writes.as_ref().and_then(|missed| missed.replaced.as_ref());
        let rows = record_missed(client, id, table, mapping, replaced).await?;
        if rows > 0 {
            done.push(format!("recorded {rows} rows that had no event"));
        }
    }
    Ok(done)
}

/// Adds the values of missing columns to the newest events. The function puts the new members first in the JSON object.
/// If a member occurs twice, the last one counts, so a recorded value is never replaced.
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
        "with newest as (select id, key from vestnik.vst_event where source = $1 and type in ('insert', 'update') \
               and not (data::text ~ '{DERIVED_FORM}' and exists (select from vestnik.vst_source where id = $1 and former_mapping is not null)) \
             order by id desc limit $2), \
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

/// Appends an event for each row that has no event and was created after the source was attached. Returns the number of
/// these rows. [`is_younger`] decides which rows these are. If the table has `replaced` another one that is still there,
/// each row that the other table lacks is new, too.
async fn record_missed(
    client: &mut Client,
    id: SourceId,
    table: &Table,
    mapping: &Mapping,
    replaced: Option<&Replaced>,
) -> Result<u64, Error> {
    let key = format!("vestnik.vst_key(t.{}::text)", ident(&mapping.key));
    let former = match replaced {
        Some(Replaced {
            former: Some(former), ..
        }) => readable(client, former, &mapping.key).await?,
        _ => None,
    };
    let bare = ident(&mapping.key);
    let (join, is_new) = match former {
        // A copied row has a new transaction id, so only its key and its creation time count.
        Some(former) => {
            let created = created_since(table, mapping).unwrap_or_else(|| "false".to_owned());
            (
                format!("left join {former} f on f.{bare}::text = t.{bare}::text"),
                format!("(f.{bare} is null or coalesce({created}, false))"),
            )
        }
        None => (String::new(), is_younger(table, mapping)),
    };
    let sql = format!(
        "insert into vestnik.vst_event (source, store_id, key, type, data) \
         select $1, {store}, {key}, 'insert', {columns} \
         from {table} t {join}, (select attached_at, attached_xid from vestnik.vst_source where id = $1) s \
         where {is_new} and not exists (select from vestnik.vst_event e where e.source = $1 and e.key = t.{bare}::text and e.store_id is not null) \
         order by t.{bare} desc limit $2",
        store = store_sql(mapping),
        columns = table.columns_json(mapping.recorded_columns()),
        table = table.quoted,
    );
    let transaction = client.transaction().await?;
    // Two commands may repair the source at once. The lock makes the second command wait, so that it finds the events
    // of the first.
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

/// The table with this name, if the current role may read it and it has the column of the key.
async fn readable(client: &Client, table: &str, key: &str) -> Result<Option<String>, tokio_postgres::Error> {
    const READABLE: &str = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             join pg_attribute a on a.attrelid = c.oid and a.attname = $2 and not a.attisdropped \
         where format('%I.%I', n.nspname, c.relname) = $1 and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))";
    let is_readable: bool = client.query_one(READABLE, &[&table, &key]).await?.try_get(0)?;
    Ok(is_readable.then(|| table.to_owned()))
}

/// An SQL condition: the row `t` is newer than the source `s`. If the mapping has a column for the creation time, this
/// time decides. Where the row has none, its transaction id decides. The transaction id is less reliable, because a
/// copied or updated row has a new one.
pub(super) fn is_younger(table: &Table, mapping: &Mapping) -> String {
    const BY_TRANSACTION: &str = "age(t.xmin) <= age(s.attached_xid::xid)";
    match created_since(table, mapping) {
        Some(created) => format!("coalesce({created}, {BY_TRANSACTION})"),
        None => BY_TRANSACTION.to_owned(),
    }
}

/// An SQL condition: the row `t` was created after the source `s` was attached. It is null where the row has no creation
/// time. `None`: the mapping has no column for the creation time.
fn created_since(table: &Table, mapping: &Mapping) -> Option<String> {
    let created = mapping.fields.created_at.as_ref()?;
    let column = table
        .column(&created.column.name)
        .filter(|column| created.column.path.is_empty() && column.base.starts_with("timestamp"))?;
    let name = ident(&column.name);
    Some(match column.base.ends_with("with time zone") {
        true => format!("t.{name} >= s.attached_at"),
        false => format!("t.{name} >= s.attached_at at time zone {}", literal(&created.zone)),
    })
}

/// An SQL expression for the store of the row `t`.
pub(super) fn store_sql(mapping: &Mapping) -> String {
    mapping.store.sql()
}
