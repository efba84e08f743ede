//! The trait of a channel: a service through which messages leave the engine, such as Telegram. A channel sends a
//! message once. `queue` and `complete` decide whether it is sent again.

use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::event_view::Item;
use super::lane::{ChatId, Lane};
use super::next_message::{ChatFormat, OpenButton, Work};

/// A channel: a service through which messages reach people, such as Telegram or the webhook of a store.
pub trait Channel: Clone + Send + Sync + 'static {
    /// A message that the channel can send.
    type Message: Sync;
    /// The type that describes how a send ended, for example that it succeeded or failed.
    type Outcome: Send;

    /// Sends a message once, within the deadline. The outcome says whether to try again.
    fn send(&self, message: &Self::Message, deadline: Duration) -> impl Future<Output = Self::Outcome> + Send;
}

/// A channel whose messages go to chats, through the account of a bot.
pub trait ChatChannel: Channel<Message = Claim, Outcome = SendOutcome> {
    /// The bot's token.
    fn token(&self) -> &SecretString;

    /// Returns a watch of outages. The watch's value is `None` while this node reaches the service.
    fn outage(&self) -> watch::Receiver<Option<Outage>>;

    /// During an outage, tests repeatedly whether this node reaches the service again. Ends at the shutdown.
    fn keep_probing(&self, stop: &CancellationToken) -> impl Future<Output = ()> + Send;

    /// Selects as many items as fit into one digest (one message for many events), at least one. `items` has the most
    /// urgent item first, and the selection begins there. Returns the selected items sorted by event, oldest first.
    fn that_fit(style: &ChatFormat, items: Vec<Item>) -> Vec<Item>;
}

/// The right of this node to send one message to a chat, or to edit one message in it, until the lease ends.
#[derive(Debug)]
pub struct Claim {
    /// The id of the chat's row in `vestnik.vst_chat`.
    pub chat: ChatId,
    /// The lane of the chat that this node has claimed: new messages, or edits.
    pub lane: Lane,
    /// The chat's id at Telegram.
    pub telegram_id: i64,
    /// The chat's title at Telegram. `None`: the title is not known.
    pub title: Option<String>,
    /// The id of the forum topic that the message goes to. `None`: no topic.
    pub topic: Option<i32>,
    /// The number of sends of this message that failed in a row. Sends during an outage of Telegram do not count.
    pub failures: u32,
    /// The number of times that Telegram refused this message. After one refusal the message is sent without markup,
    /// and after two refusals also without buttons.
    pub refusals: u32,
    /// Whether the chat's link to the store is blocked. If so, a successful send unblocks the link.
    pub was_blocked: bool,
    /// The number of this claim among all claims of the chat's lane. A newer claim has a larger number. Only the newest
    /// claim may save the outcome of its send.
    pub fence: i64,
    /// The number of the slot that this send uses. A slot is the right to make one send per second. All nodes share the
    /// bot's slots.
    pub slot: i32,
    /// How long the claim lasts, seconds. During this time, no other send may use the claimed lane of the chat, or the
    /// slot.
    pub held_s: f64,
    /// The latest time at which the send may begin. It is the end of the lease minus the deadline of the send, so that
    /// the send ends before the lease.
    pub send_by: tokio::time::Instant,
    /// The message to send, or the edit to make.
    pub work: Work,
}

/// A message that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// The message's id at Telegram.
    pub id: i32,
    /// If the message is a list of orders, its buttons, each of which opens one order. Empty for other messages.
    pub opens: Vec<OpenButton>,
}

/// The outcome of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The send succeeded. The field is the new message. `None`: the send was an edit, or Telegram's response has no
    /// message id.
    Sent(Option<SentMessage>),
    /// Telegram no longer has the message to edit. If the message showed an order, a new message replaces it. Otherwise
    /// the edit is given up.
    MessageGone,
    /// Telegram asks for this pause before the next send of this kind (new message, or edit) in the chat.
    Throttled(Duration),
    /// The chat takes no messages any more. The field is the reason.
    Gone(String),
    /// The bot may not write to the chat, or to the topic, now.
    Blocked {
        /// Whether the whole chat is blocked, or only the topic.
        block: Block,
        /// Telegram's description of the error.
        reason: String,
    },
    /// The group became a supergroup, and has this new chat id.
    Migrated(i64),
    /// Telegram refuses this message as it is. The field is the reason.
    Refused(String),
    /// Telegram refuses the bot's token. The field is the reason.
    Stopped(String),
    /// The send failed, although this node reached Telegram. Only the deliveries of this send are delayed. The field is
    /// the reason.
    Failed(String),
    /// This node does not reach Telegram. The deliveries are sent as soon as any node reaches Telegram. The field is
    /// the reason.
    NotReached(String),
    /// The send did not begin, because the claim's lease was nearly over.
    NotBegun,
}

/// Where the bot may not write: in the whole chat, or in one topic of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// The bot may write nowhere in the chat.
    Chat,
    /// The topic of the forum is closed.
    TopicClosed,
    /// The topic of the forum is deleted. The topic's messages go to the chat itself from now on.
    TopicGone,
}

/// An outage: this node does not reach the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// When the outage began: the time of the first failed probe.
    pub since: Instant,
    /// The reason, without the service's URL, because the URL may contain the token.
    pub reason: String,
}
