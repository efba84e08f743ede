//! Writes a person's answer into the shop's table, and saves the person's name in Vestnik's tables.

use crate::infra::db::Transaction;
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};

use super::current_order::{AnswerColumn, CurrentOrder, store_is};
use super::step_back::StepBack;
use super::{StatusChange, StatusChangeOutcome};
use crate::domain::status::Status;
use crate::sources::Source;
use crate::sources::sql::{ident, literal, path_array};

/// Writes the shop's word for the new status into the row if the row still has the old status. Returns whether a row
/// was changed.
pub async fn update(
    transaction: &Transaction<'_>,
    current_order: &CurrentOrder<'_>,
    word: &str,
    step_back: Option<&StepBack>,
    change: &StatusChange<'_>,
) -> Result<bool, tokio_postgres::Error> {
    let sql = update_sql(current_order, change.to, step_back);
    let reason = change.reason.unwrap_or_default().as_bytes();
    let before = step_back.and_then(|step_back| step_back.before.as_deref());
    let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
        (&change.key, Type::TEXT),
        (&change.store.as_str(), Type::TEXT),
        (&word, Type::TEXT),
        (&current_order.word, Type::TEXT),
        (&reason, Type::BYTEA),
        (&change.minutes, Type::INT4),
        (&before, Type::TEXT),
    ];
    let row = transaction.query_typed_opt(&sql, &parameters).await?;
    Ok(row.is_some())
}

/// Whether the row has its earlier status again after the UPDATE wrote `word`: a trigger of the shop put it back.
pub async fn is_put_back(
    transaction: &Transaction<'_>,
    current_order: &CurrentOrder<'_>,
    word: &str,
    change: &StatusChange<'_>,
) -> Result<bool, tokio_postgres::Error> {
    let source = current_order.source;
    let status = &source.mapping.status.column;
    let sql = format!(
        "select {} from {} t where {} and t.{}::text = $1",
        current_order.table.text_of(status),
        source.table,
        current_order.table.key.is("t", "$1"),
        ident(&source.mapping.key),
    );
    // A row that this role may not see after the UPDATE has gone on to another status.
    let Some(row) = transaction.query_typed_opt(&sql, &[(&change.key, Type::TEXT)]).await? else {
        return Ok(false);
    };
    let now: Option<String> = row.try_get(0)?;
    Ok(now == current_order.word && now.as_deref() != Some(word))
}

/// The UPDATE statement for the shop's row. The statement uses every parameter, even if the mapping has no column for
/// the value. Otherwise Postgres could not infer the type of the parameter.
fn update_sql(current_order: &CurrentOrder<'_>, to: Status, step_back: Option<&StepBack>) -> String {
    let mapping = &current_order.source.mapping;
    let (answer, table) = (&mapping.answer, &current_order.table);
    let now = |kind: &str| match kind.starts_with("timestamp") && kind.contains("without") {
        true => format!("(clock_timestamp() at time zone {})", literal(&answer.zone)),
        false => "clock_timestamp()".to_owned(),
    };
    let mut set = Vec::new();
    let mut put = |name: &Option<String>, value: &dyn Fn(&str, &AnswerColumn) -> String| {
        if let Some(name) = name
            && let Some(column) = table.column(name)
        {
            let name = ident(name);
            set.push(format!("{name} = {}", value(&name, column)));
        }
    };
    let written_now = |_: &str, column: &AnswerColumn| format!("{}::{}", now(&column.kind), column.kind);
    put(&answer.updated_at, &written_now);
    // A new promise for an order in preparation does not count as an acceptance, so the time of the acceptance stays.
    if to == Status::Preparing && current_order.subject.status != Status::Preparing {
        put(&answer.accepted_at, &written_now);
    }
    put(&answer.version, &|name, _| format!("t.{name} + 1"));
    let is_rejected = matches!(current_order.subject.status, Status::Rejected | Status::Cancelled);
    match step_back {
        Some(step_back) if is_rejected => put(&answer.reason, &|name, column| step_back.restored(name, column)),
        _ => put(&answer.reason, &|name, column| {
            format!(
                "coalesce({}, t.{name})",
                column.of_text("nullif(vestnik.vst_storable($5), '')")
            )
        }),
    }
    match step_back {
        Some(step_back) if to == Status::Pending => {
            put(&answer.minutes, &|name, column| step_back.restored(name, column));
            put(&answer.accepted_at, &|name, column| step_back.restored(name, column));
        }
        _ => put(&answer.minutes, &|name, column| {
            format!("coalesce($6::{}, t.{name})", column.kind)
        }),
    }
    let status = &mapping.status.column;
    let (name, column) = (ident(&status.name), table.column(&status.name));
    set.push(match status.path.is_empty() {
        true => format!(
            "{name} = {}",
            column.map_or_else(|| "$3".to_owned(), |column| column.of_text("$3"))
        ),
        false => {
            let kind = column.map_or("jsonb", |column| column.kind.as_str());
            format!(
                "{name} = jsonb_set(t.{name}::jsonb, {}, to_jsonb($3))::{kind}",
                path_array(&status.path)
            )
        }
    });
    format!(
        "update {} t set {} where {} and t.{}::text = $1 and {} and {} is not distinct from $4 \
             and $5 is not distinct from $5 and $6 is not distinct from $6 and $7 is not distinct from $7 returning true",
        current_order.source.table,
        set.join(", "),
        table.key.is("t", "$1"),
        ident(&mapping.key),
        store_is(current_order.source, "$2"),
        table.text_of(status),
    )
}

/// Calls the shop's own SQL function instead of an UPDATE. Returns false only if the function returned false or no row.
/// An exception in the function is an error.
pub async fn call(
    transaction: &Transaction<'_>,
    function: &str,
    word: &str,
    change: &StatusChange<'_>,
) -> Result<bool, tokio_postgres::Error> {
    let sql = format!(
        "select {function}($1, $2, nullif(vestnik.vst_storable($3), ''), $4, vestnik.vst_storable($5))::text is distinct from 'false'"
    );
    let (reason, by) = (change.reason.unwrap_or_default().as_bytes(), change.by.as_bytes());
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&change.key, Type::TEXT),
        (&word, Type::TEXT),
        (&reason, Type::BYTEA),
        (&change.minutes, Type::INT4),
        (&by, Type::BYTEA),
    ];
    let row = transaction.query_typed_opt(&sql, &parameters).await?;
    row.map_or(Ok(false), |row| row.try_get(0))
}

/// A person's answer as a JSON object for the journal: the person's name, the promised minutes and the reason.
pub fn answer_json(change: &StatusChange<'_>) -> String {
    json!({"by": change.by, "minutes": change.minutes, "reason": change.reason}).to_string()
}

/// Saves which person made the change, in `vst_status_change` and in the events that this transaction has appended for
/// the order. Returns the number of these events.
pub async fn note(
    transaction: &Transaction<'_>,
    source: &Source,
    previous: Status,
    change: &StatusChange<'_>,
) -> Result<u64, tokio_postgres::Error> {
    const NOTE: &str = "insert into vestnik.vst_status_change (source, key, store_id, previous, status, channel, by_whom, minutes, token_id, request_id) \
         values ($1, $2, $3, $4, $5, $6, vestnik.vst_storable($7), $8, $9, $10)";
    const ANNOTATE: &str = "update vestnik.vst_event set answer = vestnik.vst_storable($4)::json \
         where xid = pg_current_xact_id() and source = $1 and key = $2 and store_id = $3 and type in ('insert', 'update') returning id";
    let becomes = source.mapping.status.becomes(change.to);
    let (source, store, by) = (source.id.0, change.store.as_str(), change.by.as_bytes());
    let token = change.token.map(|token| token.0);
    let request = change.request.map(|request| request.0);
    let noted: [(&(dyn ToSql + Sync), Type); 10] = [
        (&source, Type::INT4),
        (&change.key, Type::TEXT),
        (&store, Type::TEXT),
        (&previous.as_str(), Type::TEXT),
        (&becomes.as_str(), Type::TEXT),
        (&change.channel.as_str(), Type::TEXT),
        (&by, Type::BYTEA),
        (&change.minutes, Type::INT4),
        (&token, Type::INT8),
        (&request, Type::INT8),
    ];
    transaction.query_typed(NOTE, &noted).await?;
    let answer = answer_json(change);
    let annotated: [(&(dyn ToSql + Sync), Type); 4] = [
        (&source, Type::INT4),
        (&change.key, Type::TEXT),
        (&store, Type::TEXT),
        (&answer.as_bytes(), Type::BYTEA),
    ];
    let told = transaction.query_typed(ANNOTATE, &annotated).await?;
    Ok(told.len() as u64)
}

/// Finds out whether an earlier request with the same idempotency key has changed the status. If so, returns that
/// request's outcome, because its response was not saved. `None`: no earlier request has changed the status.
pub async fn earlier(
    transaction: &Transaction<'_>,
    change: &StatusChange<'_>,
) -> Result<Option<StatusChangeOutcome>, tokio_postgres::Error> {
    const EARLIER: &str = "select o.name, c.previous from vestnik.vst_status_change c join vestnik.vst_source o on o.id = c.source \
         where c.request_id = $1";
    let Some(request) = change.request else { return Ok(None) };
    let row = transaction
        .query_typed_opt(EARLIER, &[(&request.0, Type::INT8)])
        .await?;
    let Some(row) = row else { return Ok(None) };
    let previous = Status::from_name(row.try_get(1)?);
    let source = row.try_get(0)?;
    Ok(previous.map(|previous| StatusChangeOutcome::Done { source, previous }))
}
