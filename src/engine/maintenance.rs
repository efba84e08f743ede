//! The background tasks of a database. They close sessions of revoked tokens, trim old events, end pauses, run the
//! reconciler, and sample metrics.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fanout::router::Router;
use crate::feed::FeedHealth;
use crate::feed::listener::ListenState;
use crate::http::{ConnectionLimits, DatabaseContext};
use crate::infra::db;
use crate::infra::db::Pool;
use crate::infra::metrics;
use crate::infra::periodic::Periodic;
use crate::journal::{self, Trimmed};
use crate::sources::health::{self as source_health, Health};
use crate::sources::incomplete_events::{self, RecordedLate};
use crate::sources::reconciler::{MissedRows, Reconciler};
use crate::store::{pause, stock};

/// Time between two rounds of trimming old events.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);
/// Time limit of trimming one batch, because a statement over a half-open connection would never end.
const TRIM_DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two deleted batches of old events, so that other statements can use the disk.
const TRIM_PAUSE: Duration = Duration::from_millis(100);
/// Time between two samples of the gauges.
const GAUGE_INTERVAL: Duration = Duration::from_secs(15);

/// Time between two checks whether the end time of a store's pause, or of an item on a stop list, has passed. A stop
/// list has the items of which a store is out of stock.
const PAUSE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two checks of how long ago the journal was read.
const STALE_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// If the journal was not read for this long, the node closes all sessions, so that clients connect to another node.
const CLOSE_AFTER: Duration = Duration::from_secs(10);

/// Watches whether the node can read the journal. If it cannot, tells the sessions, and closes them after
/// `CLOSE_AFTER`. Otherwise a client would think that its store has no new orders.
pub(super) async fn watch_health(health: Arc<FeedHealth>, router: Arc<Router>, stop: CancellationToken) {
    let mut periodic = Periodic::now(STALE_CHECK_INTERVAL, &stop);
    let mut are_closed = false;
    while periodic.next_run().await {
        let Some(age) = health.age() else { continue };
        router.set_stale(!health.is_fresh());
        if age < CLOSE_AFTER {
            are_closed = false;
        } else if !std::mem::replace(&mut are_closed, true) {
            tracing::warn!(
                seconds = age.as_secs(),
                "the journal cannot be read: all sessions are closed, so that clients reconnect to another node"
            );
            router.let_all_go();
        }
    }
}

/// Trims events that are older than the retention, until the shutdown.
pub(super) async fn trim(pool: Pool, retention: Duration, stop: CancellationToken) {
    let mut periodic = Periodic::later(TRIM_INTERVAL, &stop);
    while periodic.next_run().await {
        let trimmed = timeout(TRIM_DEADLINE, journal::trim_batch(&pool, retention)).await;
        match trimmed.unwrap_or(Err(journal::Error::TimedOut)) {
            Ok(Trimmed::Batch(gone)) => {
                ::metrics::counter!("vestnik_events_trimmed_total").increment(gone);
                periodic.set_next_pause(TRIM_PAUSE);
            }
            Ok(Trimmed::Done(gone)) => ::metrics::counter!("vestnik_events_trimmed_total").increment(gone),
            Ok(Trimmed::Elsewhere) => {}
            Err(error) => tracing::warn!(%error, "could not trim old events"),
        }
    }
}

/// Ends a store's pause at the end time of the pause. A store's stop list has the items that are out of stock. Removes
/// an item from this list at the item's end time.
pub(super) async fn end_pauses(pool: Pool, stop: CancellationToken) {
    let mut periodic = Periodic::now(PAUSE_CHECK_INTERVAL, &stop);
    while periodic.next_run().await {
        if let Err(error) = pause::end_due(&pool).await {
            tracing::warn!(%error, "could not end the pauses that are over");
        }
        if let Err(error) = stock::end_due(&pool).await {
            tracing::warn!(%error, "could not put back the items whose time is over");
        }
    }
}

fn report_missed(database: Option<&str>, missed: &MissedRows, is_replacing: bool) {
    let MissedRows {
        table, rows, newest, ..
    } = missed;
    ::metrics::counter!("vestnik_rows_without_event_total").increment(rows.unsigned_abs());
    let late = "rows were written past the triggers, or an unwatched table showed them: their panels ring now, late; find the writer \
                that disables triggers or sets session_replication_role = replica";
    let silent = "rows were written past the triggers, and no panel rang for them: call those stores, and find the writer \
                  that disables triggers or sets session_replication_role = replica";
    let replaced = "rows were written to a table without triggers, because it has taken the place of another table: run `vestnik migrate`, \
                    and panels ring for what was written meanwhile, late";
    match missed.told_late {
        _ if is_replacing => tracing::error!(database, table, rows, newest, "{replaced}"),
        true => tracing::error!(database, table, rows, newest, "{late}"),
        false => tracing::error!(database, table, rows, newest, "{silent}"),
    }
}

/// Records rows whose events have no store or no key, because the column had another name meanwhile.
async fn record_incomplete(pool: &Pool, database: Option<&str>) {
    match incomplete_events::record(pool).await {
        Ok(recorded) => {
            for RecordedLate { table, rows } in recorded {
                tracing::error!(
                    database,
                    table,
                    rows,
                    "rows were written while their store or key column had another name, and nobody was told: they are recorded now, and ring late"
                );
            }
        }
        Err(error) if error.is_transient() => tracing::debug!(%error, "could not record incomplete rows"),
        Err(error) => tracing::warn!(%error, "could not record incomplete rows"),
    }
}

/// Runs the reconciler at intervals: it compares the sources with the journal. If rows were written without the
/// triggers, no session received events for them in time, so this task logs these rows.
pub(super) async fn reconcile(pool: Pool, database: Option<String>, pause: Duration, stop: CancellationToken) {
    let mut reconciler = Reconciler::default();
    let mut periodic = Periodic::now(pause, &stop);
    while periodic.next_run().await {
        record_incomplete(&pool, database.as_deref()).await;
        match reconciler.look(&pool).await {
            Ok(missed) => {
                tracing::debug!(database, "compared the tables with the journal");
                for missed in &missed {
                    report_missed(database.as_deref(), missed, reconciler.is_replacing(&missed.table));
                }
            }
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "could not compare the tables with the journal")
            }
            Err(error) => tracing::warn!(%error, "could not compare the tables with the journal"),
        }
    }
}

/// Updates the gauge `vestnik_listening` whenever a listener connects or loses its connection. The value is 1 while the
/// listeners of all databases are connected, otherwise 0.
pub(super) async fn report_listening(databases: Vec<Arc<DatabaseContext>>, stop: CancellationToken) {
    let mut hearings: Vec<_> = databases.iter().map(|database| database.listen_state.clone()).collect();
    loop {
        let mut are_listening = true;
        for listen_state in &mut hearings {
            are_listening &= *listen_state.borrow_and_update() == ListenState::Listening;
        }
        ::metrics::gauge!("vestnik_listening").set(f64::from(u8::from(are_listening)));
        let changes = hearings.iter_mut().map(|listen_state| Box::pin(listen_state.changed()));
        tokio::select! {
            // The channel of a listener that has ended returns an error, so end this task, too.
            (changed, ..) = select_all(changes) => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Samples the gauges of all databases. A gauge that counts something shows the sum of all databases. A gauge that
/// warns of a danger shows the worst value of all databases.
pub(super) async fn sample_gauges(
    databases: Vec<Arc<DatabaseContext>>,
    limits: Arc<ConnectionLimits>,
    stop: CancellationToken,
) {
    let mut periodic = Periodic::now(GAUGE_INTERVAL, &stop);
    let mut troubles = vec![Vec::new(); databases.len()];
    while periodic.next_run().await {
        metrics::upkeep();
        let (open, unauthenticated) = limits.count();
        ::metrics::gauge!("vestnik_connections").set(open as f64);
        ::metrics::gauge!("vestnik_connections_unauthenticated").set(unauthenticated as f64);
        let depths: Vec<(usize, usize)> = databases.iter().map(|database| database.hub.router.depth()).collect();
        let sessions: usize = depths.iter().map(|(sessions, _)| sessions).sum();
        let deepest_bytes = depths.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        ::metrics::gauge!("vestnik_sessions").set(sessions as f64);
        ::metrics::gauge!("vestnik_session_queue_max_bytes").set(deepest_bytes as f64);
        let (mut queue_usage, mut oldest_s) = (0.0_f64, 0.0_f64);
        for (database, troubles) in databases.iter().zip(&mut troubles) {
            report_sources(database, troubles).await;
            match db::server_stats(&database.hub.pool).await {
                Ok(server_stats) => {
                    queue_usage = queue_usage.max(server_stats.notification_queue_usage);
                    oldest_s = oldest_s.max(server_stats.oldest_transaction_seconds);
                }
                Err(error) => tracing::debug!(%error, "could not read the statistics of Postgres"),
            }
        }
        ::metrics::gauge!("vestnik_notification_queue_usage_ratio").set(queue_usage);
        ::metrics::gauge!("vestnik_oldest_transaction_age_seconds").set(oldest_s);
        let unhealthy: usize = troubles
            .iter()
            .map(|problems: &Vec<(String, String)>| {
                let names: std::collections::BTreeSet<&str> =
                    problems.iter().map(|(source, _)| source.as_str()).collect();
                names.len()
            })
            .sum();
        ::metrics::gauge!("vestnik_sources_unhealthy").set(unhealthy as f64);
        let failed = databases.iter().filter(|database| database.canary.has_failed()).count();
        ::metrics::gauge!("vestnik_canaries_failed").set(failed as f64);
    }
}

/// Logs each new problem of a source once. A shop may alter its tables at any time. `known` has the problems that were
/// logged before.
async fn report_sources(database: &DatabaseContext, known: &mut Vec<(String, String)>) {
    match db::with_timeout(async { source_health::check(&*database.hub.pool.get().await?).await }).await {
        Ok(sources) => {
            let troubles: Vec<(String, String)> = sources.into_iter().flat_map(troubles).collect();
            let is_known = |(source, trouble): &(String, String)| {
                let problem = source_health::without_counts(trouble);
                let known = known.iter().filter(|(known, _)| known == source);
                known
                    .map(|(_, trouble)| source_health::without_counts(trouble))
                    .any(|known| known == problem)
            };
            for (source, trouble) in troubles.iter().filter(|trouble| !is_known(trouble)) {
                tracing::error!(database = database.name, source, "{trouble}");
            }
            let mut healthy: Vec<&str> = known.iter().map(|(source, _)| source.as_str()).collect();
            healthy.dedup();
            healthy.retain(|name| troubles.iter().all(|(source, _)| source != name));
            for source in healthy {
                tracing::info!(database = database.name, source, "the source is healthy again");
            }
            *known = troubles;
        }
        Err(error) => tracing::debug!(%error, "could not check the sources"),
    }
}

fn troubles(source: Health) -> impl Iterator<Item = (String, String)> {
    let Health { name, table, .. } = source;
    source
        .troubles
        .into_iter()
        .map(move |trouble| (name.clone(), format!("{table}: {trouble}")))
}
