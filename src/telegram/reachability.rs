//! The state of this node's connection to Telegram. A failure of the network or of Telegram concerns all chats. If a
//! request gets no response, this node sends a probe, which is a small request. If the probe fails, too, an outage
//! begins, and this node sends nothing. Any response (to a probe, a poll or another request) ends the outage for all
//! chats.

use std::time::Instant;

use tokio::sync::{Mutex, watch};

use crate::delivery::channel::Outage;

/// Whether this node reaches Telegram, and when Telegram responded last.
pub(super) struct Reachability {
    pub(super) outage: watch::Sender<Option<Outage>>,
    /// When the newest response of Telegram arrived. `None`: no response has arrived yet.
    answered_at: watch::Sender<Option<Instant>>,
    /// The lock that a task holds while it sends a probe after a failed request. If several requests fail at once, they
    /// all wait for the same probe.
    pub(super) checking: Mutex<()>,
}

impl Reachability {
    pub fn new() -> Self {
        Self {
            outage: watch::Sender::new(None),
            answered_at: watch::Sender::new(None),
            checking: Mutex::new(()),
        }
    }

    /// Records that Telegram responded, even with a refusal. This ends an outage.
    pub fn answered(&self) {
        self.answered_at.send_replace(Some(Instant::now()));
        self.outage.send_if_modified(|outage| outage.take().is_some());
    }

    pub fn lost(&self, reason: String) {
        self.outage.send_if_modified(|outage| {
            let is_new = outage.is_none();
            let since = Instant::now();
            outage.get_or_insert(Outage { since, reason });
            is_new
        });
    }

    pub fn has_answered_since(&self, moment: Instant) -> bool {
        self.answered_at.borrow().is_some_and(|at| at > moment)
    }
}
