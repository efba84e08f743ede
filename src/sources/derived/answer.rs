//! Saves a person's answer to an order of a derived source. Either the SQL statements of the mapping save it in the
//! shop's tables, or the engine keeps it. A kept answer is shown instead of the shop's status until the shop's status
//! changes.

use crate::infra::db::{GenericClient, Transaction, reason};
use tokio_postgres::types::{ToSql, Type};

use super::super::Source;
use super::super::sql::literal;
use super::super::status_change::request::StatusChange;
use super::compute::{DERIVE_MS, compute};
use super::project::{Publish, PublishedResults, WrittenAt, publish_changes};
use super::{Derived, failure};

/// The types of the parameters of an answer's statement: the key, the status, the reason, the minutes, and the name of
/// the person who answers.
pub(super) const PARAMETERS: [Type; 5] = [Type::TEXT, Type::TEXT, Type::TEXT, Type::INT4, Type::TEXT];

/// SQL that lets names without a schema mean the schema of the shop's table, the parameter `$1`, first. It holds until
/// the transaction ends. The role's own search path follows, because triggers of the shop may need it.
pub(super) const NAMES: &str = "select set_config('search_path', quote_ident(n.nspname) || ', ' || current_setting('search_path'), true) \
     from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)";

/// Saves the answer if the order still shows the status `from`. Returns false if it does not, or if the first statement
/// of the mapping changes no row.
pub(in crate::sources) async fn answer(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    from: &str,
    change: &StatusChange<'_>,
) -> Result<bool, tokio_postgres::Error> {
    let keys = [change.key.to_owned()];
    let published = PublishedResults::lock(transaction, source, &keys).await?;
    if published.status(change.key, change.store.as_str()) != Some(from) {
        return Ok(false);
    }
    let (reason, by) = storable(transaction, change).await?;
    // Below an answer that the engine keeps, the shop's tables may say this already: then the kept answer only ends.
    let is_said = published.shop_status(change.key, change.store.as_str()) == Some(change.to.as_str());
    let of_status = derived.answers.iter().find(|(status, _)| *status == change.to);
    let statements = of_status.filter(|_| !is_said);
    if statements.is_some() {
        transaction.query(NAMES, &[&source.mapping.table]).await?;
    }
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
            // The shop may have changed the order a moment ago, and the projector has not published it yet. The caller
            // finds the order's new status in the engine's own table.
            let now = WrittenAt::new();
            let publish = Publish::Usual(&now);
            compute_and_publish(transaction, source, derived, published, &keys, publish).await?;
            return Ok(false);
        }
    }
    let publish = Publish::Answer(change.store.as_str(), change.to);
    compute_and_publish(transaction, source, derived, published, &keys, publish).await?;
    Ok(true)
}

/// The statements of answers that Postgres cannot run any more, for example because a column has another name, or a
/// right is missing. One line each.
pub(super) async fn broken(
    client: &impl GenericClient,
    table: &str,
    derived: &Derived,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let names = NAMES.replace("$1", &literal(table));
    let mut broken = Vec::new();
    for (status, statements) in &derived.answers {
        for sql in statements {
            let sql = sql.trim().trim_end_matches(';');
            // EXPLAIN checks the rights, too, and changes nothing. Nothing stays behind on a pooler's session.
            let explain = literal(&format!("explain {sql}"));
            let probe = format!(
                "{names}; do {block}",
                block = literal(&format!(
                    "begin execute {explain} using null::text, null::text, null::text, null::int, null::text; end"
                ))
            );
            match client.batch_execute(&probe).await {
                Ok(()) => {}
                Err(error) if error.as_db_error().is_some() => {
                    broken.push(format!("answer.{}: {}", status.as_str(), reason(&error)));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(broken)
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
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    from: &str,
    change: &StatusChange<'_>,
) -> Result<(), tokio_postgres::Error> {
    let keys = [change.key.to_owned()];
    let published = PublishedResults::lock(transaction, source, &keys).await?;
    if published.status(change.key, change.store.as_str()) != Some(from) {
        return Ok(());
    }
    let publish = Publish::Taken(change.store.as_str(), change.to);
    compute_and_publish(transaction, source, derived, published, &keys, publish).await?;
    Ok(())
}

/// Computes the orders with these keys as far as they can be read, and publishes what differs from the last published
/// results.
async fn compute_and_publish(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    published: PublishedResults,
    keys: &[String],
    publish: Publish<'_>,
) -> Result<(), tokio_postgres::Error> {
    let limit = format!("set local statement_timeout = {DERIVE_MS}");
    transaction.batch_execute(&limit).await?;
    let computed = compute(transaction, source, derived, keys, &published).await?;
    let (failures, without_store) = (&computed.failures, &computed.without_store);
    failure::save(transaction, source.id, keys, failures, without_store).await?;
    publish_changes(transaction, source, derived, published, computed.orders, publish).await?;
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
