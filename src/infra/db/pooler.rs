//! Detects a pooler, such as PgBouncer, between Vestnik and Postgres.
//!
//! In transaction mode, a pooler uses another backend for each transaction. So Vestnik would lose its prepared
//! statements, settings and LISTEN, and other clients would get them. For this reason, Vestnik detects a pooler before
//! it uses any of these. Postgres sends each new client the process id of its backend, for cancellation. A pooler sends
//! an invented id instead.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::Error;

/// Number of other connections that are opened to test whether a first connection has its own backend. The test fails
/// if one of the other connections uses the backend of the first connection.
const LOOKS: usize = 3;
/// Length of the end of a cancellation request, in bytes: a process id and a secret, four bytes each.
const CANCEL_TAIL: usize = 8;
const CANCEL_BYTES: usize = 16;

/// Returns the process id that the server sent when the connection began. tokio-postgres has no method for this id. So
/// the id is read from a cancellation request, which is never sent to the server.
pub async fn announced_process(client: &Client) -> io::Result<i32> {
    let (mut ours, theirs) = tokio::io::duplex(64);
    // Answer the client's TLS request with "yes", as a server does.
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

/// The process id of the Postgres backend that executes this connection's statements now. `None`: the response has no
/// process id.
pub async fn process(client: &Client) -> Result<Option<i32>, Error> {
    number(client, "select pg_backend_pid()").await
}

/// Whether the connection `client` keeps the same Postgres backend for all its transactions, although it goes through a
/// pooler. `other` opens further connections to the same address, for comparison.
pub async fn is_kept(
    client: &Client,
    other: impl Fn() -> BoxFuture<'static, Result<Client, Error>>,
) -> Result<bool, Error> {
    let kept = process(client).await?;
    let mut others = Vec::new();
    for _ in 0..LOOKS {
        let other = other().await?;
        // The other connection keeps its backend busy with a transaction, so that the pooler cannot use this backend
        // for the first connection.
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

/// A TLS connector without encryption, so that the bytes of a cancellation request can be read.
struct Untouched;

impl TlsConnect<PlainStream> for Untouched {
    type Stream = PlainStream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<PlainStream>>;

    fn connect(self, stream: PlainStream) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}

/// An in-memory stream that takes the place of the network connection, so that the bytes of a cancellation request can
/// be read.
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
