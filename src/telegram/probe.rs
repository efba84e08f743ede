//! Finds out whether this node reaches Telegram. A probe is a small request (`getMe`). During an outage, the node sends
//! probes until Telegram responds.

use std::time::{Duration, Instant};

use teloxide::payloads::GetMe;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use crate::delivery::channel::ChatChannel as _;

/// The deadline of the probe after a failed send. It is short, because the probe must end before the lease of the
/// message. During the lease, only this node may send the message.
const CHECK_DEADLINE: Duration = Duration::from_secs(1);
/// The time between the starts of two probes during an outage.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// The deadline of a probe during an outage. It is long, because responses may be late on a slow connection.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

impl Client {
    /// Waits until this node reaches Telegram.
    pub(super) async fn until_reached(&self) {
        // The channel cannot close here, because `self` keeps its sender.
        let _ = self.outage().wait_for(Option::is_none).await;
    }

    /// Waits for the end of an outage of Telegram. If there is no outage now, waits until one has begun and ended.
    pub(super) async fn reached_again(&self) {
        let mut outage = self.outage();
        let _ = outage.wait_for(Option::is_some).await;
        let _ = outage.wait_for(Option::is_none).await;
    }

    /// Finds out whether this node reaches Telegram. Call this function right after a request got no response. `true`:
    /// only this request failed. `false`: Telegram is not reached, and an outage has begun.
    pub(super) async fn is_reached(&self) -> bool {
        let failed_at = Instant::now();
        let _one = self.reachability.checking.lock().await;
        if self.reachability.outage.borrow().is_some() {
            return false;
        }
        if self.reachability.has_answered_since(failed_at) {
            return true;
        }
        let Err(problem) = self.call(&GetMe::new(), CHECK_DEADLINE).await else {
            return true;
        };
        let is_reached = self.reachability.has_answered_since(failed_at);
        if !is_reached {
            self.reachability.lost(problem.reason().to_owned());
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

    /// Sends probes until any response ends the outage. A new probe starts each `PROBE_INTERVAL`, even if earlier
    /// probes have no response yet. An earlier probe may wait long for a lost packet, but a probe that starts after the
    /// outage gets a response at once. The deadline of a probe limits the number of open probes.
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
