//! The projector computes the orders of a database's derived sources, whose orders come from SQL expressions. Every
//! node starts it, but only the node that holds the projector's lease, a claim that ends by itself, does the work. The
//! projector polls the queue of changes, so that the shop's writes need not notify it. Without derived sources it runs
//! no queries.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::infra::db::Pool;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::Source;
use super::super::registry::Registry;
use super::batch::{Done, batch};
use super::failure::RETRY_SECONDS;
use super::policy_changes;
use super::queue_progress::{BATCH_CHANGES, QueueProgress};
use crate::domain::event::SourceId;
use crate::infra::backoff::Backoff;
use crate::infra::db::{self, QueryError, Transaction};

/// Time after which the projector's lease ends unless the node renews it. Only the node with the lease computes orders.
const LEASE: Duration = Duration::from_secs(3);
/// Interval at which the node that holds the projector's lease renews it.
const RENEWAL: Duration = Duration::from_secs(1);
/// Interval at which a node without the projector's lease tries to take it. Only the node with the lease computes
/// orders.
const STANDBY_PAUSE: Duration = Duration::from_millis(500);
/// Interval at which the node with the projector's lease polls the queue for changes of orders.
const POLL_PAUSE: Duration = Duration::from_millis(20);
/// Interval at which the node with the projector's lease polls the queue while changes are frequent. It applies until
/// [`BUSY_FOR`] has passed since the last change.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Time after the last change during which the node polls at the interval [`BUSY_PAUSE`].
const BUSY_FOR: Duration = Duration::from_secs(1);
/// Interval at which a node without derived sources checks whether a derived source was attached.
const IDLE_PAUSE: Duration = Duration::from_millis(250);
/// Pause of a source after its batch failed. The batches of other sources continue.
const REST: Duration = Duration::from_secs(1);
/// Minimum time between two warnings that a source's batch failed for the same reason.
const WARNING_PAUSE: Duration = Duration::from_secs(60);
/// Interval at which orders with a failing expression are computed again.
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// Interval at which the node with the projector's lease looks whether policies of row level security changed.
const POLICY_PAUSE: Duration = Duration::from_secs(10);
/// Maximum number of orders with a failing expression that one batch computes again. As soon as one of these orders
/// can be computed, the limit becomes [`BATCH_CHANGES`].
const RETRIED_ORDERS: i64 = 20;
/// Maximum number of distinct failures that are logged for a source. The count starts at 0 again when a failure ends.
const LOGGED_FAILURES: usize = 20;
/// Time limit of a batch. Without the limit, a batch on a half-open connection would never end.
const BATCH_DEADLINE: Duration = Duration::from_secs(120);

/// The background task that computes the orders of a database's derived sources (sources whose orders come from SQL
/// expressions).
pub struct Projector {
    pool: Pool,
    sources: Arc<Registry>,
    /// The name under which this projector holds the lease. Each start of the program has a different name.
    holder: String,
    progress: HashMap<SourceId, QueueProgress>,
    /// For each source: the failures that were already logged, each as its place in the mapping and its reason. They
    /// are not logged again.
    logged: HashMap<SourceId, BTreeSet<(String, String)>>,
    /// For each source: the time when its failing orders are computed again, and their maximum number in one batch. If
    /// a source has no entry, its next batch computes failing orders again.
    retries: HashMap<SourceId, (Instant, i64)>,
    /// The sources whose last batch failed, each with the time at which its next batch may run.
    resting: HashMap<SourceId, Instant>,
    /// The last logged warning about each source whose batch fails.
    warned: HashMap<SourceId, Warned>,
}

/// The last warning that a source's batch failed. While the reason stays the same, the warning is logged again only
/// after [`WARNING_PAUSE`].
struct Warned {
    reason: String,
    at: Instant,
    /// Number of failed batches that were not logged since this warning.
    unlogged: u64,
}

/// Whether this node or another node holds the projector's lease, which lets only one node compute orders.
enum Lease {
    Held,
    Elsewhere,
}

impl Projector {
    /// Creates the projector for the database to which `pool` connects.
    pub fn new(pool: Pool, sources: Arc<Registry>) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let started = STARTED.fetch_add(1, Ordering::Relaxed);
        let since = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
        Self {
            pool,
            sources,
            // The time, the process id and the count make the name unique over all machines and starts.
            holder: format!("{since}-{}-{started}", std::process::id()),
            progress: HashMap::new(),
            logged: HashMap::new(),
            retries: HashMap::new(),
            resting: HashMap::new(),
            warned: HashMap::new(),
        }
    }

    /// Computes changed orders until `stop` is cancelled, then releases the projector's lease.
    pub async fn run(mut self, stop: CancellationToken) {
        let ended = stop.clone();
        tokio::select! {
            () = self.project() => {}
            () = ended.cancelled() => self.give_up().await,
        }
    }

    async fn project(&mut self) {
        let mut renewed: Option<Instant> = None;
        let mut busy_until = Instant::now();
        let mut backoff = Backoff::new();
        let mut policies_seen: Option<Instant> = None;
        loop {
            let derived = self.derived();
            if derived.is_empty() {
                renewed = None;
                sleep(IDLE_PAUSE).await;
                continue;
            }
            if renewed.is_none_or(|at| at.elapsed() >= RENEWAL) {
                match db::with_timeout(self.renew()).await {
                    Ok(Lease::Held) => renewed = Some(Instant::now()),
                    Ok(Lease::Elsewhere) => {
                        (renewed, self.progress) = (None, HashMap::new());
                        sleep(STANDBY_PAUSE).await;
                        continue;
                    }
                    Err(error) => {
                        renewed = None;
                        tracing::warn!(%error, "the lease of the projector could not be renewed");
                        sleep(backoff.next_pause()).await;
                        continue;
                    }
                }
            }
            if policies_seen.is_none_or(|at| at.elapsed() >= POLICY_PAUSE) {
                policies_seen = Some(Instant::now());
                if let Err(error) = db::with_timeout(self.notice_policies(&derived)).await {
                    tracing::warn!(%error, "the projector could not look for changed policies");
                }
            }
            match self.round(&derived).await {
                Ok(taken) => {
                    backoff.reset();
                    if taken > 0 {
                        busy_until = Instant::now() + BUSY_FOR;
                    }
                    // A full batch means that more changes are waiting.
                    if taken >= BATCH_CHANGES.unsigned_abs() as usize {
                        continue;
                    }
                }
                Err(error) => {
                    renewed = None;
                    tracing::warn!(%error, "the projector could not look for changes");
                    sleep(backoff.next_pause()).await;
                }
            }
            sleep(if Instant::now() < busy_until {
                BUSY_PAUSE
            } else {
                POLL_PAUSE
            })
            .await;
        }
    }

    fn derived(&self) -> Vec<Arc<Source>> {
        let sources = self.sources.current();
        let all = sources
            .all()
            .into_iter()
            .filter(|source| source.mapping.derived.is_some());
        all.cloned().collect()
    }

    async fn renew(&self) -> Result<Lease, QueryError> {
        const RENEW: &str = "update vestnik.vst_projector set holder = $1, until = clock_timestamp() + $2::float8 * interval '1 second' \
             where holder = $1 or holder is null or until < clock_timestamp()";
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(RENEW).await?;
        let renewed = client
            .execute(&statement, &[&self.holder, &LEASE.as_secs_f64()])
            .await?;
        Ok(if renewed == 1 { Lease::Held } else { Lease::Elsewhere })
    }

    /// Has all orders computed again if policies of row level security changed.
    async fn notice_policies(&self, derived: &[Arc<Source>]) -> Result<(), QueryError> {
        let ids: Vec<SourceId> = derived.iter().map(|source| source.id).collect();
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        if !self.holds_lease(&transaction).await? {
            return Ok(());
        }
        let are_changed = policy_changes::notice(&transaction, &ids).await?;
        transaction.commit().await?;
        if are_changed {
            tracing::info!("policies of row level security changed, so all orders are computed again");
        }
        Ok(())
    }

    /// Whether this projector holds the lease. Locks the lease's row, so that no other node can take the lease before
    /// the transaction ends.
    async fn holds_lease(&self, transaction: &Transaction<'_>) -> Result<bool, QueryError> {
        const FENCE: &str = "select from vestnik.vst_projector where holder = $1 for update";
        let statement = transaction.prepare_cached(FENCE).await?;
        Ok(transaction.query_opt(&statement, &[&self.holder]).await?.is_some())
    }

    /// Releases the projector's lease, so that another node can take it at once.
    async fn give_up(&self) {
        const GIVE_UP: &str = "update vestnik.vst_projector set holder = null, until = '-infinity' where holder = $1";
        let given = db::with_timeout(async {
            self.pool.get().await?.execute(GIVE_UP, &[&self.holder]).await?;
            Ok::<_, QueryError>(())
        });
        if let Err(error) = given.await {
            tracing::debug!(%error, "the lease of the projector was not given up, and ends by itself");
        }
    }

    /// Runs one batch for each derived source that has changes. Returns the number of processed changes. If the batch
    /// of one source fails, the batches of the other sources still run.
    async fn round(&mut self, derived: &[Arc<Source>]) -> Result<usize, QueryError> {
        let with_changes = db::with_timeout(self.with_changes(derived)).await?;
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        let mut taken = 0;
        for source in derived.iter().filter(|source| with_changes.contains(&source.id)) {
            if self.resting.contains_key(&source.id) {
                continue;
            }
            match timeout(BATCH_DEADLINE, self.batch(source.id))
                .await
                .unwrap_or(Err(db::Unanswered.into()))
            {
                Ok(done) => {
                    taken += done;
                    self.warned.remove(&source.id);
                }
                Err(error) => {
                    let source_name = &*source.name;
                    match self.may_warn(source.id, error.to_string(), now) {
                        Some(unlogged) => {
                            tracing::warn!(source = source_name, %error, unlogged, "orders could not be projected, and are tried again");
                        }
                        None => tracing::debug!(source = source_name, %error, "orders still cannot be projected"),
                    }
                    self.progress.remove(&source.id);
                    self.resting.insert(source.id, now + REST);
                }
            }
        }
        Ok(taken)
    }

    /// Decides whether to log a failed batch. Returns how many failed batches were not logged since the last warning.
    /// `None`: do not log this failed batch.
    fn may_warn(&mut self, id: SourceId, reason: String, now: Instant) -> Option<u64> {
        let last = self.warned.get_mut(&id).filter(|last| last.reason == reason);
        let unlogged = match last {
            Some(last) if now.duration_since(last.at) < WARNING_PAUSE => {
                last.unlogged += 1;
                return None;
            }
            Some(last) => last.unlogged,
            None => 0,
        };
        let warned = Warned {
            reason,
            at: now,
            unlogged: 0,
        };
        self.warned.insert(id, warned);
        Some(unlogged)
    }

    async fn with_changes(&self, derived: &[Arc<Source>]) -> Result<Vec<SourceId>, QueryError> {
        const WITH_CHANGES: &str = "select s.id from unnest($1::int[], $2::int8[], $3::bool[]) s (id, through, is_retried) \
             where exists (select from vestnik.vst_change c where c.source = s.id and c.id > s.through) \
                or exists (select from vestnik.vst_wait w where w.source = s.id and w.until <= clock_timestamp()) \
                or s.is_retried and exists (select from vestnik.vst_projection_failure f where f.source = s.id \
                    and f.tried_at < clock_timestamp() - $4::float8 * interval '1 second')";
        let ids: Vec<i32> = derived.iter().map(|source| source.id.0).collect();
        let through = |source: &Arc<Source>| self.progress.get(&source.id).copied().unwrap_or_default().through();
        let through: Vec<i64> = derived.iter().map(through).collect();
        let retried: Vec<bool> = derived.iter().map(|source| self.retried(source.id) > 0).collect();
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(WITH_CHANGES).await?;
        let rows = client
            .query(&statement, &[&ids, &through, &retried, &RETRY_SECONDS])
            .await?;
        Ok(rows
            .iter()
            .map(|row| row.try_get(0).map(SourceId))
            .collect::<Result<_, _>>()?)
    }

    /// Runs a batch of one source if this node still holds the lease.
    async fn batch(&mut self, id: SourceId) -> Result<usize, QueryError> {
        let mut client = self.pool.get().await?;
        let mut transaction = client.transaction().await?;
        if !self.holds_lease(&transaction).await? {
            return Ok(0);
        }
        db::limit_idle_in_transaction(&transaction).await?;
        // The transaction reads the mapping from the database, because the node may have an older mapping in memory.
        let sources = self.sources.in_force(&transaction).await?;
        let Some((source, derived)) = sources
            .get(id)
            .and_then(|source| Some((source, source.mapping.derived.as_ref()?)))
        else {
            return Ok(0);
        };
        let mut progress = self.progress.get(&id).copied().unwrap_or_default();
        let retried = self.retried(id);
        let done = batch(&mut transaction, source, derived, &mut progress, retried).await?;
        transaction.commit().await?;
        self.progress.insert(id, progress);
        // If one failure has ended, its cause has probably ended for other orders, too. So the next batch computes more
        // of the failing orders again.
        if done.readable_again > 0 {
            self.retries.insert(id, (Instant::now(), BATCH_CHANGES));
            self.logged.remove(&id);
        } else if retried > 0 {
            self.retries.insert(id, (Instant::now() + RETRY_PAUSE, RETRIED_ORDERS));
        }
        report(source, &done, self.logged.entry(id).or_default());
        Ok(done.taken)
    }

    /// The maximum number of failing orders of a source that the next batch computes again. It is 0 while the pause
    /// after the last attempt, [`RETRY_PAUSE`], lasts.
    fn retried(&self, id: SourceId) -> i64 {
        match self.retries.get(&id) {
            Some((at, _)) if *at > Instant::now() => 0,
            Some((_, most)) => *most,
            None => RETRIED_ORDERS,
        }
    }
}

fn report(source: &Source, done: &Done, logged: &mut BTreeSet<(String, String)>) {
    if !done.failures.is_empty() {
        metrics::counter!("vestnik_projection_failures_total").increment(1);
    }
    for failure in &done.failures {
        let distinct = (failure.place.clone(), failure.reason.clone());
        if logged.len() >= LOGGED_FAILURES || !logged.insert(distinct) {
            continue;
        }
        if failure.is_hidden_row() {
            tracing::error!(
                source = &*source.name,
                %failure,
                "row level security hides orders of a derived source, or their items: they are looked for again every 10 s"
            );
            continue;
        }
        tracing::error!(
            source = &*source.name,
            %failure,
            "the expressions of a derived source fail: its orders are shown as far as they can be read; mend its mapping: \
             `vestnik source edit`"
        );
    }
    if done.taken > 0 {
        tracing::debug!(
            source = &*source.name,
            changes = done.taken,
            events = done.events,
            "orders were projected"
        );
    }
}
