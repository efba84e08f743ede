//! The interface between a session and its transport: WebSocket or Server-Sent Events.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::Close;
use crate::fanout::router::BatchPart;
use crate::receipts::writer::Channel;

/// A message from the session to its client.
pub enum Outgoing {
    /// An event or another message with a cursor. The values are the cursor and the text of the message.
    WithCursor(Arc<str>, Utf8Bytes),
    /// A message without a cursor.
    Message(Utf8Bytes),
    /// A ping of the transport protocol. A transport without pings ignores it.
    Ping,
}

/// The input that a session receives from its client.
pub enum Incoming {
    /// The client sent a text message.
    Text(Utf8Bytes),
    /// The client answered a ping, or sent other data that proves that it is connected.
    Alive,
    /// The connection has ended, for this reason.
    Closed(Close),
}

/// Carries the messages of one session to its client, and the client's messages to the session.
pub trait Transport: Send {
    /// Whether clients of this transport answer pings. If so, the session ends a client that stays silent.
    const ANSWERS_PINGS: bool;
    /// The channel in the receipts of events that are sent over this transport.
    const CHANNEL: Channel;

    /// Adds a message to the transport's buffer. If the buffer is full, writes the buffered messages to the client.
    fn feed(&mut self, message: Outgoing) -> impl Future<Output = Result<(), Close>> + Send;
    /// Writes the buffered messages to the client, and waits until the socket has taken them.
    fn flush(&mut self) -> impl Future<Output = Result<(), Close>> + Send;
    /// Waits for the client's next input. Cancel safe: dropping the future loses no input.
    fn receive(&mut self) -> impl Future<Output = Incoming> + Send;
    /// Closes the connection. A client that still reads first gets the reason why the session ends.
    fn close(&mut self, why: Close) -> impl Future<Output = ()> + Send;

    /// Adds events of a batch to the transport's buffer. The encoded text of a batch is shared by several sessions. A
    /// transport can override this method to write the shared text without a copy.
    fn feed_part(&mut self, part: BatchPart<'_>) -> impl Future<Output = Result<(), Close>> + Send {
        async move {
            for event in part.events {
                let message = Outgoing::WithCursor(Arc::clone(&event.cursor), event.text.clone());
                self.feed(message).await?;
            }
            Ok(())
        }
    }
}
