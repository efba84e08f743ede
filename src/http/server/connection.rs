//! Serves one connection, from its first byte to its end. Each phase has a deadline, and only HTTP/1.1 is accepted.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use warp::http::{Request, Uri};

use super::client::read_proxy_header;
use super::connection_limits::Closing;
use super::{ConnectionSlot, Network, Proxies};
use crate::fanout::session::socket::{Socket, Tcp};

/// Maximum time from the acceptance of a connection to its first complete request head, including TLS and a PROXY
/// header. Each later request head has the same limit.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Maximum size of a request head, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum time for a refused client to read the error response.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);
/// Maximum number of bytes that are read and discarded while a refused client reads the error response.
const MAX_REFUSED_BYTES: usize = 64 * 1024;

/// The reason why a connection is refused before any of its requests reaches a route.
#[derive(Debug, Clone, Copy)]
pub enum Refusal {
    /// The client speaks HTTP/2.
    OtherProtocol,
    /// The client did not send a complete request head in time.
    TooSlow,
    /// The client's network has too many connections without a valid token.
    TooManyFromNetwork,
}

impl Refusal {
    /// The whole HTTP response as text. Its body has the same JSON form as other errors. The server writes this
    /// response itself, because the connection is refused before warp has a request to answer.
    fn response(self) -> String {
        let (status, retry_after_s, code, message) = match self {
            Self::OtherProtocol => (
                "400 Bad Request",
                None,
                "bad_protocol",
                "this address speaks HTTP/1.1 only",
            ),
            Self::TooSlow => (
                "408 Request Timeout",
                None,
                "too_slow",
                "the request did not come within 10 s",
            ),
            Self::TooManyFromNetwork => (
                "429 Too Many Requests",
                Some(1),
                "too_many_connections",
                "too many connections from your network have shown no token",
            ),
        };
        let body = serde_json::json!({"error": {"code": code, "message": message}}).to_string();
        let retry_after = retry_after_s.map(|seconds| format!("Retry-After: {seconds}\r\n"));
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n{body}",
            body.len(),
            retry_after.unwrap_or_default()
        )
    }
}

/// The data of a connection. Each request of the connection carries a reference to it.
#[derive(Debug)]
pub struct Connection {
    /// The connection's slot, which counts against the limits of connections. If a request becomes a session, the
    /// session keeps the slot.
    pub slot: Arc<ConnectionSlot>,
    /// The address of the peer. If a trusted proxy sent a PROXY header, this is the client's address in that header.
    pub peer: IpAddr,
    /// Whether a request has arrived on the connection.
    has_asked: AtomicBool,
}

/// The routes, the settings, and the stop signal that each connection needs.
#[derive(Clone)]
pub struct Serving<F> {
    pub routes: F,
    pub tls: Option<TlsAcceptor>,
    pub proxies: Arc<Proxies>,
    pub stop: CancellationToken,
}

impl<F> Serving<F>
where
    F: warp::Filter<Extract = (warp::reply::Response,), Error = std::convert::Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    F::Future: Send,
{
    /// Serves a connection until it ends. After an upgrade, a session serves the connection.
    pub async fn serve(self, mut socket: TcpStream, peer: IpAddr, slot: Arc<ConnectionSlot>) {
        let deadline = Instant::now() + HEAD_DEADLINE;
        let opened = async {
            let mut peer = peer;
            if self.proxies.send_header && self.proxies.trust(peer) {
                match read_proxy_header(&mut socket).await {
                    Ok(source) => {
                        peer = source.unwrap_or(peer);
                        slot.is_of(Network::of(peer));
                    }
                    Err(error) => {
                        tracing::warn!(%error, %peer, "a trusted proxy does not say whom it speaks for");
                        return None;
                    }
                }
            }
            Some((secured(socket, self.tls.as_ref()).await?, peer))
        };
        let opened = tokio::select! {
            opened = timeout_at(deadline, opened) => opened.unwrap_or_else(|_| {
                timed_out("handshake");
                None
            }),
            _ = slot.closed() => None,
            () = self.stop.cancelled() => None,
        };
        let Some((socket, peer)) = opened else { return };
        let connection = Arc::new(Connection {
            slot,
            peer,
            has_asked: AtomicBool::new(false),
        });
        let left = deadline.saturating_duration_since(Instant::now());
        self.speak(socket, &connection, left.max(Duration::from_millis(1)))
            .await;
    }

    /// Serves the requests of a connection, one after another, until the connection ends or must be closed.
    async fn speak(&self, socket: Socket, connection: &Arc<Connection>, head_deadline: Duration) {
        let service = TowerToHyperService::new(WithConnection {
            routes: warp::service(self.routes.clone()),
            connection: Arc::clone(connection),
        });
        let mut speaking = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_deadline)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades();
        let refusal = tokio::select! {
            ended = &mut speaking => refusal_after(ended),
            closing = connection.slot.closed() => {
                (closing == Closing::WithReason).then_some(Refusal::TooManyFromNetwork)
            }
            () = self.stop.cancelled() => {
                std::pin::Pin::new(&mut speaking).graceful_shutdown();
                refusal_after((&mut speaking).await)
            }
        };
        let Some(refusal) = refusal else { return };
        // If the connection has sent a request, a response may be partly written, so no error can be sent.
        if connection.has_asked.load(Ordering::Relaxed) {
            return;
        }
        if let Some(parts) = speaking.into_parts() {
            refuse(parts.io.into_inner(), refusal).await;
        }
    }
}

/// Returns the error that the server sends after the connection has failed. `None`: it sends no error.
fn refusal_after(ended: hyper::Result<()>) -> Option<Refusal> {
    match ended {
        Ok(()) => None,
        Err(error) if error.is_parse_version_h2() => Some(Refusal::OtherProtocol),
        Err(error) if error.is_timeout() => {
            timed_out("head");
            Some(Refusal::TooSlow)
        }
        Err(error) => {
            tracing::debug!(%error, "a connection ended");
            None
        }
    }
}

/// The socket with TLS, if a certificate is configured; otherwise the plain socket. `None`: the TLS handshake failed.
async fn secured(socket: TcpStream, tls: Option<&TlsAcceptor>) -> Option<Socket> {
    let socket = Tcp::from(socket);
    let Some(tls) = tls else {
        return Some(Socket::Plain(socket));
    };
    match tls.accept(socket).await {
        Ok(socket) => Some(Socket::Secure(Box::new(socket))),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

/// Sends the error, and waits until the client has read it and closes the connection. If the server closed the
/// connection first, the client might not receive the error.
async fn refuse(mut socket: Socket, refusal: Refusal) {
    let sending = async {
        socket.write_all(refusal.response().as_bytes()).await?;
        socket.shutdown().await?;
        let (mut sent, mut nothing) = (0, [0; 1024]);
        while sent < MAX_REFUSED_BYTES {
            match socket.read(&mut nothing).await? {
                0 => break,
                more => sent += more,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(REFUSAL_DEADLINE, sending).await;
}

fn timed_out(waited_for: &'static str) {
    metrics::counter!("vestnik_connections_timed_out_total", "waited_for" => waited_for).increment(1);
}

/// A service that attaches the connection's data to each request of the connection.
#[derive(Clone)]
struct WithConnection<S> {
    routes: S,
    connection: Arc<Connection>,
}

impl<S, B> tower_service::Service<Request<B>> for WithConnection<S>
where
    S: tower_service::Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.routes.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        self.connection.has_asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Arc::clone(&self.connection));
        // `CONNECT host:port` has no path, and warp's path filter panics without a path.
        if request.uri().path_and_query().is_none() {
            *request.uri_mut() = Uri::from_static("/");
        }
        self.routes.call(request)
    }
}
