//! What became of a store's events: the proof of each alert, told afterwards. "Why did nobody see order 123?" in one
//! query.

use serde_json::Value;
use tokio_postgres::Client;

use crate::db::Failed;
use crate::event::StoreId;

/// Events of one page.
pub const PAGE_EVENTS: i64 = 500;

/// A moment as people write one: `19:00` (today, by the store's clock), `2026-11-24 19:00` (the same clock), or with its
/// own zone, `2026-11-24T19:00:00Z`.
#[derive(Debug, Clone)]
pub struct Moment(pub String);

/// Which events.
#[derive(Debug)]
pub struct Span<'a> {
    /// Whose.
    pub store: &'a StoreId,
    /// From then on.
    pub from: &'a Moment,
    /// Before then.
    pub to: &'a Moment,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A moment cannot be read.
    #[error("a time looks like 19:00, 2026-11-24 19:00 or 2026-11-24T19:00:00Z")]
    Moment,
    /// The database.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// At most [`PAGE_EVENTS`] events behind `after`, by id: each with its number and
/// `{"id","type","at","subject","ways":[..],"chats":[..],"ladder":{..}}`; times by the store's clock.
pub async fn page(client: &Client, span: &Span<'_>, after: i64) -> Result<Vec<(i64, Value)>, Error> {
    const MOMENT: &str = "case when $N ~ '^\\s*\\d{1,2}:\\d\\d(:\\d\\d)?\\s*$' then ((now() at time zone zone)::date + $N::time) at time zone zone \
         when $N ~ '(Z|[+-]\\d\\d(:?\\d\\d)?)\\s*$' and $N ~ ':' then $N::timestamptz else $N::timestamp at time zone zone end";
    let (from, to) = (MOMENT.replace("$N", "$2::text"), MOMENT.replace("$N", "$3::text"));
    let sql = format!(
        "with zone as (select coalesce((select time_zone from vestnik.store where id = $1), 'UTC') as zone), \
         span as materialized (select zone, {from} as first, {to} as last from zone) \
         select e.id, json_build_object('id', e.id::text, 'type', e.type, 'at', vestnik.moment(e.at, zone), \
             'subject', coalesce(e.data ->> 'order_id', e.data ->> 'booking_id'), 'status', e.data ->> 'status', \
             'ways', coalesce((select json_agg(json_strip_nulls(json_build_object('way', r.way, 'recipient', r.recipient, \
                 'sent', vestnik.moment(r.sent_at, zone), 'rendered', vestnik.moment(r.rendered_at, zone), \
                 'rung', vestnik.moment(r.rung_at, zone), 'acknowledged', vestnik.moment(r.acknowledged_at, zone), \
                 'by', r.acknowledged_by)) order by r.way, r.recipient) from vestnik.reach r where r.event_id = e.id), '[]'), \
             'chats', coalesce((select json_agg(json_strip_nulls(json_build_object('chat', coalesce(c.title, c.telegram_id::text), \
                 'state', d.state, 'attempts', d.attempts, 'reason', d.reason, 'settled', vestnik.moment(d.settled_at, zone))) order by d.id) \
                 from vestnik.delivery d join vestnik.chat c on c.id = d.chat_id where d.event_id = e.id), '[]'), \
             'ladder', (select json_strip_nulls(json_build_object('rung', l.rung, 'outcome', l.outcome, \
                 'ended', vestnik.moment(l.ended_at, zone))) from vestnik.escalation l where l.event_id = e.id)) \
         from vestnik.event e, span where e.store_id = $1 and e.at >= span.first and e.at < span.last and e.id > $4 \
         order by e.id limit $5"
    );
    let (from, to) = (&span.from.0, &span.to.0);
    let rows = client
        .query(&sql, &[&span.store.as_str(), from, to, &after, &PAGE_EVENTS])
        .await;
    let rows = rows.map_err(|error| match error.code() {
        Some(code) if code.code().starts_with("2200") => Error::Moment,
        _ => Error::Failed(error.into()),
    })?;
    let read = |row: &tokio_postgres::Row| {
        Ok((
            row.try_get(0).map_err(Failed::from)?,
            row.try_get(1).map_err(Failed::from)?,
        ))
    };
    rows.iter().map(read).collect()
}
