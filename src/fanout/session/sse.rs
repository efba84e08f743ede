//! A session over Server-Sent Events, for clients that cannot have a WebSocket. `id:` is the cursor, so a browser sends
//! it as `Last-Event-ID` when it reconnects. Acknowledgements need a WebSocket or HTTP.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Close, Incoming, Outgoing, Session, Transport};
use crate::receipts::writer::Channel;

/// Buffers queued between the session and the socket.
const QUEUE_BUFFERS: usize = 2;

/// The sending end of a response body.
pub struct Sse {
    buffer: Vec<u8>,
    body: mpsc::Sender<Bytes>,
}

/// Both ends: the transport, and the receiver that becomes the response body.
pub fn channel() -> (Sse, mpsc::Receiver<Bytes>) {
    let (body, receiver) = mpsc::channel(QUEUE_BUFFERS);
    (
        Sse {
            buffer: Vec::new(),
            body,
        },
        receiver,
    )
}

/// Serves the session over Server-Sent Events.
pub async fn serve(mut transport: Sse, session: Box<Session>, after: Option<String>) {
    session.run(after, &mut transport).await;
}

impl Transport for Sse {
    const ANSWERS_PINGS: bool = false;
    const CHANNEL: Channel = Channel::Sse;

    async fn feed(&mut self, message: Outgoing) -> Result<(), Close> {
        // A message is one line of JSON, so it needs one `data:`.
        match message {
            Outgoing::WithCursor(cursor, text) => {
                self.buffer.extend_from_slice(b"id: ");
                self.buffer.extend_from_slice(cursor.as_bytes());
                self.put_data(&text);
            }
            Outgoing::Message(text) => self.put_data(&text),
            // No ping: the heartbeat that follows each ping is enough.
            Outgoing::Ping => {}
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Close> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.body
            .send(std::mem::take(&mut self.buffer).into())
            .await
            .map_err(|_| Close::Gone)
    }

    async fn receive(&mut self) -> Incoming {
        self.body.closed().await;
        Incoming::Closed(Close::Gone)
    }

    async fn close(&mut self, why: Close) {
        let text = format!(
            r#"{{"type":"close","code":{},"reason":"{}"}}"#,
            why.code(),
            why.reason()
        );
        self.put_data(&text);
        // A client that does not read sees only the end of the stream.
        let _ = self.body.try_send(std::mem::take(&mut self.buffer).into());
    }
}

impl Sse {
    fn put_data(&mut self, text: &str) {
        if self.buffer.last().is_some_and(|last| *last != b'\n') {
            self.buffer.push(b'\n');
        }
        self.buffer.extend_from_slice(b"data: ");
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.extend_from_slice(b"\n\n");
    }
}
