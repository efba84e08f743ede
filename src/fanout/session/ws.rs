//! A session over a WebSocket. This file upgrades the connection itself, because `warp::ws()` keeps a read buffer of
//! 128 KiB for each session. A panel sends little data, so a read buffer of 512 bytes is enough.
//!
//! The library tungstenite reads the client's frames, and answers the client's pings and close frames. Outgoing frames
//! bypass tungstenite, because a batch's frames are encoded once for all sessions of the store. tungstenite and this
//! file write to the same socket, and neither may interrupt a frame of the other. So tungstenite's answers are flushed
//! before an outgoing frame begins, and tungstenite is not polled while an outgoing frame is partly written.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Sink as _, StreamExt as _};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::frame_meter::Metered;
use super::socket::Socket;
use super::write_buffer::WriteBuffer;
use super::{Close, Incoming, Outgoing, Session, Transport};
use crate::fanout::router::BatchPart;
use crate::receipts::writer::Channel;

/// Maximum size of a client's message, in bytes.
const MAX_MESSAGE_BYTES: usize = 4 * 1024;
/// Size of an idle session's read buffer, in bytes. A longer message gets a larger buffer.
const READ_BUFFER_BYTES: usize = 512;
/// Number of bytes of outgoing messages that the session gathers before it writes them.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;
/// Maximum size of tungstenite's own write buffer, in bytes. This buffer holds only pongs and the close frame, so it
/// never fills up unless the program has a defect.
const MAX_CONTROL_BYTES: usize = 16 * 1024;
/// Maximum number of bytes that the session reads and discards after a client has sent too many frames. Meanwhile, the
/// client can read the close frame with the reason.
const MAX_READ_OFF_BYTES: usize = 256 * 1024;
/// Maximum time from the HTTP response to the end of the upgrade.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);
/// Maximum time for a client to receive the close frame, and to answer it.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// A WebSocket connection to a client.
pub struct Ws {
    stream: WebSocketStream<Metered>,
    write_buffer: WriteBuffer,
}

/// Waits for the upgrade, and runs the session. If `session` is an error, closes the WebSocket with this error as the
/// reason. `after` is the client's cursor from an earlier session. `None`: the client has no cursor.
pub async fn serve(upgrade: OnUpgrade, session: Result<Box<Session>, Close>, after: Option<String>) {
    // The future is boxed, because it ends before the session becomes idle, and should occupy no memory after its end.
    let Some(mut transport) = Box::pin(upgraded(upgrade)).await else {
        return;
    };
    match session {
        Ok(session) => drop(session.run(after, &mut transport).await),
        Err(why) => Box::pin(transport.close(why)).await,
    }
}

async fn upgraded(upgrade: OnUpgrade) -> Option<Ws> {
    let upgraded = match timeout(UPGRADE_DEADLINE, upgrade).await {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(error)) => {
            tracing::debug!(%error, "an upgrade failed");
            return None;
        }
        Err(_) => {
            tracing::debug!("an upgrade took too long");
            return None;
        }
    };
    // The server wraps each socket in exactly this type, so another type is a defect.
    let Ok(parts) = upgraded.downcast::<TokioIo<Socket>>() else {
        tracing::error!("an upgraded connection is not one of our sockets");
        return None;
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_CONTROL_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    // `read_buf` holds bytes that the client may have sent right after its handshake, without waiting for the
    // response.
    let early = parts.read_buf.to_vec();
    let socket = Metered::new(parts.io.into_inner(), &early);
    let stream = WebSocketStream::from_partially_read(socket, early, Role::Server, Some(config)).await;
    Some(Ws {
        stream,
        write_buffer: WriteBuffer::default(),
    })
}

impl Ws {
    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Close>> {
        if !self.write_buffer.is_midway() {
            // A pong of tungstenite may be queued, and must be written before the next frame.
            ready!(Pin::new(&mut self.stream).poll_flush(context)).map_err(|error| close_for(&error))?;
        }
        let socket = self.stream.get_mut();
        let written = ready!(self.write_buffer.poll_write(socket, context)).and(Ok(()));
        let flushed = match written {
            Ok(()) => ready!(Pin::new(socket).poll_flush(context)),
            error => error,
        };
        Poll::Ready(flushed.map_err(|_| Close::Gone))
    }
}

impl Ws {
    /// Reads and discards the client's data, until the client closes the connection or `MAX_READ_OFF_BYTES` are read.
    async fn read_off(&mut self) {
        let socket = self.stream.get_mut().unmetered();
        let (mut read, mut nothing) = (0, [0; READ_BUFFER_BYTES]);
        while read < MAX_READ_OFF_BYTES {
            match socket.read(&mut nothing).await {
                Ok(0) | Err(_) => return,
                Ok(more) => read += more,
            }
        }
    }
}

impl Transport for Ws {
    const ANSWERS_PINGS: bool = true;
    const CHANNEL: Channel = Channel::WebSocket;

    async fn feed(&mut self, message: Outgoing) -> Result<(), Close> {
        match message {
            Outgoing::WithCursor(_, text) | Outgoing::Message(text) => self.write_buffer.put_text(&text),
            Outgoing::Ping => self.write_buffer.put_ping(),
        }
        if self.write_buffer.bytes() < WRITE_BUFFER_BYTES {
            return Ok(());
        }
        self.flush().await
    }

    async fn feed_part(&mut self, part: BatchPart<'_>) -> Result<(), Close> {
        self.write_buffer.put_frames(part.frames);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Close> {
        poll_fn(|context| self.poll_write_out(context)).await
    }

    async fn receive(&mut self) -> Incoming {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(_))) => Incoming::Closed(Close::Binary),
            Some(Ok(Message::Close(_))) | None => Incoming::Closed(Close::Normal),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Incoming::Alive,
            Some(Err(error)) => Incoming::Closed(close_for(&error)),
        }
    }

    async fn close(&mut self, why: Close) {
        if why == Close::Gone {
            return;
        }
        let frame = CloseFrame {
            code: CloseCode::from(why.code()),
            reason: why.reason().into(),
        };
        let goodbye = async {
            // A partly written frame is completed first. Otherwise its payload would include the close frame.
            if self.flush().await.is_err() {
                return;
            }
            // The result is ignored: an error means that the connection has ended, or that the client closed it first.
            let _ = self.stream.close(Some(frame)).await;
            // The session keeps reading, so that the client receives the close frame before the socket closes.
            match why {
                Close::TooManyMessages => self.read_off().await,
                _ => while let Some(Ok(_)) = self.stream.next().await {},
            }
        };
        let _ = timeout(CLOSE_DEADLINE, goodbye).await;
    }
}

fn close_for(error: &Error) -> Close {
    match error {
        Error::Io(error) if error.kind() == std::io::ErrorKind::QuotaExceeded => Close::TooManyMessages,
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Close::TooBig,
        Error::Utf8(_) => Close::NotUtf8,
        Error::Protocol(_) => Close::Protocol,
        _ => Close::Gone,
    }
}
