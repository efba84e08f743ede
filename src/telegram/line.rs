//! Whether this node reaches Telegram. A failure of the network, or of Telegram itself, is no chat's: one request that is
//! not answered is followed by a probe, and while probes are not answered either, this node sends nothing. Any answer, to a
//! probe, to the poll or to anything else, ends that for all chats at once.

use std::time::{Duration, Instant};

use teloxide::payloads::GetMe;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::Client;

/// How long the probe behind a failure may take. A send's lease waits for it.
const CHECK_DEADLINE: Duration = Duration::from_secs(1);
/// Between the beginnings of two probes while nothing is answered.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long such a probe may take: on a slow line it is answered late.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// Since when there is no answer, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// When the first probe failed.
    pub since: Instant,
    /// What went wrong, without an address.
    pub reason: String,
}

/// The line to Telegram, as it is known on this node.
pub(super) struct Line {
    outage: watch::Sender<Option<Outage>>,
    /// The newest answer.
    answered_at: watch::Sender<Option<Instant>>,
    /// One check at a time: the failures of one moment have one cause.
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

    /// Telegram has answered something, whatever it said.
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
    /// What becomes of the line.
    pub fn outage(&self) -> watch::Receiver<Option<Outage>> {
        self.line.outage.subscribe()
    }

    /// Waits while Telegram is not reached.
    pub async fn until_reached(&self) {
        // The sender lives as long as this.
        let _ = self.outage().wait_for(Option::is_none).await;
    }

    /// Waits for an outage, and for its end.
    pub(super) async fn reached_again(&self) {
        let mut outage = self.outage();
        let _ = outage.wait_for(Option::is_some).await;
        let _ = outage.wait_for(Option::is_none).await;
    }

    /// Whether it is Telegram or the line that failed, rather than one request: asked right after a failure.
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

    /// Probes while Telegram is not reached, until the shutdown.
    pub async fn keep_probing(&self, stop: &CancellationToken) {
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

    /// Begins probe after probe, and waits for all of them at once: on a line that swallows what is sent, the one that was
    /// begun behind the outage is answered first. As many are under way as begin within the deadline of one.
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
