//! Saves a person's answer (the new status) to an order of a derived source (one whose orders come from SQL
//! expressions). If the mapping has SQL statements for the status, Vestnik runs them to change the shop's tables.
//! Otherwise Vestnik keeps the answer in the source's projection table. Clients then see the kept answer instead of the
//! shop's status, until the shop's status changes.

use crate::infra::db::{GenericClient, Transaction};
use tokio_postgres::types::{ToSql, Type};

use super::super::Source;
use super::super::catalog::Table;
use super::super::missing_right::grant_of;
use super::super::sql::literal;
use super::super::status_change::request::StatusChange;
use super::compute::{DERIVE_MS, compute};
use super::kept_answer::Pressed;
use super::project::{PublishedResults, publish_changes};
use super::publish::{Publish, WrittenAt};
use super::written_rows::WrittenRows;
use super::{Derived, failure, hidden_items, hidden_rows, hidden_tables, remedy};

/// The SQL types of the parameters `$1` to `$6` of a statement that saves a person's answer. The parameters are the
/// order's key, the new status, the reason, the minutes, the person's name, and the store's id.
pub(super) const PARAMETERS: [Type; 6] = [Type::TEXT, Type::TEXT, Type::TEXT, Type::INT4, Type::TEXT, Type::TEXT];

/// SQL that puts the schema of the shop's table first in `search_path`, until the transaction ends. The parameter `$1`
/// is the table's name. The role's own search path follows the schema, because triggers of the shop may need it.
pub(super) const NAMES: &str = "select set_config('search_path', quote_ident(n.nspname) || ', ' || current_setting('search_path'), true) \
     from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)";

/// Saves the answer `change` if the order's published status, which clients see, is still `from`. Returns false if the
/// published status differs, or if the mapping's first statement changes no row. Also returns false if the mapping has
/// no statement and the shop has changed the status meanwhile. The caller must then roll the transaction back.
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
    // Clients may see an earlier answer that Vestnik keeps, although the shop's tables already have the status
    // `change.to`. Then no statement needs to run, and the earlier answer ends.
    let is_said = published.shop_status(change.key, change.store.as_str()) == Some(change.to.as_str());
    let of_status = derived.answers.iter().find(|(status, _)| *status == change.to);
    let statements = of_status.filter(|_| !is_said);
    if statements.is_some() {
        transaction.query(NAMES, &[&source.mapping.table]).await?;
    }
    for (place, sql) in statements.iter().flat_map(|(_, statements)| statements).enumerate() {
        let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
            (&change.key, Type::TEXT),
            (&change.to.as_str(), Type::TEXT),
            (&reason, Type::TEXT),
            (&change.minutes, Type::INT4),
            (&by, Type::TEXT),
            (&change.store.as_str(), Type::TEXT),
        ];
        let changed = transaction.query_typed(&with_rows(sql), &parameters).await?;
        if place == 0 && changed.is_empty() {
            // The shop may have changed the order, and the projector may not have published this change yet. The caller
            // reads the order's status now from the projection table, and then rolls the transaction back.
            let now = WrittenAt::new();
            let publish = Publish::Usual(&now);
            compute_and_publish(transaction, source, derived, published, &keys, publish).await?;
            return Ok(false);
        }
    }
    let pressed = pressed(change, reason.as_deref());
    if statements.is_some() {
        let publish = Publish::Answer(pressed);
        compute_and_publish(transaction, source, derived, published, &keys, publish).await?;
        return Ok(true);
    }
    // The shop may have changed the order, and the projector may not have published this change yet. For example, the
    // shop has cancelled the order. Then the shop's status counts, and the answer is refused.
    let publish = Publish::Taken(pressed);
    compute_and_publish(transaction, source, derived, published, &keys, publish).await?;
    let published = PublishedResults::lock(transaction, source, &keys).await?;
    Ok(published.status(change.key, change.store.as_str()) == Some(change.to.as_str()))
}

/// A statement for people's answers that Postgres can no longer run.
#[derive(Debug)]
pub(super) struct BrokenStatement {
    /// The mapping's key and the error of Postgres.
    pub line: String,
    /// The GRANT statement of the missing right; `None`: the error has another cause, or the GRANT is not known.
    pub grant: Option<String>,
}

/// Finds the mapping's SQL statements for people's answers that Postgres can no longer run. For example, a column was
/// renamed, or a right is missing.
pub(super) async fn broken(
    client: &impl GenericClient,
    table: &Table,
    derived: &Derived,
) -> Result<Vec<BrokenStatement>, tokio_postgres::Error> {
    const ROLE: &str = "select quote_ident(current_user)";
    let names = NAMES.replace("$1", &literal(&table.quoted));
    let mut broken = Vec::new();
    for (status, statements) in &derived.answers {
        for sql in statements {
            let sql = sql.trim().trim_end_matches(';');
            // EXPLAIN checks the statement and the role's rights, and changes no data. A `do` block leaves no prepared
            // statement behind, so the check also works through a connection pooler.
            let explain = literal(&format!("explain {sql}"));
            let probe = format!(
                "{names}; do {block}",
                block = literal(&format!(
                    "begin execute {explain} using null::text, null::text, null::text, null::int, null::text, null::text; end"
                ))
            );
            match client.batch_execute(&probe).await {
                Ok(()) => {}
                Err(error) if error.as_db_error().is_some() => {
                    let reason = remedy::of_statement(&error, sql);
                    let role: String = client.query_one(ROLE, &[]).await?.try_get(0)?;
                    broken.push(BrokenStatement {
                        grant: grant_of(client, &reason, &role, &table.schema).await?,
                        line: format!("answer.{}: {reason}", status.as_str()),
                    });
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(broken)
}

/// Removes from an answer the characters that the database's encoding cannot store. Returns the answer's reason and the
/// person's name.
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

/// The answer `change` with its reason as the database stores it.
fn pressed<'a>(change: &'a StatusChange<'_>, reason: Option<&'a str>) -> Pressed<'a> {
    Pressed {
        store: change.store.as_str(),
        to: change.to,
        minutes: change.minutes,
        reason,
    }
}

/// Publishes the answer `change`, which the shop's own API has accepted, or which only promises other minutes. If the
/// status in the shop's tables has changed, clients receive that status. Otherwise they receive the answer's status,
/// until the shop's status changes. If the order's published status is no longer `from`, does nothing: Vestnik has then
/// already published the shop's change.
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
    let (reason, _) = storable(transaction, change).await?;
    let publish = Publish::Taken(pressed(change, reason.as_deref()));
    compute_and_publish(transaction, source, derived, published, &keys, publish).await?;
    Ok(())
}

/// Computes the orders with these keys, and publishes each value that differs from the last published result. If an
/// expression fails, only its own value becomes unreadable.
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
    let mut computed = compute(transaction, source, derived, keys, &published).await?;
    // If people no longer see the order, its row is gone, or row level security hides it or rows of other tables.
    if computed.orders.is_empty() || !hidden_tables::lost(keys, &computed, &published).is_empty() {
        let rows = WrittenRows::queued(transaction, source.id, keys).await?;
        hidden_rows::find(transaction, source, derived, keys, &mut computed, &published, &rows).await?;
        hidden_tables::find(transaction, source, derived, keys, &mut computed, &published, &rows).await?;
    }
    hidden_items::find(transaction, source, derived, &mut computed, &published, publish).await?;
    let unseen = [computed.without_store, computed.hidden].concat();
    failure::save(transaction, source.id, keys, &computed.failures, &unseen).await?;
    publish_changes(transaction, source, derived, published, computed.orders, publish).await?;
    Ok(())
}

/// Adds `returning true` to an `insert`, `update` or `delete`, so that the statement's result has one row for each
/// changed row.
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
