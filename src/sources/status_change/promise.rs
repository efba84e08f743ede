//! Saves a new promise for an order in preparation: a person changes the number of minutes until the order is ready.

use serde_json::json;
use tokio_postgres::types::Type;

use super::current_order::CurrentOrder;
use super::write::{call, note, update};
use super::{SCANNED_EVENTS, StatusChange, StatusChangeOutcome};
use crate::domain::status::{Status, SubjectKind};
use crate::infra::db::{QueryError, Transaction};
use crate::sources::Source;

/// Whether the request only changes the promised minutes of an order that is already in preparation. Returns false for
/// a repeated request to accept the order: its `change.from` is another status or `None`.
pub fn is_promise(current_order: &CurrentOrder<'_>, change: &StatusChange<'_>) -> bool {
    change.kind == SubjectKind::Order
        && change.minutes.is_some()
        && change.to == Status::Preparing
        && change.from == Some(Status::Preparing)
        && current_order.subject.status == Status::Preparing
        && current_order.subject.status_word.is_none()
}

/// Writes the promised minutes into the shop's column, or passes them to the shop's function. Clients receive an event
/// even if the shop saves no minutes.
pub async fn promise(
    transaction: &mut Transaction<'_>,
    current_order: &CurrentOrder<'_>,
    change: &StatusChange<'_>,
) -> Result<StatusChangeOutcome, QueryError> {
    let mapping = &current_order.source.mapping;
    let word = current_order.word.as_deref().unwrap_or(change.to.as_str());
    let written = match (&mapping.derived, &mapping.answer.function) {
        // The SQL statements of a derived source change the status. A promise of minutes does not change the status, so
        // no statement runs. Vestnik keeps the promise.
        (Some(derived), _) => {
            crate::sources::derived::taken(transaction, current_order.source, derived, word, change).await?;
            true
        }
        (None, Some(function)) => call(transaction, function, word, change).await?,
        (None, None) => update(transaction, current_order, word, None, change).await?,
    };
    if !written {
        return Ok(StatusChangeOutcome::Refused {
            current: current_order.current_status(),
            message: None,
            rule: None,
        });
    }
    if note(transaction, current_order.source, Status::Preparing, change).await? == 0 {
        append(transaction, current_order.source, change).await?;
    }
    Ok(StatusChangeOutcome::Done {
        source: current_order.source.name.to_string(),
        previous: Status::Preparing,
    })
}

/// Appends an event with the order's last recorded row and the promised minutes. The caller uses this function if no
/// trigger recorded an event, for example because the shop's table has no column for the minutes.
pub async fn append(
    transaction: &Transaction<'_>,
    source: &Source,
    change: &StatusChange<'_>,
) -> Result<(), tokio_postgres::Error> {
    const APPEND: &str = "with newest as (select id, source, store_id, key, type, data from vestnik.vst_event \
             where store_id = $3 order by xid desc, id desc limit $5), \
         last as (select * from newest where source = $1 and key = $2 and type in ('insert', 'update') order by id desc limit 1), \
         appended as (insert into vestnik.vst_event (source, store_id, key, type, data, old, answer) \
             select source, store_id, key, 'update', data, data, vestnik.vst_storable($4)::json from last returning id) \
         select vestnik.vst_notify() from appended";
    let answer = json!({"by": change.by, "minutes": change.minutes}).to_string();
    transaction
        .query_typed(
            APPEND,
            &[
                (&source.id.0, Type::INT4),
                (&change.key, Type::TEXT),
                (&change.store.as_str(), Type::TEXT),
                (&answer.as_bytes(), Type::BYTEA),
                (&SCANNED_EVENTS, Type::INT8),
            ],
        )
        .await?;
    Ok(())
}
