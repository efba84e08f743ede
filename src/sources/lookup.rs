//! Looks up data that a row of orders does not contain: items in a separate table, and the result of the mapping's
//! `[details]` query. A look-up runs after the shop's transaction has committed, so the application may write the items
//! before or after the order's row. A read of the journal returns rows of many orders; one statement for each source
//! looks up all these orders.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::infra::db::{GenericClient, Pool};
use tokio::time::{Instant, timeout};
use tokio_postgres::types::Type;

use super::items::LISTED_ITEMS;
use super::lookup_failure;
use super::lookup_results::Lookups;
use super::mapping::{Column, Items, ItemsRef};
use super::overwrite_finder;
use super::overwritten_answer::OverwrittenAnswer;
use super::sql::{details_sql, ident, path_array, value_text};
use super::yes_no::says_no_sql;
use super::{Source, Sources};
use crate::domain::event::{EventId, JournalEvent, SourceId};
use crate::infra::db::{self, QueryError};

/// Time limit for the look-ups of one source, which query other tables for data of its orders. The limit is short
/// because the orders of other stores wait meanwhile.
const DEADLINE: Duration = Duration::from_millis(500);
/// Time during which a source's look-ups are not retried after a failure. Meanwhile, clients receive the source's
/// orders without the data from other tables.
const RECOVERY_PAUSE: Duration = Duration::from_secs(10);

/// Runs the look-ups of a database: queries that find data of orders in other tables, such as their items. After a
/// failure, pauses the look-ups of the source.
pub struct Lookup {
    pool: Pool,
    broken: Mutex<HashMap<SourceId, Instant>>,
}

impl Lookup {
    /// Creates the `Lookup` for the database to which `pool` connects.
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            broken: Mutex::default(),
        }
    }

    /// Looks up the data that clients need in addition to these journal rows. Never fails: if a look-up fails, clients
    /// receive the affected orders without the data, and with the items marked as unreadable.
    pub async fn for_events(&self, sources: &Sources, events: &[&JournalEvent]) -> Lookups {
        let mut lookups = self.for_keys(sources, sources.to_look_up(events)).await;
        lookups.set_overwritten(self.overwritten(sources, events).await);
        lookups
    }

    /// Finds people's answers that the shop overwrote. `events` are the journal rows of the shop's writes. The map's
    /// key is the id of the journal row that overwrote the answer. If the query fails or takes too long, the result is
    /// empty.
    pub async fn overwritten(
        &self,
        sources: &Sources,
        events: &[&JournalEvent],
    ) -> HashMap<EventId, OverwrittenAnswer> {
        let steps = sources.steps_back(events);
        if steps.is_empty() {
            return HashMap::new();
        }
        let found = timeout(DEADLINE, async {
            let client = self.pool.get().await?;
            Ok::<_, QueryError>(overwrite_finder::find(&*client, &steps).await?)
        });
        match found.await.unwrap_or(Err(db::Unanswered.into())) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "could not check whether the shop overwrote answers");
                HashMap::new()
            }
        }
    }

    /// Looks up data of orders in other tables. `wanted` has the keys of the orders for each source. If a look-up
    /// fails, the result marks its source as failed.
    pub async fn for_keys(&self, sources: &Sources, wanted: HashMap<SourceId, Vec<Arc<str>>>) -> Lookups {
        let mut lookups = Lookups::default();
        for (id, keys) in wanted {
            let Some(source) = sources.get(id) else { continue };
            if !self.may_try(id) {
                lookups.fail(id);
                continue;
            }
            match timeout(DEADLINE, self.read(source, &keys, &mut lookups))
                .await
                .unwrap_or(Err(db::Unanswered.into()))
            {
                Ok(()) => self.set_broken(id, None),
                Err(error) => {
                    self.set_broken(id, Some(Instant::now()));
                    lookups.fail(id);
                    metrics::counter!("vestnik_source_lookup_failures_total").increment(1);
                    let error = self.reason(&error).await;
                    tracing::error!(
                        source = &*source.name,
                        error,
                        "items or details could not be looked up: orders are sent without them"
                    );
                }
            }
        }
        lookups
    }

    fn broken(&self) -> std::sync::MutexGuard<'_, HashMap<SourceId, Instant>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_try(&self, source: SourceId) -> bool {
        self.broken()
            .get(&source)
            .is_none_or(|since| since.elapsed() > RECOVERY_PAUSE)
    }

    fn set_broken(&self, source: SourceId, since: Option<Instant>) {
        match since {
            Some(since) => self.broken().insert(source, since),
            None => self.broken().remove(&source),
        };
    }

    /// The reason of a failed look-up. If a right is missing, the reason ends with its GRANT.
    async fn reason(&self, error: &QueryError) -> String {
        let QueryError::Postgres(postgres) = error else {
            return error.to_string();
        };
        match timeout(DEADLINE, self.pool.get()).await {
            Ok(Ok(client)) => lookup_failure::logged_reason(&*client, postgres).await,
            Ok(Err(_)) | Err(_) => error.to_string(),
        }
    }

    async fn read(&self, source: &Source, keys: &[Arc<str>], lookups: &mut Lookups) -> Result<(), QueryError> {
        let mut client = self.pool.get().await?;
        let transaction = db::snapshot(&mut client).await?;
        let limits = format!(
            "set local lock_timeout = {0}; set local statement_timeout = {0}",
            DEADLINE.as_millis()
        );
        transaction.batch_execute(&limits).await?;
        let found = look_up(&transaction, source, keys).await?;
        transaction.commit().await?;
        lookups.extend(source.id, found);
        Ok(())
    }
}

/// Looks up data of a source's orders in other tables. `keys` has the keys of the orders. Returns the data as one JSON
/// object for each key that has any.
pub async fn look_up(
    transaction: &impl GenericClient,
    source: &Source,
    keys: &[Arc<str>],
) -> Result<HashMap<String, String>, tokio_postgres::Error> {
    let mut found = look_up_details(transaction, source, keys).await?;
    let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
    if let Some(items) = &source.mapping.items
        && let ItemsRef::Table { table, order_key } = &items.from
    {
        let sql = items_sql(transaction, items, table, order_key).await?;
        for row in transaction.query_typed(&sql, &[(&keys, Type::TEXT_ARRAY)]).await? {
            let (key, items): (String, &str) = (row.try_get(0)?, row.try_get(1)?);
            let object = found.entry(key).or_insert_with(|| "{}".to_owned());
            let rest = object.trim_start_matches('{');
            let comma = if rest.trim() == "}" { "" } else { "," };
            *object = format!("{{\"items\":{items}{comma}{rest}");
        }
    }
    Ok(found)
}

/// Runs the mapping's `[details]` query for the orders with these keys. Returns one JSON object for each key that has a
/// row. Empty: the mapping has no such query.
pub(super) async fn look_up_details(
    transaction: &impl GenericClient,
    source: &Source,
    keys: &[Arc<str>],
) -> Result<HashMap<String, String>, tokio_postgres::Error> {
    let mut found = HashMap::new();
    let Some(query) = &source.mapping.details else {
        return Ok(found);
    };
    let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
    for row in transaction
        .query_typed(&details_sql(query), &[(&keys, Type::TEXT_ARRAY)])
        .await?
    {
        found.insert(row.try_get(0)?, row.try_get(1)?);
    }
    Ok(found)
}

/// SQL that selects the items of the orders whose keys are in the array `$1`. The columns get Vestnik's names, such as
/// `name` and `quantity`. Items are sorted by the primary key of their table.
async fn items_sql(
    transaction: &impl GenericClient,
    items: &Items,
    table: &str,
    order_key: &str,
) -> Result<String, tokio_postgres::Error> {
    const FACTS: &str = "select format_type(a.atttypid, null), \
             array(select quote_ident(p.attname) from pg_index i join pg_attribute p on p.attrelid = i.indrelid and p.attnum = any (i.indkey::int2[]) \
                   where i.indrelid = a.attrelid and i.indisprimary order by array_position(i.indkey::int2[], p.attnum)) \
         from pg_attribute a where a.attrelid = to_regclass($1) and a.attname = $2 and not a.attisdropped";
    let row = transaction
        .query_typed_opt(FACTS, &[(&table, Type::TEXT), (&order_key, Type::TEXT)])
        .await?;
    let (kind, primary): (String, Vec<String>) = match row {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        // The items table or its column is missing. Return a statement anyway: Postgres then gives an error that names
        // the missing table or column.
        None => ("text".to_owned(), Vec::new()),
    };
    let named = items
        .named_columns()
        .filter(|(name, _)| *name != "deleted_at")
        .map(|(name, column)| format!("{} as {name}", expression(column)));
    let named: Vec<String> = named.collect();
    let order = if primary.is_empty() {
        "ctid".to_owned()
    } else {
        primary.join(", ")
    };
    let key = ident(order_key);
    let alive = items.deleted_at.as_ref().map_or_else(String::new, |column| {
        format!(" and {}", says_no_sql(&value_text(&column.name, &column.path)))
    });
    Ok(format!(
        "select key, json_agg(item order by place)::text from ( \
             select {key}::text as key, row_number() over (partition by {key} order by {order}) as place, \
                 row_to_json((select one from (select {columns}) one)) as item \
             from {table} t where {key} = any ($1::text[]::{kind}[]){alive}) listed \
         where place <= {most} group by key",
        columns = named.join(", "),
        most = LISTED_ITEMS + 1,
    ))
}

/// An SQL expression for a column of an items table. If the column has a path, the expression gives the value at this
/// path in the column's JSON.
fn expression(column: &Column) -> String {
    let name = ident(&column.name);
    if column.path.is_empty() {
        return name;
    }
    format!("{name}::jsonb #> {}", path_array(&column.path))
}
