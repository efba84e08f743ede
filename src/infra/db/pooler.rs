//! Detects a pooler between us and Postgres.
//!
//! A pooler in transaction mode uses another backend for each transaction. Prepared statements, settings and LISTEN on
//! one backend are lost to us, and stay for other clients. So we detect it before we use any of these. Postgres tells a
//! new client its own process id, for cancellation; a pooler tells an id of its own instead.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::Error;

/// Number of checks whether two connections share a backend, before each counts as having its own.
const LOOKS: usize = 3;
/// The last part of a cancellation request: process id and secret.
const CANCEL_TAIL: usize = 8;
const CANCEL_BYTES: usize = 16;

/// The process id from the start of the connection.
pub async fn announced_process(client: &Client) -> io::Result<i32> {
    let (mut ours, theirs) = tokio::io::duplex(64);
    // The server's reply to a request for TLS.
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

/// The process id of the present backend.
pub async fn process(client: &Client) -> Result<Option<i32>, Error> {
    number(client, "select pg_backend_pid()").await
}

/// Whether a connection behind a pooler has a backend of its own. `other` opens another connection to the same address.
pub async fn is_kept(
    client: &Client,
    other: impl Fn() -> BoxFuture<'static, Result<Client, Error>>,
) -> Result<bool, Error> {
    let kept = process(client).await?;
    let mut others = Vec::new();
    for _ in 0..LOOKS {
        let other = other().await?;
        // Held for a transaction, so that the first connection cannot get the same backend.
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

/// A stream that passes TLS messages on unencrypted.
struct Untouched;

impl TlsConnect<PlainStream> for Untouched {
    type Stream = PlainStream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<PlainStream>>;

    fn connect(self, stream: PlainStream) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}

/// An in-memory stream.
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
