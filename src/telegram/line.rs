//! Whether this node reaches Telegram. A failure of the network, or of Telegram itself, belongs to no single chat.
//! After a request without a response, a probe follows. While probes fail too, this node sends nothing. Any response,
//! to a probe, a poll or another request, ends the outage for all chats at once.

use std::time::{Duration, Instant};

use teloxide::payloads::GetMe;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use crate::delivery::channel::{ChatChannel as _, Outage};

/// The deadline of the probe after a failure. The lease of a send is running meanwhile.
const CHECK_DEADLINE: Duration = Duration::from_secs(1);
/// The time between the starts of two probes during an outage.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// The deadline of a probe during an outage: on a slow connection, responses are late.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// The state of this node's connection to Telegram.
pub(super) struct Line {
    pub(super) outage: watch::Sender<Option<Outage>>,
    /// When the newest response arrived; `None`: none has.
    answered_at: watch::Sender<Option<Instant>>,
    /// Held during a check: failures at the same moment have one cause, and need one check.
    checking: Mutex<()>,
}

impl Line {
    pub fn new() -> Self {
        Self {
            outage: watch::Sender::new(None),
            answered_at: watch::Sender::new(None),
            checking: Mutex::new(()),
        }
    }

    /// Records a response of Telegram, whatever it says.
    pub fn answered(&self) {
        self.answered_at.send_replace(Some(Instant::now()));
        self.outage.send_if_modified(|outage| outage.take().is_some());
    }

    fn lost(&self, reason: String) {
        self.outage.send_if_modified(|outage| {
            let is_new = outage.is_none();
            let since = Instant::now();
            outage.get_or_insert(Outage { since, reason });
            is_new
        });
    }

    fn has_answered_since(&self, moment: Instant) -> bool {
        self.answered_at.borrow().is_some_and(|at| at > moment)
    }
}

impl Client {
    /// Waits while Telegram is not reached.
    pub(super) async fn until_reached(&self) {
        // The sender lives as long as `self`.
        let _ = self.outage().wait_for(Option::is_none).await;
    }

    /// Waits for the next outage, and then for its end.
    pub(super) async fn reached_again(&self) {
        let mut outage = self.outage();
        let _ = outage.wait_for(Option::is_some).await;
        let _ = outage.wait_for(Option::is_none).await;
    }

    /// Whether Telegram is reached, so that only one request failed. Call it right after a failure.
    pub(super) async fn is_reached(&self) -> bool {
        let failed_at = Instant::now();
        let _one = self.line.checking.lock().await;
        if self.line.outage.borrow().is_some() {
            return false;
        }
        if self.line.has_answered_since(failed_at) {
            return true;
        }
        let Err(problem) = self.call(&GetMe::new(), CHECK_DEADLINE).await else {
            return true;
        };
        let is_reached = self.line.has_answered_since(failed_at);
        if !is_reached {
            self.line.lost(problem.reason().to_owned());
        }
        is_reached
    }

    pub(super) async fn probe_during_outages(&self, stop: &CancellationToken) {
        let mut outage = self.outage();
        loop {
            tokio::select! {
                lost = outage.wait_for(Option::is_some) => {
                    if lost.is_err() {
                        return;
                    }
                }
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = self.probe_until_answered() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Starts one probe after another, and waits for all of them at once. When a connection drops packets, a probe that
    /// starts after the outage gets the first response. The deadline of a probe bounds the number of probes under way.
    async fn probe_until_answered(&self) {
        let mut probes = JoinSet::new();
        let mut ticks = tokio::time::interval(PROBE_INTERVAL);
        let mut outage = self.outage();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let client = self.clone();
                    probes.spawn(async move {
                        let _ = client.call(&GetMe::new(), PROBE_DEADLINE).await;
                    });
                }
                Some(_) = probes.join_next() => {}
                _ = outage.wait_for(Option::is_none) => return,
            }
        }
    }
}
