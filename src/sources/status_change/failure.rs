//! Turns an error of Postgres about a person's answer into the outcome of the answer, and logs what the operator can do.

use super::current_order::CurrentOrder;
use super::refusal::{is_broken_statement, is_denied, is_locked, is_refusal, refused};
use super::{StatusChange, StatusChangeOutcome};
use crate::infra::db::{self, GenericClient, QueryError};
use crate::sources::catalog::{self, Table};
use crate::sources::{Source, access, derived};

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
        return Ok(StatusChangeOutcome::Denied(current_order.current_status()));
    }
    if is_broken_statement(&error) {
        tracing::error!(
            source = &*current_order.source.name,
            status = change.to.as_str(),
            error = db::reason(&error),
            "an answer was not written: the mapping's statement or the shop's function for it fails; correct it with `vestnik source edit`"
        );
        return Ok(StatusChangeOutcome::Denied(current_order.current_status()));
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

/// Logs that an answer failed because of a missing right. The log entry names the grants and policies that the current
/// role lacks.
async fn report_denied(client: &impl GenericClient, source: &Source, error: &tokio_postgres::Error) {
    let missing = missing_rights(client, source).await.unwrap_or_default();
    let missing = match missing.is_empty() {
        // The role has all rights on the tables that the source names. So the missing right is needed inside a trigger
        // or function of the shop.
        true => "a trigger or a function of the shop needs a right that the role of `vestnik serve` lacks".to_owned(),
        false => missing.join("; "),
    };
    tracing::error!(
        source = &*source.name,
        error = db::reason(error),
        missing,
        "an answer was not written: a right is missing"
    );
}

/// The rights on the source's tables that the current role lacks, one line each, as `vestnik source list` prints them.
async fn missing_rights(client: &impl GenericClient, source: &Source) -> Result<Vec<String>, catalog::Error> {
    let table = Table::find(client, &source.table).await?;
    match &source.mapping.derived {
        Some(derived) => Ok(derived::of_current_role(client, &table, derived).await?),
        None => Ok(access::check(client, &table, &source.mapping).await?.missing),
    }
}
