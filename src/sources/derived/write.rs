//! Saves the computed changes of a derived source (one whose orders come from SQL expressions). Writes the orders to
//! the source's projection table, and appends events to the journal. Also saves which orders are held back until the
//! shop writes their items.

use std::time::Duration;

use crate::infra::db::Transaction;
use time::OffsetDateTime;

use super::super::Source;
use super::watch::NO_KEY;
use super::{Derived, projection};

/// The changes to save: rows of the projection table, rows to delete (key and store), events, and orders to hold back.
/// An order is held back until the shop writes its items.
#[derive(Debug, Default)]
pub(super) struct Writes {
    pub rows: Vec<Row>,
    pub gone: Vec<(String, String)>,
    pub events: Vec<Event>,
    /// The orders that are held back until the shop writes their items. Each has the time when the order was written
    /// (`None`: now), and its key.
    pub waiting: Vec<(Option<OffsetDateTime>, String)>,
    /// Whether a person's answer makes these changes. Then the rows of `vst_wait` stay, because the projector locks them
    /// before it locks the order.
    pub is_of_person: bool,
}

/// A row of the projection table: an order in one store, with the values that clients last received.
#[derive(Debug)]
pub(super) struct Row {
    pub key: String,
    pub store: String,
    pub status: String,
    pub created_at: OffsetDateTime,
    pub data: String,
    pub shop_status: String,
    pub answered_over: Option<String>,
}

#[derive(Debug)]
pub(super) struct Event {
    /// The time when the order was written. `None`: now.
    pub at: Option<OffsetDateTime>,
    pub key: String,
    pub store: String,
    pub kind: &'static str,
    pub data: String,
    pub old: Option<String>,
}

/// Saves the changes: rows in the projection table, events in the journal, and held-back orders in the table
/// `vst_wait`.
pub(super) async fn put(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    writes: &Writes,
) -> Result<(), tokio_postgres::Error> {
    let table = projection(source.id);
    if !writes.rows.is_empty() {
        let sql = format!(
            "insert into {table} (key, store_id, status, created_at, data, shop_status, answered_over) \
             select key, store_id, status, created_at, data::json, shop_status, answered_over \
             from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[]) \
                 r (key, store_id, status, created_at, data, shop_status, answered_over) \
             on conflict (key, store_id) do update set status = excluded.status, created_at = excluded.created_at, \
                 data = excluded.data, shop_status = excluded.shop_status, answered_over = excluded.answered_over, \
                 told_at = excluded.told_at"
        );
        let column = |of: fn(&Row) -> &str| writes.rows.iter().map(of).collect::<Vec<&str>>();
        let created: Vec<OffsetDateTime> = writes.rows.iter().map(|row| row.created_at).collect();
        let over: Vec<Option<&str>> = writes.rows.iter().map(|row| row.answered_over.as_deref()).collect();
        let statement = transaction.prepare_cached(&sql).await?;
        transaction
            .execute(
                &statement,
                &[
                    &column(|row| &row.key),
                    &column(|row| &row.store),
                    &column(|row| &row.status),
                    &created,
                    &column(|row| &row.data),
                    &column(|row| &row.shop_status),
                    &over,
                ],
            )
            .await?;
    }
    if !writes.gone.is_empty() {
        let (keys, stores): (Vec<&str>, Vec<&str>) = writes
            .gone
            .iter()
            .map(|(key, store)| (key.as_str(), store.as_str()))
            .unzip();
        let sql =
            format!("delete from {table} where (key, store_id) in (select * from unnest($1::text[], $2::text[]))");
        transaction.execute(&sql, &[&keys, &stores]).await?;
    }
    hold_back(transaction, source, &writes.waiting, derived.wait_for_items).await?;
    events(transaction, source, &writes.events, writes.is_of_person).await?;
    let is_any_told = !writes.rows.is_empty() || !writes.gone.is_empty();
    if is_any_told && !writes.is_of_person {
        const TOLD: &str = "delete from vestnik.vst_wait where source = $1 and key = any ($2)";
        // An order may belong to several stores, and may still wait for the items of one of them.
        let waits = |key: &&str| writes.waiting.iter().any(|(_, waiting)| waiting == key);
        let keys = writes.rows.iter().map(|row| row.key.as_str());
        let keys = keys.chain(writes.gone.iter().map(|(key, _)| key.as_str()));
        let keys: Vec<&str> = keys.filter(|key| !waits(key)).collect();
        let statement = transaction.prepare_cached(TOLD).await?;
        transaction.execute(&statement, &[&source.id.0, &keys]).await?;
    }
    Ok(())
}

/// Takes orders into a later batch, after this pause. Each entry has the time when the order was written and its key.
/// Without a time, the order counts as written now.
pub(super) async fn hold_back(
    transaction: &Transaction<'_>,
    source: &Source,
    entries: &[(Option<OffsetDateTime>, String)],
    pause: Duration,
) -> Result<(), tokio_postgres::Error> {
    const WAIT: &str = "insert into vestnik.vst_wait (source, key, since, until) \
         select $1, key, coalesce(at, clock_timestamp()), clock_timestamp() + $3::float8 * interval '1 second' \
         from unnest($2::text[], $4::timestamptz[]) w (key, at) on conflict do nothing";
    if entries.is_empty() {
        return Ok(());
    }
    let seconds = pause.as_secs_f64();
    let (since, keys): (Vec<_>, Vec<&str>) = entries.iter().map(|(at, key)| (*at, key.as_str())).unzip();
    transaction
        .execute(WAIT, &[&source.id.0, &keys, &seconds, &since])
        .await?;
    Ok(())
}

async fn events(
    transaction: &Transaction<'_>,
    source: &Source,
    events: &[Event],
    is_of_person: bool,
) -> Result<(), tokio_postgres::Error> {
    // `vst_notify` runs after this statement, because a transaction must write an event before it checks whether to
    // notify. Two values come from other tables. If the shop's API changes the order while Vestnik waits for the API's
    // reply, the event takes the person's answer from the request in `vst_answer_request`. If the order waited for its
    // items, the event has the time of the order's first write, from `vst_wait`.
    const APPEND: &str = "insert into vestnik.vst_event (at, source, store_id, key, type, data, old, answer) \
         select least(coalesce(at, clock_timestamp()), (select w.since from vestnik.vst_wait w where w.source = $1 and w.key = e.key and not $9)), $1, vestnik.vst_store_id(nullif(store_id, '')), key, type, data::json, old::json, \
             case when $7 then (select r.answer from vestnik.vst_answer_request r where r.source = $1 and r.key = e.key \
                 and r.store_id = e.store_id and r.until > clock_timestamp() and r.status = e.data::json ->> 'status') end \
         from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $8::timestamptz[]) \
             with ordinality e (store_id, key, type, data, old, at, place) \
         order by place";
    if events.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&Event) -> &str| events.iter().map(of).collect::<Vec<&str>>();
    let old: Vec<Option<&str>> = events.iter().map(|event| event.old.as_deref()).collect();
    let statement = transaction.prepare_cached(APPEND).await?;
    let at: Vec<Option<OffsetDateTime>> = events.iter().map(|event| event.at).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 9] = [
        &source.id.0,
        &column(|event| &event.store),
        &column(|event| &event.key),
        &column(|event| event.kind),
        &column(|event| &event.data),
        &old,
        &source.mapping.answer.url.is_some(),
        &at,
        &is_of_person,
    ];
    transaction.execute(&statement, &parameters).await?;
    transaction.execute("select vestnik.vst_notify()", &[]).await?;
    Ok(())
}

/// Empties the source's table of computed orders, `vst_projection_N`, because the shop truncated its own table of
/// orders. Appends a `truncate` event, so that panels load their lists again.
pub(super) async fn truncate(transaction: &Transaction<'_>, source: &Source) -> Result<(), tokio_postgres::Error> {
    const TRUNCATED: &str = "insert into vestnik.vst_event (source, type, data) values ($1, 'truncate', '{}')";
    const HELD_BACK: &str = "delete from vestnik.vst_wait where source = $1 and key <> $2";
    // The orders whose rows were hidden are gone, too, unless only a table that inherits from the table was emptied.
    const FAILURES: &str = "delete from vestnik.vst_projection_failure where source = $1 and key <> '' \
         and not exists (select from pg_inherits i join pg_class c on c.oid = i.inhparent \
             where c.oid = to_regclass($2) and c.relkind = 'r')";
    transaction
        .execute(FAILURES, &[&source.id.0, &source.mapping.table])
        .await?;
    transaction
        .execute(&format!("delete from {}", projection(source.id)), &[])
        .await?;
    transaction.execute(HELD_BACK, &[&source.id.0, &NO_KEY]).await?;
    transaction.execute(TRUNCATED, &[&source.id.0]).await?;
    transaction.execute("select vestnik.vst_notify()", &[]).await?;
    Ok(())
}
