//! Where messages leave the engine. A channel sends a message once; `queue` and `complete` know when to try again.

use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::event_view::Item;
use super::lane::{ChatId, Lane};
use super::next_message::{Style, Work};

/// A way to a person: Telegram, or the webhook of a store.
pub trait Channel: Clone + Send + Sync + 'static {
    /// A message, ready to be sent.
    type Message: Sync;
    /// The outcome of a send.
    type Outcome: Send;

    /// Sends a message once, within a deadline.
    fn send(&self, message: &Self::Message, deadline: Duration) -> impl Future<Output = Self::Outcome> + Send;
}

/// A channel whose messages go to chats, through the account of a bot.
pub trait ChatChannel: Channel<Message = Claim, Outcome = Outcome> {
    /// The bot's token.
    fn token(&self) -> &SecretString;

    /// Watches whether the service is reached; `None`: it is.
    fn outage(&self) -> watch::Receiver<Option<Outage>>;

    /// Probes while the service is not reached, until the shutdown.
    fn keep_probing(&self, stop: &CancellationToken) -> impl Future<Output = ()> + Send;

    /// The events that fit into one digest, at least one, sorted by their time.
    fn that_fit(style: &Style, items: Vec<Item>) -> Vec<Item>;
}

/// A claimed chat: this node may send one message to it.
#[derive(Debug)]
pub struct Claim {
    /// The id of the chat's row.
    pub chat: ChatId,
    /// The claimed lane.
    pub lane: Lane,
    /// The chat's id at Telegram.
    pub telegram_id: i64,
    /// The chat's title; `None`: not known.
    pub title: Option<String>,
    /// The topic of a forum that the message goes to; `None`: no topic.
    pub topic: Option<i32>,
    /// Failures of these deliveries in a row while Telegram was reached.
    pub failures: u32,
    /// Refusals of these deliveries by Telegram. After one, they go without markup; after two, without buttons too.
    pub refusals: u32,
    /// Whether the link is blocked, and the other chats were notified of that.
    pub was_blocked: bool,
    /// The number of this claim in the lane. Only the newest claim may save its outcome.
    pub fence: i64,
    /// The bot's slot that this send takes.
    pub slot: i32,
    /// How long the claim holds chat and slot, seconds.
    pub held_s: f64,
    /// The send must begin before this moment; after it, the lease might end during the send. It counts from before the
    /// claim was requested, by a clock that also runs while the process is stopped.
    pub send_by: tokio::time::Instant,
    /// What to send.
    pub work: Work,
}

/// The outcome of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Sent, with the message's id; `None`: an edit, or nothing had to change.
    Sent(Option<i32>),
    /// The message to edit does not exist any more: a new one replaces it.
    MessageGone,
    /// Telegram asks for this pause in this lane of the chat.
    Throttled(Duration),
    /// The chat takes no messages any more; the reason.
    Gone(String),
    /// The bot may not write to this target now.
    Blocked {
        /// Whether the whole chat is blocked, or only the topic.
        block: Block,
        /// The reason in Telegram's words.
        reason: String,
    },
    /// The group has this new id.
    Migrated(i64),
    /// Telegram refuses this message as it is; the reason.
    Refused(String),
    /// Telegram refuses the bot's token; the reason.
    Stopped(String),
    /// The send failed while Telegram was reached: only this delivery waits.
    Failed(String),
    /// This node does not reach Telegram: the delivery is sent as soon as any node does.
    NotReached(String),
    /// The lease was nearly over, so the send did not begin.
    NotBegun,
}

/// What blocks the bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// The bot has no right to write in the chat.
    Chat,
    /// The topic is closed.
    TopicClosed,
    /// The topic is deleted: its messages go to the chat itself.
    TopicGone,
}

/// A service is not reached from this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// When the first probe failed.
    pub since: Instant,
    /// The error, without an address.
    pub reason: String,
}
