//! The figures that `/metrics` shows, by name, in one place. No store, order or customer is ever a label.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};

use metrics::{Counter, counter, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::domain::event::{Body, EventType, JournalEvent, Write};

/// Upper bounds of the latency histogram's buckets, seconds.
const LATENCY_BUCKETS: [f64; 15] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Upper bounds of the buckets of how long people take, seconds.
const PATIENCE_BUCKETS: [f64; 12] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
];

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// What is counted for each event and session, looked up once.
pub struct Hot {
    /// Reads of the journal.
    pub reads: Counter,
    /// Rows read from the journal, at the place that [`journal_type`] says.
    pub journal_events: [Counter; Write::ALL.len() + 1],
    /// Events published to stores that have a session here, by their type's number.
    pub events: [Counter; EventType::ALL.len()],
    /// From the trigger to the flushed socket, the oldest event of each flush.
    pub latency: Latency,
    /// Events sent over WebSockets as they happened.
    pub live: Counter,
    /// Events sent to sessions that had been away.
    pub replayed: Counter,
    /// Events fetched over HTTP.
    pub polled: Counter,
}

/// What rows of the journal are: the writes of a shop, and what the engine says itself.
const JOURNAL_TYPES: [&str; Write::ALL.len() + 1] = ["insert", "update", "delete", "truncate", "engine"];

/// The place of a row among the types of rows.
pub fn journal_type(event: &JournalEvent) -> usize {
    match &event.body {
        Body::Write(write) => write.write as usize,
        Body::Engine(..) => Write::ALL.len(),
    }
}

/// The hot handles. Only after [`install`].
pub static HOT: LazyLock<Hot> = LazyLock::new(|| Hot {
    reads: counter!("vestnik_journal_reads_total"),
    journal_events: JOURNAL_TYPES.map(|kind| counter!("vestnik_journal_events_total", "type" => kind)),
    events: EventType::ALL.map(|kind| counter!("vestnik_events_total", "type" => kind.as_str())),
    latency: Latency::default(),
    live: counter!("vestnik_deliveries_total", "way" => "live"),
    replayed: counter!("vestnik_deliveries_total", "way" => "replay"),
    polled: counter!("vestnik_deliveries_total", "way" => "polling"),
});

/// How long events took, in its buckets at once. The recorder's own histogram keeps every sample until somebody asks or
/// folds them: 16 bytes for each flush of each session, which is a hundred megabytes in some seconds of a busy store.
#[derive(Debug, Default)]
pub struct Latency {
    /// As many as were within each bound and above the one before it; the last one is above all.
    counts: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    /// Takes one more.
    pub fn record(&self, seconds: f64) {
        let bucket = LATENCY_BUCKETS.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add((seconds * 1e6) as u64, Ordering::Relaxed);
    }

    /// In Prometheus' text format.
    fn render(&self, name: &str, help: &str) -> String {
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} histogram\n");
        let mut count = 0;
        let bounds = LATENCY_BUCKETS.iter().map(f64::to_string).chain(["+Inf".into()]);
        for (bound, within) in bounds.zip(&self.counts) {
            count += within.load(Ordering::Relaxed);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{name}_sum {sum}\n{name}_count {count}");
        text
    }
}

/// Begins to count; once for the process, later calls change nothing.
pub fn install() {
    HANDLE.get_or_init(|| {
        let acknowledge = Matcher::Full("vestnik_order_acknowledgement_seconds".into());
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(acknowledge, &PATIENCE_BUCKETS)
            .ok()?;
        let handle = builder.install_recorder().ok()?;
        describe();
        Some(handle)
    });
}

/// All of it in Prometheus' text format.
pub fn render() -> String {
    let Some(handle) = HANDLE.get().and_then(Option::as_ref) else {
        return String::new();
    };
    let latency = HOT.latency.render(
        "vestnik_event_delivery_seconds",
        "From the trigger to the flushed socket",
    );
    handle.render() + &latency
}

/// Folds what the histograms have gathered; call it now and then, or memory grows where nobody scrapes.
pub fn upkeep() {
    if let Some(handle) = HANDLE.get().and_then(Option::as_ref) {
        handle.run_upkeep();
    }
}

fn describe() {
    describe_counter!(
        "vestnik_journal_events_total",
        "Rows read from the journal, by the kind of write"
    );
    describe_counter!(
        "vestnik_events_total",
        "Events published to stores that have a session on this node, by type"
    );
    describe_counter!(
        "vestnik_source_lookup_failures_total",
        "Look-ups of items or details that failed: their orders were told without them"
    );
    describe_counter!(
        "vestnik_projection_failures_total",
        "Batches of a derived source whose expressions failed: its orders were shown as far as they could be read"
    );
    describe_counter!(
        "vestnik_events_without_store_total",
        "Events whose row named no store: nobody receives them"
    );
    describe_counter!(
        "vestnik_deliveries_total",
        "Events sent to clients, by way: live, replay, polling"
    );
    describe_gauge!("vestnik_sessions", "Live sessions on this node");
    describe_gauge!(
        "vestnik_session_queue_max_bytes",
        "Bytes that wait in the fullest session's queue"
    );
    describe_counter!(
        "vestnik_sessions_lagged_total",
        "Sessions let go because they were too slow"
    );
    describe_counter!("vestnik_sessions_closed_total", "Sessions ended, by close code");
    describe_counter!("vestnik_listener_reconnects_total", "Times that listening was lost");
    describe_gauge!(
        "vestnik_listening",
        "1 while notifications reach this node, 0 while it reads at short intervals"
    );
    describe_counter!(
        "vestnik_feed_reconnects_total",
        "Times that the feed lost its connection"
    );
    describe_counter!("vestnik_journal_reads_total", "Reads of the journal by the feed");
    describe_counter!(
        "vestnik_missed_notification_events_total",
        "Events found by the safety tick that nothing rang for: a defect"
    );
    describe_gauge!(
        "vestnik_notify_suppressed",
        "1 while this node reads all the time so that no writer rings"
    );
    describe_gauge!(
        "vestnik_notification_queue_suppressing",
        "1 while orders do not notify because Postgres' notification queue fills up"
    );
    describe_gauge!(
        "vestnik_notify_locks_held_by_others",
        "Holds on the two locks of NOTIFY suppression by sessions that are no node's"
    );
    describe_counter!(
        "vestnik_notify_suppressions_total",
        "Times that this node muted the bell"
    );
    describe_counter!("vestnik_events_trimmed_total", "Events removed after their time");
    describe_gauge!(
        "vestnik_notification_queue_usage_ratio",
        "Share of Postgres' notification queue in use, 0 to 1"
    );
    describe_counter!(
        "vestnik_telegram_updates_given_up_total",
        "What people wrote to the bot or pressed that could not be dealt with"
    );
    describe_gauge!(
        "vestnik_oldest_transaction_age_seconds",
        "Age of the oldest running transaction of the cluster"
    );
    describe_gauge!(
        "vestnik_sources_unhealthy",
        "Attached tables that are gone, have lost their triggers, or were altered since"
    );
    describe_counter!(
        "vestnik_rows_without_event_total",
        "Rows that were written past the triggers: nobody heard of them"
    );
    describe_reach();
    describe_limits();
}

/// Of who is let in.
fn describe_limits() {
    describe_gauge!("vestnik_connections", "Open connections of clients");
    describe_gauge!(
        "vestnik_connections_unauthenticated",
        "Of them, those that have shown no valid token"
    );
    describe_counter!(
        "vestnik_connections_closed_for_others_total",
        "Connections without a valid token that were closed for new ones, by limit: all, unauthenticated, address"
    );
    describe_counter!(
        "vestnik_connections_refused_total",
        "Connections that got no place, by reason: full, system (no open file was left)"
    );
    describe_counter!(
        "vestnik_connections_timed_out_total",
        "Connections closed at a deadline, by what was waited for: handshake, head, write"
    );
    describe_counter!(
        "vestnik_requests_refused_total",
        "Requests refused until later, by limit: address, token, sessions"
    );
    describe_counter!(
        "vestnik_tokens_refused_total",
        "Requests whose token opened nothing, by reason: missing, malformed, unknown, expired, revoked, or what is wrong with a JWT"
    );
    describe_gauge!("vestnik_jwt_keys", "Public keys of the issuer of JWTs that are known");
    describe_counter!(
        "vestnik_jwt_keys_unread_total",
        "Times that the keys of the issuer of JWTs could not be read"
    );
}

/// Of reaching a person.
fn describe_reach() {
    describe_counter!(
        "vestnik_orders_first_seen_total",
        "New orders, by the way by which they reached anybody first: websocket, sse, polling, telegram"
    );
    describe_histogram!(
        "vestnik_order_acknowledgement_seconds",
        "From a new order to the first acknowledgement of it"
    );
    describe_counter!(
        "vestnik_receipts_dropped_total",
        "Words on who was reached that found no room: the proof has gaps, the events have none"
    );
    describe_gauge!(
        "vestnik_telegram_deliveries",
        "Deliveries that are not settled, by state: pending, sending, retrying"
    );
    describe_gauge!(
        "vestnik_telegram_oldest_delivery_age_seconds",
        "Age of the oldest delivery that is not settled"
    );
    describe_counter!(
        "vestnik_telegram_settled_total",
        "Deliveries settled by this node, by state: sent, dead"
    );
    describe_counter!(
        "vestnik_telegram_sends_total",
        "Messages and edits, by what became of them; throttled is a 429, set_aside is refused for good"
    );
    describe_gauge!(
        "vestnik_telegram_reached",
        "1 while Telegram answers this node, 0 while what is to be sent waits"
    );
    describe_gauge!(
        "vestnik_telegram_stopped",
        "1 while the bot is stopped, for its token is not let in"
    );
    describe_gauge!(
        "vestnik_telegram_chats_disabled",
        "Chats that take no messages any more"
    );
    describe_gauge!(
        "vestnik_telegram_chats_blocked",
        "Links to chats or topics in which the bot may not write now"
    );
    describe_gauge!(
        "vestnik_telegram_poll_age_seconds",
        "Since Telegram answered the poll for what people write and press"
    );
    describe_counter!(
        "vestnik_telegram_conflicts_total",
        "Polls of this node that another program's, or a webhook, broke off (409)"
    );
    describe_gauge!(
        "vestnik_webhooks_open",
        "Posts to stores' own addresses that are not settled"
    );
    describe_counter!(
        "vestnik_delivery_leases_lost_total",
        "Sends whose node did not settle them, and that begin anew"
    );
    describe_counter!(
        "vestnik_escalations_exhausted_total",
        "Orders and bookings that nobody answered, though everybody who could be was told"
    );
    describe_counter!(
        "vestnik_orders_late_total",
        "Orders that were not ready when it was promised"
    );
    describe_counter!(
        "vestnik_events_not_planned_total",
        "Events of which no chat is told, because Postgres refuses what would be written for them: a defect"
    );
    describe_counter!(
        "vestnik_escalations_total",
        "Orders that nobody answered for in time, by step: panels, fallback, manager, webhook"
    );
    describe_counter!(
        "vestnik_unattended_alarms_total",
        "Times that a store was open and no panel could ring"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_told_in_its_bucket_and_in_all_above_it() {
        let latency = Latency::default();
        for seconds in [0.0, 0.0005, 0.0006, 0.03, 40.0] {
            latency.record(seconds);
        }
        let text = latency.render("x", "what it is");
        let expected = [
            r#"x_bucket{le="0.0005"} 2"#,
            r#"x_bucket{le="0.001"} 3"#,
            r#"x_bucket{le="0.025"} 3"#,
            r#"x_bucket{le="0.05"} 4"#,
            r#"x_bucket{le="30"} 4"#,
            r#"x_bucket{le="+Inf"} 5"#,
            "x_sum 40.0311",
            "x_count 5",
        ];
        for line in expected {
            assert!(text.lines().any(|said| said == line), "{line} is not in {text}");
        }
        assert!(text.starts_with("# HELP x what it is\n# TYPE x histogram\n"));
    }
}
