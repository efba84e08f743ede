//! Tells what a shop wrote to the rows of known orders while the triggers of a direct source were missing. For example,
//! a renamed copy took the place of the source's table. Orders that were written for the first time are told by
//! `repair.rs`.

use tokio_postgres::{Client, Transaction};

use super::attach_error::Error;
use super::catalog::Table;
use super::derived;
use super::lookup_results::LookupResult;
use super::mapping::Mapping;
use super::replaced_table::Replaced;
use super::sql::ident;
use super::{Context, RecordedColumn, Source};
use crate::domain::Subject;
use crate::domain::money::Currency;
use crate::domain::status::Status;

/// Number of newest events of the source by which the known orders are found.
const SEARCHED_EVENTS: i64 = 100_000;
/// Number of newest journal rows of all sources that are looked at. The journal has no index by source.
const LOOKED_AT: i64 = 1_000_000;
/// Maximum number of known orders that are told.
const TOLD_ORDERS: usize = 10_000;

/// The writes to a source's table that made no events, because the table had no triggers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MissedWrites {
    /// Whether another table has taken the table's place. `None`: it is the same table.
    pub replaced: Option<Replaced>,
    /// The recorded columns, with their types before the triggers were missing.
    pub columns: Vec<RecordedColumn>,
}

/// What has become of a known order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Its row is gone.
    Gone,
    /// Its row has other values.
    Updated,
    /// Its row belongs to another store now.
    Moved,
    /// The row with its key is another order. `was_open`: people still worked on the earlier order.
    Another { was_open: bool },
}

/// A known order that has changed.
struct Changed {
    key: String,
    /// The id of the order's last event.
    event: i64,
    change: Change,
}

/// Appends an event for each known order whose row has changed, or is gone. Returns their number. The triggers are
/// installed already, so an order that the shop is writing now has its own event.
pub(super) async fn tell(
    client: &mut Client,
    source: &Source,
    table: &Table,
    missed: &MissedWrites,
) -> Result<usize, Error> {
    let (changed, newest) = find(client, source, table, missed).await?;
    if changed.is_empty() {
        return Ok(0);
    }
    // In one transaction, the removal of an order and a new order with the same key would be one change of one order.
    let transaction = client.transaction().await?;
    remove(&transaction, source, &changed, newest).await?;
    transaction.commit().await?;
    let transaction = client.transaction().await?;
    write(&transaction, source, table, &changed, newest).await?;
    transaction.commit().await?;
    Ok(changed.len())
}

/// Compares the last event of each known order with its row. Returns the changed orders, and the id of the newest event.
async fn find(
    client: &Client,
    source: &Source,
    table: &Table,
    missed: &MissedWrites,
) -> Result<(Vec<Changed>, i64), Error> {
    let Mapping { key, .. } = &source.mapping;
    let sql = format!(
        "with top as (select coalesce(max(id), 0) as id from vestnik.vst_event), \
           newest as (select e.id, e.key, e.type from vestnik.vst_event e, top \
               where e.source = $1 and e.id > top.id - $2 order by e.id desc limit $3), \
           known as (select distinct on (key) key, id from newest where key is not null \
               and id > (select coalesce(max(id), 0) from newest where type = 'truncate') order by key, id desc) \
         select vestnik.vst_readable(e.key), e.id, e.type = 'delete', e.store_id is distinct from {store}, vestnik.vst_readable(e.data)::text, \
             case when t.{key} is not null then vestnik.vst_readable({columns})::text end, top.id, \
             exists (select from known o join {table} r on r.{key}::text = o.key) \
         from top, known k join vestnik.vst_event e on e.id = k.id left join {table} t on t.{key}::text = k.key \
         where case when e.type = 'delete' or t.{key} is null then (e.type = 'delete') <> (t.{key} is null) \
             else e.data::text is distinct from ({columns})::text or e.store_id is distinct from {store} end \
         order by e.id desc",
        key = ident(key),
        store = source.mapping.store.sql(),
        columns = table.columns_json(source.mapping.recorded_columns()),
        table = table.quoted,
    );
    let identity = Identity::of(source, missed);
    let (mut changed, mut newest) = (Vec::new(), 0);
    for row in client
        .query(&sql, &[&source.id.0, &LOOKED_AT, &SEARCHED_EVENTS])
        .await?
    {
        newest = row.try_get(6)?;
        let (key, event): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        let (is_removed, is_moved): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
        let (before, now): (&str, Option<&str>) = (row.try_get(4)?, row.try_get(5)?);
        let change = match is_removed {
            true => Some(Change::Another { was_open: false }),
            false => compare(source, &key, before, now, is_moved, identity),
        };
        // The earlier table has the orders, and nobody copied them: the shop began a new table, or will make the earlier
        // one its partition.
        let is_copy: bool = row.try_get(7)?;
        let is_left_behind = !is_copy
            && missed
                .replaced
                .as_ref()
                .is_some_and(|replaced| replaced.former.is_some());
        let change = change.filter(|change| *change != Change::Gone || !is_left_behind);
        if let Some(change) = change.filter(|_| changed.len() < TOLD_ORDERS) {
            changed.push(Changed { key, event, change });
        }
    }
    Ok((changed, newest))
}

/// What has become of an order. `before` has its columns in its last event, and `now` those of its row, as JSON objects.
/// `None`: people see no change, or the order was over and has the same status.
fn compare(
    source: &Source,
    key: &str,
    before: &str,
    now: Option<&str>,
    is_moved: bool,
    identity: Identity,
) -> Option<Change> {
    let context = Context {
        currency: Currency::DEFAULT,
        lookup: LookupResult::Nothing,
    };
    // The event is of the time when the mapping was derived, and has other values.
    if derived::has_form(before) {
        return None;
    }
    let before = source.translate(key, before, context);
    let was_open = before.visible_status().is_some_and(Status::is_open);
    let Some(now) = now else {
        return was_open.then_some(Change::Gone);
    };
    let now = source.translate(key, now, context);
    if identity.differs(&before, &now) {
        return Some(Change::Another { was_open });
    }
    let is_over = !was_open && before.visible_status() == now.visible_status();
    if is_over || before == now && !is_moved {
        return None;
    }
    Some(if is_moved { Change::Moved } else { Change::Updated })
}

/// The values that tell an order from another one with the same key.
#[derive(Debug, Clone, Copy)]
struct Identity {
    created_at: bool,
    number: bool,
}

impl Identity {
    /// Orders can have the same key only if another table has taken the place of the source's table. A value whose type has
    /// changed is left out, because the same value may look different now.
    fn of(source: &Source, missed: &MissedWrites) -> Self {
        let is_same = |name: Option<&str>| {
            let of = |columns: &[RecordedColumn]| columns.iter().find(|column| Some(&*column.name) == name).cloned();
            missed.replaced.is_some() && of(&source.columns).is_some_and(|now| of(&missed.columns) == Some(now))
        };
        let Mapping { fields, number, .. } = &source.mapping;
        Self {
            created_at: is_same(fields.created_at.as_ref().map(|time| &*time.column.name)),
            number: is_same(number.as_ref().map(|column| &*column.name)),
        }
    }

    fn differs(self, before: &Subject, now: &Subject) -> bool {
        let are_created_apart = before
            .created_at
            .zip(now.created_at)
            .is_some_and(|(before, now)| before != now);
        self.created_at && are_created_apart || self.number && before.number != now.number
    }
}

/// Appends the removal of each open order whose row is gone, or is another order now. `newest` is the id of the newest
/// event that was compared.
async fn remove(
    transaction: &Transaction<'_>,
    source: &Source,
    changed: &[Changed],
    newest: i64,
) -> Result<(), tokio_postgres::Error> {
    const REMOVE: &str = "insert into vestnik.vst_event (source, store_id, key, type, data) \
         select $1::int, e.store_id, e.key, 'delete', e.data from vestnik.vst_event e where e.id = any ($2) \
             and e.key not in (select n.key from vestnik.vst_event n where n.id > $3 and n.source = $1 and n.key is not null) \
         order by e.id";
    let is_removed = |order: &&Changed| matches!(order.change, Change::Gone | Change::Another { was_open: true });
    let events: Vec<i64> = changed.iter().filter(is_removed).map(|order| order.event).collect();
    if transaction.execute(REMOVE, &[&source.id.0, &events, &newest]).await? > 0 {
        transaction.execute("select vestnik.vst_notify()", &[]).await?;
    }
    Ok(())
}

/// Appends the present values of each changed order. A row that the shop is writing now is left out.
async fn write(
    transaction: &Transaction<'_>,
    source: &Source,
    table: &Table,
    changed: &[Changed],
    newest: i64,
) -> Result<(), tokio_postgres::Error> {
    const MAY_LOCK: &str = "select has_table_privilege($1::oid, 'update')";
    let may_lock: bool = transaction.query_one(MAY_LOCK, &[&table.oid]).await?.try_get(0)?;
    let sql = format!(
        "with now as materialized (select t.{key}::text as key, {store} as store_id, {columns} as data from {table} t \
               where t.{key}::text = any ($2){lock}), \
           newer as (select key from vestnik.vst_event where id > $5 and source = $1 and key is not null and type <> 'delete') \
         insert into vestnik.vst_event (source, store_id, key, type, data, old) \
         select $1::int, w.store_id, n.key, w.type, w.data, w.old \
         from now n join unnest($2::text[], $3::bigint[], $4::text[]) k (key, id, change) on k.key = n.key \
             join vestnik.vst_event e on e.id = k.id, \
             lateral (select e.store_id, 'delete' as type, e.data, null::json as old, 0 as place where k.change = 'move' \
                 union all select n.store_id, case k.change when 'update' then 'update' else 'insert' end, n.data, \
                     case k.change when 'update' then e.data end, 1) w \
         where n.key not in (select key from newer) order by k.id, w.place",
        key = ident(&source.mapping.key),
        store = source.mapping.store.sql(),
        columns = table.columns_json(source.mapping.recorded_columns()),
        table = table.quoted,
        lock = if may_lock { " for share skip locked" } else { "" },
    );
    let (mut keys, mut events, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for order in changed {
        changes.push(match order.change {
            Change::Gone => continue,
            Change::Updated => "update",
            Change::Moved => "move",
            Change::Another { .. } => "insert",
        });
        keys.push(&*order.key);
        events.push(order.event);
    }
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [&source.id.0, &keys, &events, &changes, &newest];
    if transaction.execute(&sql, &parameters).await? > 0 {
        transaction.execute("select vestnik.vst_notify()", &[]).await?;
    }
    Ok(())
}
