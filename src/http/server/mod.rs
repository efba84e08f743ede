//! The sockets. They are accepted here and not by warp, which has no TLS and no time-out for a request's head, and does
//! not close upgraded sockets when it shuts down.

mod client;
mod connection;
mod connection_limits;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use client::Proxies;
pub use connection::Connection;
use connection::Serving;
pub use connection_limits::{ConnectionLimits, Full, Limits, Network, Origin, Place};
pub use tls::Certificate;

use crate::infra::config;
use crate::infra::rate_limiter::{Rate, RateLimiter};
use crate::infra::telemetry::LogLimit;

/// How long to wait when the system has no further socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that are taken at once.
const AT_ONCE: u32 = 16;
/// Time of one core for each further one. Thousands that come in the same moment, as after a restart, would all be taken,
/// and their requests read, before the next live order; so they wait with the kernel: 5,000 on 2 cores for 1.25 s, and
/// `/healthz` among them no longer. Twice the time helped the live orders no further (`cargo bench --bench replay`).
const TIME_OF_A_CORE: Duration = Duration::from_micros(500);

/// Connections that may wait to be accepted: one that finds no room tries again after a second. Linux gives 4,096 at
/// most unless it is told otherwise.
const BACKLOG: u32 = 8192;

/// Bytes that the system keeps of what a client has sent and nobody has read: more than any request has. Without a bound it
/// keeps megabytes for each connection.
const RECEIVE_BUFFER_BYTES: u32 = 64 * 1024;

/// When a connection is silent, how long until the system asks whether its peer is there, and how often.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long a peer may leave what it was sent without a sign of its machine.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {reason}; set {setting} to a free address")]
    Bind {
        /// The setting that names the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        reason: std::io::Error,
    },
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
    certificate: Option<Arc<Certificate>>,
    tls: Option<TlsAcceptor>,
    limits: Arc<ConnectionLimits>,
    proxies: Arc<Proxies>,
    /// Files that are not for sockets of clients.
    reserved_files: u64,
}

impl Server {
    /// Binds the address of the panels. `reserved_files`: how many the rest of the program needs.
    pub fn bind(http: &config::Http, tls: Option<&config::Tls>, reserved_files: u64) -> Result<Self, Error> {
        let certificate = tls.map(Certificate::load).transpose()?;
        let tls = certificate.as_ref().map(Certificate::acceptor).transpose()?;
        Ok(Self {
            listener: listen("http.listen (VESTNIK_LISTEN)", http.listen)?,
            certificate,
            tls,
            limits: ConnectionLimits::new(Limits {
                max: http.max_connections,
                max_guests: http.max_unauthenticated,
                max_guests_of_network: http.max_unauthenticated_per_address,
            }),
            proxies: Arc::new(Proxies {
                trusted: http.trusted_proxies.clone(),
                send_header: http.proxy_protocol,
            }),
            reserved_files,
        })
    }

    /// Binds the address of the operators.
    pub fn bind_ops(listen_on: SocketAddr) -> Result<Self, Error> {
        const MAX: usize = config::OPS_CONNECTIONS;
        Ok(Self {
            listener: listen("ops.listen (VESTNIK_OPS_LISTEN)", listen_on)?,
            certificate: None,
            tls: None,
            limits: ConnectionLimits::new(Limits {
                max: MAX,
                max_guests: MAX,
                max_guests_of_network: MAX,
            }),
            proxies: Arc::default(),
            reserved_files: 0,
        })
    }

    /// Where: the port is real, also where 0 was asked for.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What it counts.
    pub fn limits(&self) -> Arc<ConnectionLimits> {
        Arc::clone(&self.limits)
    }

    /// The proxies that it believes.
    pub fn proxies(&self) -> Arc<Proxies> {
        Arc::clone(&self.proxies)
    }

    /// Its certificate, if it has one.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.clone()
    }

    /// Accepts until `stop`, then lets running requests end. Connections are tasks of `connections`.
    pub async fn run<F>(self, routes: F, connections: TaskTracker, stop: CancellationToken)
    where
        F: warp::Filter<Extract = (warp::reply::Response,), Error = std::convert::Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        F::Future: Send,
    {
        let serving = Serving {
            routes,
            tls: self.tls.clone(),
            proxies: Arc::clone(&self.proxies),
            stop: stop.clone(),
        };
        let mut limiter = RateLimiter::new(Rate::of_core_time(TIME_OF_A_CORE, AT_ONCE));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let (socket, peer) = match accepted {
                Ok((socket, peer)) => (socket, peer.ip()),
                Err(error) => {
                    self.no_socket(&error).await;
                    continue;
                }
            };
            tune(&socket);
            // When many come at once they are let in one by one, behind what is under way already.
            match limiter.reserve(Instant::now(), Duration::MAX) {
                Ok(wait) if !wait.is_zero() => tokio::time::sleep(wait).await,
                _ => tokio::task::yield_now().await,
            }
            let origin = match self.proxies.trust(peer) {
                true => Origin::Proxy,
                false => Origin::Client,
            };
            match self.limits.admit(Network::of(peer), origin, self.files_for_clients()) {
                Ok((place, closed)) => {
                    if let Some(bound) = closed {
                        static LIMIT: LogLimit = LogLimit::new();
                        metrics::counter!("vestnik_connections_closed_for_others_total", "limit" => bound.as_str())
                            .increment(1);
                        if let Some(unlogged) = LIMIT.allows() {
                            tracing::warn!(limit = bound.as_str(), %peer, unlogged,
                                "connections that show no token fill their share: the oldest are closed for new ones");
                        }
                    }
                    connections.spawn(serving.clone().serve(socket, peer, place));
                }
                Err(full) => full.tell(),
            }
        }
    }

    /// Connections for which the system has files.
    fn files_for_clients(&self) -> usize {
        match getrlimit(Resource::Nofile).current {
            Some(files) => usize::try_from(files.saturating_sub(self.reserved_files).max(1)).unwrap_or(usize::MAX),
            None => usize::MAX,
        }
    }

    /// A connection came and the system could not give it a file, or it was gone again.
    async fn no_socket(&self, error: &std::io::Error) {
        static LIMIT: LogLimit = LogLimit::new();
        metrics::counter!("vestnik_connections_refused_total", "why" => "system").increment(1);
        if let Some(unlogged) = LIMIT.allows() {
            tracing::warn!(%error, unlogged, "a connection could not be accepted");
        }
        self.limits.close_a_guest();
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

impl Full {
    /// Counts and logs that a client found no place.
    pub fn tell(self) {
        static LIMIT: LogLimit = LogLimit::new();
        metrics::counter!("vestnik_connections_refused_total", "why" => "full").increment(1);
        if let Some(unlogged) = LIMIT.allows() {
            tracing::warn!(
                unlogged,
                "a client found no place: raise http.max_connections, and the limit of open files (ulimit -n)"
            );
        }
    }
}

fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let listening = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        // What is accepted has the same.
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listening().map_err(|reason| Error::Bind {
        setting,
        address,
        reason,
    })
}

/// A peer that is gone without a word is noticed, whatever the connection waits for.
fn tune(socket: &TcpStream) {
    let tuned = || {
        // An order is one small frame: it must not wait for a second one to fill the packet.
        sockopt::set_tcp_nodelay(socket, true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(socket, KEEPALIVE_RETRIES)?;
        #[cfg(target_os = "linux")]
        sockopt::set_tcp_user_timeout(socket, TCP_USER_TIMEOUT.as_millis() as u32)?;
        rustix::io::Result::Ok(())
    };
    // A socket that is gone already fails here, and where it is read.
    if let Err(error) = tuned() {
        tracing::debug!(%error, "a socket could not be set up");
    }
}

/// A certificate that is read again when its files change, or when `asked`.
pub async fn watch_certificate(certificate: Option<Arc<Certificate>>, asked: Arc<Notify>, stop: CancellationToken) {
    match certificate {
        Some(certificate) => certificate.watch(asked, stop).await,
        None => loop {
            tokio::select! {
                () = asked.notified() => tracing::info!("nothing is read again: there is no certificate"),
                () = stop.cancelled() => return,
            }
        },
    }
}
