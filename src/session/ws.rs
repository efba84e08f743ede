//! A session over a WebSocket. The upgrade is made here and not by `warp::ws()`, whose sessions keep a read buffer of
//! 128 KiB each: a panel says next to nothing, and 4 KiB will do.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::{Close, Incoming, Outgoing, Session, Transport};
use crate::reach::Way;

/// Bytes that a client may send in one message.
const MAX_MESSAGE_BYTES: usize = 4 * 1024;
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes that are gathered before they are written; a flush writes what there is.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// More than a flush's worth and the largest event: reaching it would be a defect.
const MAX_WRITE_BUFFER_BYTES: usize = 32 * 1024 * 1024;
/// How long the upgrade may take after its answer.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a client may take to read why it is over, and to say goodbye.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// A WebSocket.
pub struct Ws {
    stream: WebSocketStream<TokioIo<Upgraded>>,
}

/// Waits for the upgrade and serves the session over it, or tells why there is none.
pub async fn serve(upgrade: OnUpgrade, session: Result<Box<Session>, Close>, after: Option<String>) {
    let upgraded = match timeout(UPGRADE_DEADLINE, upgrade).await {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(error)) => return tracing::debug!(%error, "an upgrade failed"),
        Err(_) => return tracing::debug!("an upgrade took too long"),
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let mut transport = Ws { stream };
    match session {
        Ok(session) => drop(session.run(after, &mut transport).await),
        Err(why) => transport.close(why).await,
    }
}

impl Transport for Ws {
    const ANSWERS_PINGS: bool = true;
    const WAY: Way = Way::WebSocket;

    async fn feed(&mut self, message: Outgoing) -> Result<(), Close> {
        let message = match message {
            Outgoing::WithCursor(_, text) | Outgoing::Message(text) => Message::Text(text),
            Outgoing::Ping => Message::Ping(bytes::Bytes::new()),
        };
        self.stream.feed(message).await.map_err(|error| close_for(&error))
    }

    async fn flush(&mut self) -> Result<(), Close> {
        self.stream.flush().await.map_err(|error| close_for(&error))
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
            // An error here means that the client is gone, or closed first: either way it is over.
            let _ = self.stream.close(Some(frame)).await;
            // Reading on lets the client take the frame before the socket closes.
            while let Some(Ok(_)) = self.stream.next().await {}
        };
        let _ = timeout(CLOSE_DEADLINE, goodbye).await;
    }
}

fn close_for(error: &Error) -> Close {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Close::TooBig,
        Error::Utf8(_) => Close::NotUtf8,
        Error::Protocol(_) => Close::Protocol,
        _ => Close::Gone,
    }
}
