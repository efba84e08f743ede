//! Looks up data that a row of orders does not contain: items in a separate table, and the result of the mapping's
//! `[details]` query. A look-up runs after the shop's transaction has committed, so the application may write the items
//! before or after the order's row. A read of the journal returns rows of many orders; one statement for each source
//! looks up all these orders.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::infra::db::Pool;
use tokio::time::{Instant, timeout};

use super::incomplete_orders::IncompleteOrders;
use super::lookup_failure;
use super::lookup_parts::{Part, Parts};
use super::lookup_query::{Failed, look_up};
use super::lookup_results::Lookups;
use super::overwrite_finder;
use super::overwritten_answer::OverwrittenAnswer;
use super::{Source, Sources};
use crate::domain::event::{EventId, JournalEvent, SourceId};
use crate::infra::db::{self, QueryError};

/// Time limit for each part of a source's look-up, which queries other tables for data of its orders. The limit is short
/// because the orders of other stores wait meanwhile.
const DEADLINE: Duration = Duration::from_millis(500);
/// Time beyond that of the parts, for the connection and for the answer of a statement that reaches its limit.
const CONNECTION_TIME: Duration = Duration::from_millis(200);
/// Time during which a part of a source's look-up is not retried after a failure. Meanwhile, clients receive the
/// source's orders without this part.
const RECOVERY_PAUSE: Duration = Duration::from_secs(10);

/// Runs the look-ups of a database: queries that find data of orders in other tables, such as their items. After a
/// failure, pauses the look-ups of the source.
pub struct Lookup {
    /// The orders that clients received without a part.
    pub incomplete_orders: IncompleteOrders,
    pool: Pool,
    broken: Mutex<HashMap<(SourceId, Part), Instant>>,
}

impl Lookup {
    /// Creates the `Lookup` for the database to which `pool` connects.
    pub fn new(pool: Pool) -> Self {
        Self {
            incomplete_orders: IncompleteOrders::default(),
            pool,
            broken: Mutex::default(),
        }
    }

    /// Looks up the data that clients need in addition to these journal rows. Never fails: if a look-up fails, clients
    /// receive the affected orders without the data, and with the items marked as unreadable.
    pub async fn for_events(&self, sources: &Sources, events: &[&JournalEvent]) -> Lookups {
        let mut lookups = self.for_keys(sources, sources.to_look_up(events)).await;
        lookups.set_overwritten(self.overwritten(sources, events).await);
        self.remember_incomplete(events, &lookups);
        lookups
    }

    /// Remembers the orders of these journal rows that clients receive without a part, because the look-up failed.
    pub fn remember_incomplete(&self, events: &[&JournalEvent], lookups: &Lookups) {
        for event in events {
            if let (Some(store), Some(order)) = (&event.store, event.subject_id())
                && lookups.has_failed(order.source)
            {
                self.incomplete_orders.add(store, &order);
            }
        }
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
            let (wanted, paused) = self.parts_to_try(source);
            lookups.fail(id, paused);
            if wanted.is_empty() {
                continue;
            }
            let limit = DEADLINE * wanted.len() + CONNECTION_TIME;
            match timeout(limit, self.read(source, &keys, wanted, &mut lookups))
                .await
                .unwrap_or(Err(db::Unanswered.into()))
            {
                Ok(failed) => {
                    let is_broken =
                        |part: Part| failed.iter().any(|failed| failed.part == part && failed.keys.is_none());
                    for part in wanted.iter().filter(|part| !is_broken(*part)) {
                        self.set_broken(id, part, None);
                    }
                    for Failed { part, keys, error } in failed {
                        self.failed(source, part, keys.as_deref(), &QueryError::Postgres(error))
                            .await;
                    }
                }
                Err(error) => {
                    lookups.fail(id, wanted);
                    for part in wanted.iter() {
                        self.failed(source, part, None, &error).await;
                    }
                }
            }
        }
        lookups
    }

    /// Reports why a part of a source's look-up failed. If it failed for all orders (`keys` is `None`), pauses it.
    async fn failed(&self, source: &Source, part: Part, keys: Option<&[Arc<str>]>, error: &QueryError) {
        if keys.is_none() {
            self.set_broken(source.id, part, Some(Instant::now()));
        }
        metrics::counter!("vestnik_source_lookup_failures_total").increment(1);
        let error = self.reason(error).await;
        tracing::error!(
            source = &*source.name,
            part = part.as_str(),
            order = keys.and_then(|keys| keys.first()).map(|key| &**key),
            error,
            "items or details could not be looked up: orders are sent without them"
        );
    }

    /// The parts of a source's look-up that may be tried now, and those that failed a short time ago.
    fn parts_to_try(&self, source: &Source) -> (Parts, Parts) {
        let broken = self.broken();
        let may_try = |part: &Part| {
            broken
                .get(&(source.id, *part))
                .is_none_or(|since| since.elapsed() > RECOVERY_PAUSE)
        };
        let (wanted, paused): (Vec<Part>, Vec<Part>) = source.parts().iter().partition(may_try);
        (wanted.into_iter().collect(), paused.into_iter().collect())
    }

    fn broken(&self) -> std::sync::MutexGuard<'_, HashMap<(SourceId, Part), Instant>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_broken(&self, source: SourceId, part: Part, since: Option<Instant>) {
        match since {
            Some(since) => self.broken().insert((source, part), since),
            None => self.broken().remove(&(source, part)),
        };
    }

    /// The reason of a failed look-up. If a right is missing, the reason ends with its GRANT.
    async fn reason(&self, error: &QueryError) -> String {
        let QueryError::Postgres(postgres) = error else {
            return error.to_string();
        };
        match timeout(DEADLINE, self.pool.get()).await {
            Ok(Ok(client)) => lookup_failure::logged_reason(&*client, postgres).await,
            Ok(Err(_)) | Err(_) => db::reason_without_values(postgres),
        }
    }

    /// Looks up the parts `wanted`. Returns what failed.
    async fn read(
        &self,
        source: &Source,
        keys: &[Arc<str>],
        wanted: Parts,
        lookups: &mut Lookups,
    ) -> Result<Vec<Failed>, QueryError> {
        let mut client = self.pool.get().await?;
        let transaction = db::snapshot(&mut client).await?;
        let limits = format!(
            "set local lock_timeout = {0}; set local statement_timeout = {0}",
            DEADLINE.as_millis()
        );
        transaction.batch_execute(&limits).await?;
        let found = look_up(&transaction, source, keys, wanted).await?;
        transaction.commit().await?;
        Ok(lookups.extend(source.id, found))
    }
}
