//! The sockets: accepted here rather than by warp, which knows no TLS, no time-out for a request's head, and forgets
//! upgraded sockets when it shuts down.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::http::Request;

use super::{Sites, routes};
use crate::config;
use crate::pace::Pace;
use crate::session::socket::Socket;

/// How long a client may take to send the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take.
const TLS_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long to wait when the system has no further socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that are taken at once.
const AT_ONCE: u32 = 16;
/// Time of one core for each further one. Thousands that come in the same moment, as after a restart, would all be taken,
/// and their requests read, before the next live order; so they wait with the kernel: 5,000 on 2 cores for 1.25 s, and
/// `/healthz` among them no longer. Twice the time helped the live orders no further (`cargo bench --bench replay`).
const PACE_OF_A_CORE: Duration = Duration::from_micros(500);

/// Connections that may wait to be accepted: one that finds no room tries again after a second. Linux gives 4,096 at
/// most unless it is told otherwise.
const BACKLOG: u32 = 8192;

/// A socket's place among [`config::Http::max_connections`]; an upgraded session keeps it.
pub type Permit = Arc<OwnedSemaphorePermit>;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("cannot listen on {0}: {1}; set http.listen (VESTNIK_LISTEN) to a free address")]
    Bind(SocketAddr, #[source] std::io::Error),
    /// The certificate or key cannot be read.
    #[error("tls.{setting} {path}: {reason}")]
    Tls {
        /// Which of the two.
        setting: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A bound socket, with TLS where a certificate is configured.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    max_connections: usize,
}

impl Server {
    /// Binds.
    pub async fn bind(http: &config::Http, tls: Option<&config::Tls>) -> Result<Self, Error> {
        let tls = tls.map(acceptor).transpose()?;
        let listener = listen(http.listen).map_err(|error| Error::Bind(http.listen, error))?;
        Ok(Self {
            listener,
            tls,
            max_connections: http.max_connections,
        })
    }

    /// Where: the port is real, also where 0 was asked for.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until `stop`, then lets running requests end. Connections are tasks of `connections`.
    pub async fn run(self, sites: Arc<Sites>, connections: TaskTracker, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.max_connections));
        let routes = routes(sites);
        let mut pace = Pace::of_a_core(PACE_OF_A_CORE, AT_ONCE);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &places) => accepted,
                () = stop.cancelled() => return,
            };
            let (socket, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // When many come at once they are let in one by one, behind what is under way already.
            match pace.wait(Instant::now(), Duration::MAX) {
                Some(wait) if !wait.is_zero() => tokio::time::sleep(wait).await,
                _ => tokio::task::yield_now().await,
            }
            let (routes, tls, stop) = (routes.clone(), self.tls.clone(), stop.clone());
            connections.spawn(async move {
                match tls {
                    None => serve(Socket::Plain(socket), routes, permit, stop).await,
                    Some(tls) => match timeout(TLS_DEADLINE, tls.accept(socket)).await {
                        Ok(Ok(socket)) => serve(Socket::Secure(Box::new(socket)), routes, permit, stop).await,
                        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                        Err(_) => tracing::debug!("a TLS handshake took too long"),
                    },
                }
            });
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, Permit)> {
    let permit = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (socket, _) = listener.accept().await?;
    // An order is one small frame: it must not wait for a second one to fill the packet.
    socket.set_nodelay(true)?;
    Ok((socket, Arc::new(permit)))
}

async fn serve<F>(socket: Socket, routes: F, permit: Permit, stop: CancellationToken)
where
    F: warp::Filter<Extract = (warp::reply::Response,), Error = std::convert::Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    F::Future: Send,
{
    let service = TowerToHyperService::new(WithPermit {
        routes: warp::service(routes),
        permit,
    });
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Puts the socket's permit into each request, for a session to keep.
#[derive(Clone)]
struct WithPermit<S> {
    routes: S,
    permit: Permit,
}

impl<S, B> tower_service::Service<Request<B>> for WithPermit<S>
where
    S: tower_service::Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.routes.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(Arc::clone(&self.permit));
        self.routes.call(request)
    }
}

fn acceptor(tls: &config::Tls) -> Result<TlsAcceptor, Error> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let problem = |setting, path: &std::path::Path, reason: &dyn std::fmt::Display| Error::Tls {
        setting,
        path: path.display().to_string(),
        reason: reason.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem("certificate", &tls.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| problem("key", &tls.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| problem("certificate", &tls.certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
