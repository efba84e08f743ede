//! Decides which state deliveries get after a send: sent, dead, or waiting for the next attempt, and for how long. For
//! example, a message that Telegram refuses is sent again as plain text after [`PLAIN_PAUSE_S`].

use std::time::Duration;

use super::channel::{Claim, SendOutcome};
use super::next_message::Work;
use super::retry::Pauses;

/// Seconds until a refused message is sent again without markup. The chat's other deliveries go first.
const PLAIN_PAUSE_S: f64 = 2.0;
/// The pauses between the attempts to send a message. They apply if the send failed although this node reached
/// Telegram. The function `hurry` ends these pauses for all messages.
const PAUSES: Pauses = Pauses {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(5 * 60),
};
/// The number of refusals after which a message is dead-lettered. By then the message was sent with markup, without
/// markup, and without buttons.
const MOST_REFUSALS: u32 = 3;

/// The state that the deliveries of a send get after its outcome.
pub(super) struct State {
    pub(super) name: &'static str,
    pub(super) reason: Option<String>,
    /// The time before the deliveries may be sent again. A pause of the whole chat applies, too.
    pub(super) pause: Duration,
}

/// Whether one more refusal dead-letters the message.
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
