//! A session over Server-Sent Events, for clients that cannot open a WebSocket. The field `id:` of each event is the
//! cursor. A browser sends the last `id:` as `Last-Event-ID` when it reconnects. A client of this transport
//! acknowledges events with HTTP requests.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Close, Incoming, Outgoing, Session, Transport};
use crate::receipts::writer::Channel;

/// Maximum number of buffers that the session has written and the socket has not taken yet.
const QUEUE_BUFFERS: usize = 2;

/// The transport that writes Server-Sent Events to a response body.
pub struct Sse {
    buffer: Vec<u8>,
    body: mpsc::Sender<Bytes>,
}

/// Creates the transport, and the receiver from which the response body is read.
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

/// Runs a session over Server-Sent Events until the session ends. `after` is the client's cursor from an earlier
/// session. `None`: the client has no cursor.
pub async fn serve(mut transport: Sse, session: Box<Session>, after: Option<String>) {
    session.run(after, &mut transport).await;
}

impl Transport for Sse {
    const ANSWERS_PINGS: bool = false;
    const CHANNEL: Channel = Channel::Sse;

    async fn feed(&mut self, message: Outgoing) -> Result<(), Close> {
        // A message is one line of JSON, so one `data:` line is enough.
        match message {
            Outgoing::WithCursor(cursor, text) => {
                self.buffer.extend_from_slice(b"id: ");
                self.buffer.extend_from_slice(cursor.as_bytes());
                self.put_data(&text);
            }
            Outgoing::Message(text) => self.put_data(&text),
            // Server-Sent Events have no ping. The heartbeat that follows each ping is enough.
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
        // The result is ignored: if the queue is full because the client does not read, the client sees only the end of
        // the stream.
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
