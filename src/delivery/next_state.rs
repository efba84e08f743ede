//! Decides which state deliveries get after a send: sent, dead (given up), or waiting for another attempt. Also decides
//! how long they wait. For example, a message that Telegram refuses is sent again as plain text after
//! [`PLAIN_PAUSE_S`].

use std::time::Duration;

use super::channel::{Claim, SendOutcome};
use super::next_message::Work;
use super::retry::Pauses;

/// Seconds until a refused message is sent again without markup. Meanwhile, the chat's other deliveries are sent.
const PLAIN_PAUSE_S: f64 = 2.0;
/// The shortest and the longest pause between two attempts to send a message. They apply if the send failed although
/// this node reached Telegram. The function `hurry` ends these pauses for all messages.
const PAUSES: Pauses = Pauses {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(5 * 60),
};
/// The number of refusals after which a message is dead (never sent again). By then, Telegram has refused the message
/// with markup, without markup, and without buttons.
const MOST_REFUSALS: u32 = 3;

/// The state in which a send leaves its deliveries.
pub(super) struct State {
    pub(super) name: &'static str,
    pub(super) reason: Option<String>,
    /// The time before the deliveries may be sent again. If the whole chat has a longer pause, that pause counts.
    pub(super) pause: Duration,
}

/// Whether the message becomes dead (is never sent again) if Telegram refuses it once more.
pub(super) fn is_last_refusal(claim: &Claim) -> bool {
    claim.refusals + 1 >= MOST_REFUSALS
}

pub(super) fn state_of(claim: &Claim, outcome: &SendOutcome) -> State {
    let state = |name, reason: &str, pause| State {
        name,
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        pause,
    };
    let now = Duration::ZERO;
    let backoff = || PAUSES.after(claim.failures + 1, fastrand::f64());
    match outcome {
        SendOutcome::Sent(_) => state("sent", "", now),
        SendOutcome::Gone(why) => state("dead", why, now),
        SendOutcome::Refused(why) if is_last_refusal(claim) => state("dead", why, now),
        SendOutcome::Refused(why) => state("retrying", why, Duration::from_secs_f64(PLAIN_PAUSE_S)),
        SendOutcome::Failed(why) => state("retrying", why, backoff()),
        // Only a chat's link to a store can be blocked. These deliveries belong to no store, so the deliveries
        // themselves pause.
        SendOutcome::Blocked { reason, .. } if claim.work.style().is_none() => state("retrying", reason, backoff()),
        SendOutcome::Throttled(pause) => {
            state("retrying", &format!("Telegram asks to wait {} s", pause.as_secs()), now)
        }
        SendOutcome::Blocked { reason: why, .. } | SendOutcome::Stopped(why) | SendOutcome::NotReached(why) => {
            state("retrying", why, now)
        }
        SendOutcome::MessageGone
            if matches!(
                claim.work,
                Work::Reply { .. } | Work::ListButtons { .. } | Work::Keyboard { .. }
            ) =>
        {
            state("dead", "the message is gone", now)
        }
        SendOutcome::MessageGone | SendOutcome::Migrated(_) | SendOutcome::NotBegun => state("pending", "", now),
    }
}
