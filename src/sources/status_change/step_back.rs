//! A step back: a person undoes the last change of an order's status.

use serde_json::{Map, Value};
use tokio_postgres::types::Type;

use super::current_order::{AnswerColumn, CurrentOrder};
use super::{SCANNED_EVENTS, StatusChange};
use crate::domain::event::Body;
use crate::domain::status::Status;
use crate::infra::db::{QueryError, Transaction};
use crate::journal;
use crate::sources::Sources;
use crate::sources::lookup_results::Lookups;
use crate::sources::sql::literal;

/// The status change that a step back undoes.
pub(super) struct StepBack {
    /// The recorded columns before the change, a JSON object. `None`: the journal does not have them.
    pub before: Option<String>,
}

impl StepBack {
    /// An SQL expression for the value of a column before the change. `name` is the column's name in SQL, and the
    /// parameter `$7` has the recorded columns. A column that is not recorded becomes null if it may; otherwise it
    /// keeps its value.
    pub fn restored(&self, name: &str, column: &AnswerColumn) -> String {
        let recorded = self.before.as_deref().map(serde_json::from_str::<Map<String, Value>>);
        match recorded {
            Some(Ok(recorded)) if recorded.contains_key(&column.name) => {
                column.of_text(&format!("($7::json ->> {})", literal(&column.name)))
            }
            _ if column.is_nullable => "null".to_owned(),
            _ => format!("t.{name}"),
        }
    }
}

/// Finds the order's last status change if the request may undo it and restore the status before it. `None`: it may
/// not. A status change that is older than `change.step_back` cannot be undone.
pub(super) async fn find(
    transaction: &Transaction<'_>,
    sources: &Sources,
    current_order: &CurrentOrder<'_>,
    change: &StatusChange<'_>,
) -> Result<Option<StepBack>, QueryError> {
    let can_return = |now: Status| now.can_return_to(change.to, change.kind, current_order.subject.words);
    let now = current_order.subject.status;
    if now != Status::Cancelled && !can_return(now) {
        return Ok(None);
    }
    let derived = current_order.source.mapping.derived.as_ref();
    if derived.is_some_and(|derived| !derived.can_take_back(now, change.to)) {
        return Ok(None);
    }
    let events = journal::newest_of(transaction, change.store, &[change.key], SCANNED_EVENTS).await?;
    let events: Vec<_> = events.iter().collect();
    let mut last = None;
    for event in sources.partner_events(&events, &Lookups::default()) {
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap_or_default();
        let is_this = event
            .subject
            .as_ref()
            .is_some_and(|subject| subject.id == current_order.subject.id);
        if let (true, Some(previous)) = (is_this, data["previous_status"].as_str()) {
            last = Some((Status::from_name(previous), data["by"].is_string(), event));
        }
    }
    let Some((previous, was_pressed, event)) = last else {
        return Ok(None);
    };
    // If the shop has one word for rejected and cancelled, a rejected order has the status cancelled. So a cancelled
    // order may return to its earlier status only if a person pressed a button, because that may have been a rejection.
    // If the shop itself cancelled the order, it stays cancelled.
    if now == Status::Cancelled && !(was_pressed && can_return(Status::Rejected)) {
        return Ok(None);
    }
    const AGE: &str = "select extract(epoch from clock_timestamp() - $1::timestamptz)::float8";
    let age: f64 = transaction
        .query_typed_one(AGE, &[(&event.at, Type::TIMESTAMPTZ)])
        .await?
        .try_get(0)?;
    if previous != Some(change.to) || age > change.step_back.as_secs_f64() {
        return Ok(None);
    }
    let row = events.iter().find(|row| row.id == event.id);
    let before = row.and_then(|row| match &row.body {
        Body::Write(write) => write.old.clone(),
        Body::Engine(..) => None,
    });
    Ok(Some(StepBack { before }))
}
