//! Turns an error of Postgres about a person's answer into the outcome of the answer, and logs what the operator can do.

use super::answer_error::{is_broken_statement, is_denied, is_locked, is_refusal};
use super::current_order::CurrentOrder;
use super::denied::report_denied;
use super::refusal::refused;
use super::{StatusChange, StatusChangeOutcome};
use crate::infra::db::{self, GenericClient, QueryError};
use crate::sources::Source;

/// The outcome of a person's answer that Postgres rejected with this error. Returns the error if it says nothing about
/// the answer.
pub(super) async fn outcome(
    client: &impl GenericClient,
    current_order: &CurrentOrder<'_>,
    change: &StatusChange<'_>,
    error: tokio_postgres::Error,
) -> Result<StatusChangeOutcome, QueryError> {
    if is_denied(&error) {
        report_denied(client, current_order.source, &error).await;
        return Ok(StatusChangeOutcome::Denied);
    }
    if is_broken_statement(&error) {
        tracing::error!(
            source = &*current_order.source.name,
            status = change.to.as_str(),
            error = db::reason(&error),
            "an answer was not written: the mapping's statement or the shop's function for it fails; correct it with `vestnik source edit`"
        );
        return Ok(StatusChangeOutcome::Denied);
    }
    if is_locked(&error) {
        return Ok(locked(change, Some(current_order.source), &error));
    }
    if is_refusal(&error) {
        tracing::info!(
            error = db::reason(&error),
            "the shop's table refused a change of status"
        );
        return Ok(refused(current_order, &error));
    }
    Err(error.into())
}

/// Logs that the shop's application holds the lock on the row of the order. `source` is the order's source; `None`: the
/// order was not found yet.
pub(super) fn locked(
    change: &StatusChange<'_>,
    source: Option<&Source>,
    error: &tokio_postgres::Error,
) -> StatusChangeOutcome {
    tracing::warn!(
        source = source.map(|source| &*source.name),
        order = change.key,
        status = change.to.as_str(),
        error = db::reason(error),
        "an answer was not written: another transaction holds the lock on the order's row"
    );
    StatusChangeOutcome::Locked
}
