//! What a session needs of that which carries it.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::Close;
use crate::fanout::router::Part;
use crate::receipts::writer::Channel;

/// What a transport carries to the client.
pub enum Outgoing {
    /// An event, or a message that carries a cursor.
    WithCursor(Arc<str>, Utf8Bytes),
    /// Another message.
    Message(Utf8Bytes),
    /// A ping of the transport itself, where it has one.
    Ping,
}

/// What comes from the client.
pub enum Incoming {
    /// A message.
    Text(Utf8Bytes),
    /// The answer to a ping, or any other sign of life.
    Alive,
    /// It is over.
    Closed(Close),
}

/// Carries one session.
pub trait Transport: Send {
    /// Whether a silent client is a dead one.
    const ANSWERS_PINGS: bool;
    /// By which way its events are said to have gone.
    const CHANNEL: Channel;

    /// Puts a message into the buffer.
    fn feed(&mut self, message: Outgoing) -> impl Future<Output = Result<(), Close>> + Send;
    /// Writes the buffer out.
    fn flush(&mut self) -> impl Future<Output = Result<(), Close>> + Send;
    /// Waits for the client. Safe to drop before it is ready.
    fn receive(&mut self) -> impl Future<Output = Incoming> + Send;
    /// Says why it is over, if the client still reads.
    fn close(&mut self, why: Close) -> impl Future<Output = ()> + Send;

    /// Puts events into the buffer that all sessions of the store get: as they are, where the transport can.
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
