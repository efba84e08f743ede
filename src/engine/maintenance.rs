//! What runs beside the path of an event: tokens are withdrawn, old events trimmed, the figures of Postgres watched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::domain::event::StoreId;
use crate::fanout::router::Router;
use crate::feed::FeedHealth;
use crate::feed::listener::{Bell, Hearing};
use crate::http::{ConnectionLimits, DatabaseContext};
use crate::infra::db;
use crate::infra::db::Pool;
use crate::infra::metrics;
use crate::journal::{self, Trimmed};
use crate::sources::health::{self, Health};
use crate::sources::reconciler::{MissedRows, Reconciler};
use crate::store::pause;
use crate::token::{self, Holder, Opens, Standing, Tokens, Withdrawn};

/// Between two looks for revoked tokens, should a notification be lost.
const TOKEN_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// The same, where no notification reaches us, or the look that one asked for failed.
const TOKEN_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// By so much two look-ups may differ on when a token ends: an answer takes a while.
const END_TOLERANCE: Duration = Duration::from_secs(6);
/// Between two looks for events to trim.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);
/// How long a batch may take to be trimmed: over a half-open connection it would take for ever.
const TRIM_DEADLINE: Duration = Duration::from_secs(60);
/// Between two trimmed batches, so that trimming never fills the disk's queue.
const TRIM_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at the figures of Postgres itself.
const VITALS_INTERVAL: Duration = Duration::from_secs(15);

/// Between two looks for pauses that are over.
const PAUSE_LOOK: Duration = Duration::from_secs(5);

/// Between two looks at when the journal was read last.
const STALE_LOOK: Duration = Duration::from_millis(250);
/// The journal has not been read for so long: the sessions are better off on another node.
const LET_GO_AFTER: Duration = Duration::from_secs(10);

/// Tells the sessions of a node that cannot read the journal, and lets them go when that does not end: a client must not
/// take for live what hears nothing.
pub(super) async fn watch_pulse(pulse: Arc<FeedHealth>, router: Arc<Router>, stop: CancellationToken) {
    let mut looks = interval(STALE_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut are_gone = false;
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        let Some(age) = pulse.age() else { continue };
        router.set_stale(!pulse.is_fresh());
        if age < LET_GO_AFTER {
            are_gone = false;
        } else if !std::mem::replace(&mut are_gone, true) {
            tracing::warn!(
                seconds = age.as_secs(),
                "the journal cannot be read: every session is let go, to come back elsewhere"
            );
            router.let_all_go();
        }
    }
}

/// Closes the sessions of revoked and expired tokens: at once when rung, and at intervals in case the ring was lost.
pub(super) async fn withdraw_tokens(
    pool: Pool,
    router: Arc<Router>,
    tokens: Arc<Tokens>,
    bell: Arc<Bell>,
    hearing: watch::Receiver<Hearing>,
    stop: CancellationToken,
) {
    let mut owed = false;
    loop {
        let listening = *hearing.borrow() == Hearing::Listening;
        let pause = if listening && !owed {
            TOKEN_CHECK_INTERVAL
        } else {
            TOKEN_POLL_INTERVAL
        };
        tokio::select! {
            () = bell.tokens.notified() => tokens.forget(),
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        owed = false;
        let live = router.tokens();
        if live.is_empty() {
            continue;
        }
        match token::standings(&pool, &live).await {
            Ok(standings) => router.withdraw(|store, holder| {
                // One that came meanwhile was looked up meanwhile.
                live.binary_search(&holder.token).ok()?;
                why_withdrawn(standings.get(&holder.token), store, holder)
            }),
            Err(error) => {
                // The ring that asked for it does not come again.
                owed = true;
                tracing::warn!(%error, "the tokens of live sessions could not be checked");
            }
        }
    }
}

/// Why a session's token no longer opens what it did.
fn why_withdrawn(standing: Option<&Standing>, store: &StoreId, holder: Holder) -> Option<Withdrawn> {
    let Some(standing) = standing else {
        return Some(Withdrawn::Revoked);
    };
    let narrowed = |opens: &Opens| {
        if !opens.stores.have(store.as_str()) {
            return Some(Withdrawn::Revoked);
        }
        let is_same = opens.scope == holder.scope && is_about(opens.ends, holder.ends);
        (!is_same).then_some(Withdrawn::Changed)
    };
    standing
        .withdrawn
        .or_else(|| standing.opens.as_ref().and_then(narrowed))
}

/// Whether two ends are the same, each as a look-up at another time has found it.
fn is_about(one: Option<Instant>, other: Option<Instant>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.max(other) - one.min(other) < END_TOLERANCE,
        (None, None) => true,
        _ => false,
    }
}

/// Removes events whose time is over.
pub(super) async fn trim(pool: Pool, retention: Duration, stop: CancellationToken) {
    let mut pause = TRIM_INTERVAL;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = TRIM_INTERVAL;
        let trimmed = timeout(TRIM_DEADLINE, journal::trim_batch(&pool, retention)).await;
        match trimmed.unwrap_or(Err(journal::Error::TimedOut)) {
            Ok(Trimmed::Batch(gone)) => {
                ::metrics::counter!("vestnik_events_trimmed_total").increment(gone);
                pause = TRIM_PAUSE;
            }
            Ok(Trimmed::Done(gone)) => ::metrics::counter!("vestnik_events_trimmed_total").increment(gone),
            Ok(Trimmed::Elsewhere) => {}
            Err(error) => tracing::warn!(%error, "old events could not be trimmed"),
        }
    }
}

/// Ends the pauses of stores whose time is over.
pub(super) async fn end_pauses(pool: Pool, stop: CancellationToken) {
    let mut looks = interval(PAUSE_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        if let Err(error) = pause::end_due(&pool).await {
            tracing::warn!(%error, "pauses that are over could not be ended");
        }
    }
}

/// Says which rows were written past the triggers: nobody has heard of them.
pub(super) async fn reconcile(pool: Pool, database: Option<String>, pause: Duration, stop: CancellationToken) {
    let mut reconciler = Reconciler::default();
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        match reconciler.look(&pool).await {
            Ok(missed) => {
                tracing::debug!(database, "the tables were compared with the journal");
                for MissedRows { table, rows, newest } in missed {
                    ::metrics::counter!("vestnik_rows_without_event_total").increment(rows.unsigned_abs());
                    tracing::error!(
                        database,
                        table,
                        rows,
                        newest,
                        "rows were written past the triggers, and no panel rang for them: call those stores, and see what writes \
                         with its triggers off, or session_replication_role = replica"
                    );
                }
            }
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "the tables were not compared with the journal")
            }
            Err(error) => tracing::warn!(%error, "the tables could not be compared with the journal"),
        }
    }
}

/// Keeps the gauges: what is counted of several databases is the sum, what is a danger is the worst.
pub(super) async fn sample_gauges(
    sites: Vec<Arc<DatabaseContext>>,
    limits: Arc<ConnectionLimits>,
    stop: CancellationToken,
) {
    let mut ticks = interval(VITALS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut troubles = vec![Vec::new(); sites.len()];
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        metrics::upkeep();
        let (open, guests) = limits.count();
        ::metrics::gauge!("vestnik_connections").set(open as f64);
        ::metrics::gauge!("vestnik_connections_unauthenticated").set(guests as f64);
        let depths: Vec<(usize, usize)> = sites.iter().map(|site| site.hub.router.depth()).collect();
        let sessions: usize = depths.iter().map(|(sessions, _)| sessions).sum();
        let deepest_bytes = depths.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        ::metrics::gauge!("vestnik_sessions").set(sessions as f64);
        ::metrics::gauge!("vestnik_session_queue_max_bytes").set(deepest_bytes as f64);
        let listening = sites.iter().all(|site| *site.hearing.borrow() == Hearing::Listening);
        ::metrics::gauge!("vestnik_listening").set(f64::from(u8::from(listening)));
        let (mut queue_usage, mut oldest_s) = (0.0_f64, 0.0_f64);
        for (site, troubles) in sites.iter().zip(&mut troubles) {
            look_at_sources(site, troubles).await;
            match db::vitals(&site.hub.pool).await {
                Ok(vitals) => {
                    queue_usage = queue_usage.max(vitals.notification_queue_usage);
                    oldest_s = oldest_s.max(vitals.oldest_transaction_seconds);
                }
                Err(error) => tracing::debug!(%error, "the figures of Postgres could not be read"),
            }
        }
        ::metrics::gauge!("vestnik_notification_queue_usage_ratio").set(queue_usage);
        ::metrics::gauge!("vestnik_oldest_transaction_age_seconds").set(oldest_s);
        let unhealthy: usize = troubles
            .iter()
            .map(|of_site: &Vec<(String, String)>| {
                let names: std::collections::BTreeSet<&str> =
                    of_site.iter().map(|(source, _)| source.as_str()).collect();
                names.len()
            })
            .sum();
        ::metrics::gauge!("vestnik_sources_unhealthy").set(unhealthy as f64);
    }
}

/// Says once what is wrong with each source: a shop alters its own tables without a thought of us.
async fn look_at_sources(site: &DatabaseContext, known: &mut Vec<(String, String)>) {
    match db::with_timeout(async { health::check(&*site.hub.pool.get().await?).await }).await {
        Ok(sources) => {
            let troubles: Vec<(String, String)> = sources.into_iter().flat_map(troubles).collect();
            for (source, trouble) in troubles.iter().filter(|trouble| !known.contains(trouble)) {
                tracing::error!(database = site.name, source, "{trouble}");
            }
            *known = troubles;
        }
        Err(error) => tracing::debug!(%error, "the sources could not be looked at"),
    }
}

fn troubles(source: Health) -> impl Iterator<Item = (String, String)> {
    let Health { name, table, .. } = source;
    source
        .troubles
        .into_iter()
        .map(move |trouble| (name.clone(), format!("{table}: {trouble}")))
}
