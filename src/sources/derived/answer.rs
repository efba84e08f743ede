//! Saves a person's answer to an order of a derived source. Either the SQL statements of the mapping save it in the
//! shop's tables, or the engine keeps it. A kept answer is shown instead of the shop's status until the shop's status
//! changes.

use crate::infra::db::Transaction;
use tokio_postgres::types::{ToSql, Type};

use super::super::Source;
use super::super::status_change::request::StatusChange;
use super::Derived;
use super::project::{Known, Publish, derive, publish_changes};

/// The types of the parameters of an answer's statement: the key, the status, the reason, the minutes, and the name of
/// the person who answers.
pub(super) const PARAMETERS: [Type; 5] = [Type::TEXT, Type::TEXT, Type::TEXT, Type::INT4, Type::TEXT];

/// Saves the answer if the order still shows the status `from`. Returns false if it does not, or if the first statement
/// of the mapping changes no row.
pub(in crate::sources) async fn answer(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    from: &str,
    change: &StatusChange<'_>,
) -> Result<bool, tokio_postgres::Error> {
    let keys = [change.key.to_owned()];
    let known = Known::lock(transaction, source, &keys).await?;
    if known.status(change.key, change.store.as_str()) != Some(from) {
        return Ok(false);
    }
    let (reason, by) = storable(transaction, change).await?;
    let statements = derived.answers.iter().find(|(status, _)| *status == change.to);
    for (place, sql) in statements.iter().flat_map(|(_, statements)| statements).enumerate() {
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&change.key, Type::TEXT),
            (&change.to.as_str(), Type::TEXT),
            (&reason, Type::TEXT),
            (&change.minutes, Type::INT4),
            (&by, Type::TEXT),
        ];
        let changed = transaction.query_typed(&with_rows(sql), &parameters).await?;
        if place == 0 && changed.is_empty() {
            return Ok(false);
        }
    }
    let projected = derive(transaction, source, derived, &keys).await?;
    publish_changes(
        transaction,
        source,
        derived,
        known,
        projected,
        Publish::Answer(change.store.as_str(), change.to),
    )
    .await?;
    Ok(true)
}

/// The reason and the person's name, without the characters that the database's encoding cannot hold.
async fn storable(
    transaction: &Transaction<'_>,
    change: &StatusChange<'_>,
) -> Result<(Option<String>, String), tokio_postgres::Error> {
    const STORABLE: &str = "select vestnik.vst_storable($1), vestnik.vst_storable($2)";
    let (reason, by) = (change.reason.map(str::as_bytes), change.by.as_bytes());
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&reason, Type::BYTEA), (&by, Type::BYTEA)];
    let row = transaction.query_typed_one(STORABLE, &parameters).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Publishes an answer that the shop's own API accepted. The order shows the status that the shop has set, or the
/// answer itself until the shop's status changes.
/// Nothing happens if the order no longer shows the status `from`: the projector has already published the shop's
/// change.
pub(in crate::sources) async fn taken(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    from: &str,
    change: &StatusChange<'_>,
) -> Result<(), tokio_postgres::Error> {
    let keys = [change.key.to_owned()];
    let known = Known::lock(transaction, source, &keys).await?;
    if known.status(change.key, change.store.as_str()) != Some(from) {
        return Ok(());
    }
    let projected = derive(transaction, source, derived, &keys).await?;
    let publish = Publish::Taken(change.store.as_str(), change.to);
    publish_changes(transaction, source, derived, known, projected, publish).await?;
    Ok(())
}

/// Adds `returning` to a statement that writes, so that its result has a row for each changed row.
fn with_rows(sql: &str) -> String {
    let sql = sql.trim().trim_end_matches(';');
    let words = sql.to_ascii_lowercase();
    let changes = ["update", "insert", "delete"]
        .iter()
        .any(|verb| words.starts_with(verb));
    match changes && !words.contains("returning") {
        true => format!("{sql}\nreturning true"),
        false => sql.to_owned(),
    }
}
