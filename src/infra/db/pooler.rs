//! Whether a pooler stands between us and Postgres.
//!
//! A pooler in transaction mode gives each transaction another session of Postgres: what is prepared, set or listened to on
//! one is lost to us, and stays behind for somebody else. So it is looked for before any of that is done. Postgres tells a
//! new client the number of its own process, for cancelling; a pooler tells it a number of its own instead.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::Error;

/// How often it is looked whether two sessions of ours share one of Postgres, before each is taken to have its own.
const LOOKS: usize = 3;
/// What a request to cancel ends with: the process and its secret.
const CANCEL_TAIL: usize = 8;
const CANCEL_BYTES: usize = 16;

/// The number of the process that answers, as it was told at the start of the connection.
pub async fn told_process(client: &Client) -> io::Result<i32> {
    let (mut ours, theirs) = tokio::io::duplex(64);
    // What a server answers when it is asked for TLS.
    ours.write_all(b"S").await?;
    let token = client.cancel_token();
    let request = token.cancel_query_raw(PlainStream(theirs), Untouched);
    let (request, read) = tokio::join!(request, async {
        let mut message = Vec::new();
        ours.read_to_end(&mut message).await.map(|_| message)
    });
    request.map_err(io::Error::other)?;
    let message = read?;
    let process = message
        .len()
        .checked_sub(CANCEL_TAIL)
        .and_then(|at| message.get(at..at + 4)?.try_into().ok());
    match process {
        Some(process) if message.len() >= CANCEL_BYTES => Ok(i32::from_be_bytes(process)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The process of Postgres that answers now.
pub async fn process(client: &Client) -> Result<Option<i32>, Error> {
    number(client, "select pg_backend_pid()").await
}

/// Whether a session behind a pooler has one session of Postgres for itself. `other` makes another one of the same address.
pub async fn is_kept(
    client: &Client,
    other: impl Fn() -> BoxFuture<'static, Result<Client, Error>>,
) -> Result<bool, Error> {
    let kept = process(client).await?;
    let mut others = Vec::new();
    for _ in 0..LOOKS {
        let other = other().await?;
        // Held for the length of a transaction, so that the first one cannot get it back.
        let theirs = number(&other, "begin; select pg_backend_pid()").await?;
        others.push(other);
        if theirs == kept || process(client).await? != kept {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn number(client: &Client, sql: &str) -> Result<Option<i32>, Error> {
    let messages = client.simple_query(sql).await.map_err(Error::Connect)?;
    let number = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    };
    Ok(messages.iter().find_map(number))
}

/// Carries what is said over TLS without it.
struct Untouched;

impl TlsConnect<PlainStream> for Untouched {
    type Stream = PlainStream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<PlainStream>>;

    fn connect(self, stream: PlainStream) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}

/// A stream in memory.
struct PlainStream(DuplexStream);

impl TlsStream for PlainStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
