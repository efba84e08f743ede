//! Where messages leave the engine. A channel sends a message once; `queue` and `complete` know when to try again.

use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::complete::Outcome;
use super::event_view::Item;
use super::next_message::Style;
use super::queue::Claim;

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

/// A service is not reached from this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// When the first probe failed.
    pub since: Instant,
    /// The error, without an address.
    pub reason: String,
}
