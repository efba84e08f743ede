//! All metrics that `/metrics` shows, with their names and help texts. No label contains a store, an order or a
//! customer.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};

use metrics::{Counter, counter, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::domain::event::{Body, EventType, JournalEvent, Write};

/// Upper bounds of the buckets of the histogram [`Latency`], in seconds.
const LATENCY_BUCKETS: [f64; 15] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Upper bounds of the buckets of the histogram of acknowledgements, in seconds. A sample is the time from an order to
/// its first acknowledgement.
const ACKNOWLEDGEMENT_BUCKETS: [f64; 12] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
];

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Handles of the metrics that change with each event or session. Each handle is created only once, because the look-up
/// of a metric by its name is slow.
pub struct Hot {
    /// Number of times that the feed has read the journal.
    pub reads: Counter,
    /// Rows read from the journal, by row type. [`journal_type`] returns the index of a type.
    pub journal_events: [Counter; Write::ALL.len() + 1],
    /// Number of published events, by event type. Only events of stores with a session on this node are counted. The
    /// index is the discriminant of [`EventType`].
    pub events: [Counter; EventType::ALL.len()],
    /// Time in seconds from the trigger that wrote an event until the event was flushed to a client's socket. Each
    /// flush records only the latency of its oldest event.
    pub latency: Latency,
    /// Number of events that were sent live to sessions.
    pub live: Counter,
    /// Number of missed events that were sent to clients after they reconnected.
    pub replayed: Counter,
    /// Number of events that polling clients fetched over HTTP.
    pub polled: Counter,
}

/// Names of the types of journal rows, as a metric's label. The first four are the kinds of writes to a shop's table.
/// The events of type `engine` are written by Vestnik itself.
const JOURNAL_TYPES: [&str; Write::ALL.len() + 1] = ["insert", "update", "delete", "truncate", "engine"];

/// The index of a journal event's type in `JOURNAL_TYPES`.
pub fn journal_type(event: &JournalEvent) -> usize {
    match &event.body {
        Body::Write(write) => write.write as usize,
        Body::Engine(..) => Write::ALL.len(),
    }
}

/// The handles of frequently changed metrics. Use them only after [`install`], because a handle that is created earlier
/// records nothing.
pub static HOT: LazyLock<Hot> = LazyLock::new(|| Hot {
    reads: counter!("vestnik_journal_reads_total"),
    journal_events: JOURNAL_TYPES.map(|kind| counter!("vestnik_journal_events_total", "type" => kind)),
    events: EventType::ALL.map(|kind| counter!("vestnik_events_total", "type" => kind.as_str())),
    latency: Latency::default(),
    live: counter!("vestnik_deliveries_total", "mode" => "live"),
    replayed: counter!("vestnik_deliveries_total", "mode" => "replay"),
    polled: counter!("vestnik_deliveries_total", "mode" => "polling"),
});

/// A latency histogram with fixed buckets, which needs little memory. The metrics recorder's own histogram keeps every
/// sample until the next scrape: 16 bytes for each flush of each session. With a busy store, these samples would need a
/// hundred megabytes within seconds.
#[derive(Debug, Default)]
pub struct Latency {
    /// Element `i` counts the samples in bucket `i`: up to bound `i`, and above bound `i - 1`. The last element counts
    /// the samples above all bounds.
    counts: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    /// Records one latency, in seconds.
    pub fn record(&self, seconds: f64) {
        let bucket = LATENCY_BUCKETS.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add((seconds * 1e6) as u64, Ordering::Relaxed);
    }

    /// Renders the histogram in Prometheus' text format, with this name and this help text.
    fn render(&self, name: &str, help: &str) -> String {
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} histogram\n");
        let mut count = 0;
        let bounds = LATENCY_BUCKETS.iter().map(f64::to_string).chain(["+Inf".into()]);
        for (bound, within) in bounds.zip(&self.counts) {
            count += within.load(Ordering::Relaxed);
            // Ignore the result, because writing to a string cannot fail.
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{name}_sum {sum}\n{name}_count {count}");
        text
    }
}

/// Installs the metrics recorder for the process. Later calls change nothing.
pub fn install() {
    HANDLE.get_or_init(|| {
        let acknowledge = Matcher::Full("vestnik_order_acknowledgement_seconds".into());
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(acknowledge, &ACKNOWLEDGEMENT_BUCKETS)
            .ok()?;
        let handle = builder.install_recorder().ok()?;
        describe();
        Some(handle)
    });
}

/// Renders all metrics in Prometheus' text format. Empty if the recorder could not be installed.
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

/// Compacts the samples of the recorder's histograms. Call this function regularly: otherwise the memory use grows
/// until the next scrape.
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
    describe_gauge!(
        "vestnik_canaries_failed",
        "Databases of this node whose newest canary did not come back"
    );
    describe_counter!(
        "vestnik_canary_failures_total",
        "Rounds of the canary that failed, by where"
    );
    describe_counter!(
        "vestnik_source_lookup_failures_total",
        "Failed look-ups of items or details: their orders were sent without them"
    );
    describe_counter!(
        "vestnik_projection_failures_total",
        "Batches of a derived source with failed expressions: its orders were shown as far as they could be read"
    );
    describe_counter!(
        "vestnik_events_without_store_total",
        "Events whose row has no store: no session receives them"
    );
    describe_counter!(
        "vestnik_deliveries_total",
        "Events sent to clients, by mode: live, replay, polling"
    );
    describe_gauge!("vestnik_sessions", "Live sessions on this node");
    describe_gauge!(
        "vestnik_session_queue_max_bytes",
        "Bytes that wait in the fullest queue of a session"
    );
    describe_counter!(
        "vestnik_sessions_lagged_total",
        "Sessions closed because they were too slow"
    );
    describe_counter!("vestnik_sessions_closed_total", "Sessions ended, by close code");
    describe_counter!("vestnik_listener_reconnects_total", "Reconnects of the listener");
    describe_gauge!(
        "vestnik_listening",
        "1 while notifications reach this node, 0 while it polls"
    );
    describe_counter!("vestnik_feed_reconnects_total", "Reconnects of the feed");
    describe_counter!("vestnik_journal_reads_total", "Reads of the journal by the feed");
    describe_counter!(
        "vestnik_missed_notification_events_total",
        "Events that an idle node found without a notification: a defect"
    );
    describe_gauge!(
        "vestnik_notify_suppressed",
        "1 while this node polls so that writers do not notify"
    );
    describe_gauge!(
        "vestnik_notification_queue_suppressing",
        "1 while writers do not notify because Postgres' notification queue fills up"
    );
    describe_gauge!(
        "vestnik_notify_locks_held_by_others",
        "Locks of NOTIFY suppression that are held by foreign sessions"
    );
    describe_counter!(
        "vestnik_notify_suppressions_total",
        "Times that this node started to suppress NOTIFY"
    );
    describe_counter!("vestnik_events_trimmed_total", "Events removed after their retention");
    describe_gauge!(
        "vestnik_notification_queue_usage_ratio",
        "Share of Postgres' notification queue in use, 0 to 1"
    );
    describe_counter!(
        "vestnik_telegram_updates_given_up_total",
        "Messages and button presses that the bot could not process"
    );
    describe_gauge!(
        "vestnik_oldest_transaction_age_seconds",
        "Age of the oldest running transaction of the cluster"
    );
    describe_gauge!(
        "vestnik_sources_unhealthy",
        "Attached tables that are missing, have lost their triggers, or were altered since"
    );
    describe_counter!(
        "vestnik_rows_without_event_total",
        "Rows that were written past the triggers: no session received them"
    );
    describe_counter!(
        "vestnik_answers_overwritten_total",
        "Answers over which the shop's application wrote the old status"
    );
    describe_counter!(
        "vestnik_shop_api_answers_total",
        "Answers that were posted to a shop's own API, by outcome"
    );
    describe_receipts();
    describe_limits();
}

/// Sets the help texts of the metrics of connections and limits.
fn describe_limits() {
    describe_gauge!("vestnik_connections", "Open connections of clients");
    describe_gauge!(
        "vestnik_connections_unauthenticated",
        "Open connections without a valid token so far"
    );
    describe_counter!(
        "vestnik_connections_closed_for_others_total",
        "Connections without a valid token that were closed for new ones, by limit: all, unauthenticated, address"
    );
    describe_counter!(
        "vestnik_connections_refused_total",
        "Connections refused, by reason: full, system (no open file was left)"
    );
    describe_counter!(
        "vestnik_connections_timed_out_total",
        "Connections closed at a deadline, by phase: handshake, head, write"
    );
    describe_counter!(
        "vestnik_requests_refused_total",
        "Requests refused until later, by limit: address, token, sessions"
    );
    describe_counter!(
        "vestnik_tokens_refused_total",
        "Requests with a refused token, by reason: missing, malformed, unknown, expired, revoked, or the defect of a JWT"
    );
    describe_gauge!("vestnik_jwt_keys", "Known public keys of the issuer of JWTs");
    describe_counter!(
        "vestnik_jwt_keys_unread_total",
        "Failed reads of the keys of the issuer of JWTs"
    );
}

/// Sets the help texts of the metrics of receipts, Telegram and escalation.
fn describe_receipts() {
    describe_counter!(
        "vestnik_orders_first_seen_total",
        "New orders, by the channel that reached a person first: websocket, sse, polling, telegram"
    );
    describe_histogram!(
        "vestnik_order_acknowledgement_seconds",
        "From a new order to the first acknowledgement of it"
    );
    describe_counter!(
        "vestnik_receipts_dropped_total",
        "Receipts dropped from a full queue: the audit has gaps, the events have none"
    );
    describe_gauge!(
        "vestnik_telegram_deliveries",
        "Deliveries that are not complete, by state: pending, sending, retrying"
    );
    describe_gauge!(
        "vestnik_telegram_oldest_delivery_age_seconds",
        "Age of the oldest delivery that is not complete"
    );
    describe_counter!(
        "vestnik_telegram_deliveries_completed_total",
        "Deliveries completed by this node, by state: sent, dead"
    );
    describe_counter!(
        "vestnik_telegram_sends_total",
        "Messages and edits, by outcome; throttled is a 429, dead_lettered is refused for good"
    );
    describe_gauge!(
        "vestnik_telegram_reached",
        "1 while Telegram answers this node, 0 while deliveries wait"
    );
    describe_gauge!(
        "vestnik_telegram_stopped",
        "1 while the bot is stopped because Telegram refuses its token"
    );
    describe_gauge!(
        "vestnik_telegram_chats_disabled",
        "Chats that accept no messages any more"
    );
    describe_gauge!(
        "vestnik_telegram_chats_blocked",
        "Links to chats or topics in which the bot may not write now"
    );
    describe_gauge!(
        "vestnik_telegram_poll_age_seconds",
        "Time since Telegram answered the last poll for updates"
    );
    describe_counter!(
        "vestnik_telegram_conflicts_total",
        "Polls of this node that another poller or a webhook ended (409)"
    );
    describe_gauge!("vestnik_webhooks_open", "Webhook deliveries that are not complete");
    describe_gauge!("vestnik_webhook_endpoints", "Addresses that events are posted to");
    describe_gauge!(
        "vestnik_webhook_endpoints_stopped",
        "Addresses to which nothing is posted, after failures or 410"
    );
    describe_gauge!(
        "vestnik_webhook_failing_seconds",
        "The longest time for which posts to one address have failed"
    );
    describe_counter!(
        "vestnik_webhook_posts_total",
        "Posts of events, and what followed: sent, failed, refused, given_up, stopped"
    );
    describe_counter!(
        "vestnik_delivery_leases_lost_total",
        "Sends whose lease ended before they were complete, and that start again"
    );
    describe_counter!(
        "vestnik_escalations_exhausted_total",
        "Orders and bookings that nobody answered after the last escalation step"
    );
    describe_counter!(
        "vestnik_orders_late_total",
        "Orders that were not ready at the promised time"
    );
    describe_counter!(
        "vestnik_events_not_enqueued_total",
        "Events of which no chat is told, because Postgres refuses what would be written for them: a defect"
    );
    describe_counter!(
        "vestnik_escalations_total",
        "Orders that nobody answered in time, by escalation step: panels, fallback, manager, webhook"
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
    fn a_latency_counts_in_its_bucket_and_in_all_above_it() {
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
