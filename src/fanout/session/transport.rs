//! What a session needs from its transport.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::Close;
use crate::fanout::router::Part;
use crate::receipts::writer::Channel;

/// A message to the client.
pub enum Outgoing {
    /// An event, or a message that carries a cursor.
    WithCursor(Arc<str>, Utf8Bytes),
    /// Another message.
    Message(Utf8Bytes),
    /// A ping of the transport itself, if it has pings.
    Ping,
}

/// Input from the client.
pub enum Incoming {
    /// A text message.
    Text(Utf8Bytes),
    /// The answer to a ping, or any other sign of life.
    Alive,
    /// The connection has ended.
    Closed(Close),
}

/// The transport of one session.
pub trait Transport: Send {
    /// Whether a client that answers no ping counts as gone.
    const ANSWERS_PINGS: bool;
    /// The channel of the receipts for events sent over this transport.
    const CHANNEL: Channel;

    /// Adds a message to the buffer.
    fn feed(&mut self, message: Outgoing) -> impl Future<Output = Result<(), Close>> + Send;
    /// Writes the buffer to the client.
    fn flush(&mut self) -> impl Future<Output = Result<(), Close>> + Send;
    /// Waits for input. Cancel safe.
    fn receive(&mut self) -> impl Future<Output = Incoming> + Send;
    /// Tells the client why the session ends, if the client still reads.
    fn close(&mut self, why: Close) -> impl Future<Output = ()> + Send;

    /// Adds shared events of a batch to the buffer. A transport that can does so without a copy.
    fn feed_part(&mut self, part: Part<'_>) -> impl Future<Output = Result<(), Close>> + Send {
        async move {
            for event in part.events {
                let message = Outgoing::WithCursor(Arc::clone(&event.cursor), event.text.clone());
                self.feed(message).await?;
            }
            Ok(())
        }
    }
}
