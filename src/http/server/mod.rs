//! The listening sockets. This module accepts connections, and passes their requests to warp. warp's own server is not
//! used: it has no TLS, no timeout for a request head, and does not close upgraded sockets at shutdown.

mod client;
mod connection;
mod connection_limits;
mod loopback;
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
pub use connection_limits::{ConnectionLimits, ConnectionSlot, Full, Limits, Network, Origin};
pub use loopback::{Loopback, Unreached};
pub use tls::Certificate;

use crate::infra::config;
use crate::infra::rate_limiter::{Rate, RateLimiter};
use crate::infra::telemetry::LogLimit;

/// Pause before the next attempt to accept a connection, after an attempt failed because no file descriptor was free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Number of connections that the node may accept in a burst, after a quiet time.
const AT_ONCE: u32 = 16;
/// CPU time of one core that the node reserves for each further connection. Without this limit, a node would accept and
/// read thousands of connections after a restart before it sends the next live order. With the limit, new connections
/// wait in the kernel. If 5,000 connections arrive on 2 cores, the last one waits 1.25 s. A request to `/healthz` waits
/// at most as long. Twice this CPU time did not make live orders faster (`cargo bench --bench replay`).
const TIME_OF_A_CORE: Duration = Duration::from_micros(500);

/// Maximum number of connections that wait in the kernel to be accepted. If the queue is full, the kernel ignores
/// further clients, and they try again after a second. Linux allows at most 4,096, unless it is configured otherwise.
const BACKLOG: u32 = 8192;

/// Size of the kernel's receive buffer of a connection, in bytes. The buffer is larger than any request. Without this
/// setting, the kernel may use megabytes for each connection.
const RECEIVE_BUFFER_BYTES: u32 = 64 * 1024;

/// Settings of TCP keepalive for a silent connection: the time until the first probe, the time between probes, and the
/// number of probes without a response.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// Maximum time for a peer to acknowledge sent data. After this time, the kernel closes the connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// The reason why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot listen on the address: it is in use, or does not belong to this machine.
    #[error("cannot listen on {address}: {reason}; set {setting} to a free address")]
    Bind {
        /// The name of the setting that has the address.
        setting: &'static str,
        /// The address and port.
        address: SocketAddr,
        /// The error of the operating system.
        #[source]
        reason: std::io::Error,
    },
    /// The certificate or the private key cannot be read.
    #[error("tls.{setting} {path}: {reason}")]
    Tls {
        /// The key in the section `tls`: `certificate` or `key`.
        setting: &'static str,
        /// The path of the certificate or key file.
        path: String,
        /// The cause, for the operator.
        reason: String,
    },
}

/// A listening socket, with TLS if a certificate is configured.
pub struct Server {
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    tls: Option<TlsAcceptor>,
    limits: Arc<ConnectionLimits>,
    proxies: Arc<Proxies>,
    /// Number of file descriptors that the rest of the program needs.
    reserved_files: u64,
}

impl Server {
    /// Opens the listening socket for panels and other clients. `reserved_files` is the number of file descriptors that
    /// the rest of the program needs.
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

    /// Opens the listening socket for operators, without TLS.
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

    /// The address that the server listens on. If the setting has port 0, this address has the port that the system
    /// chose.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The limits and counts of the server's connections.
    pub fn limits(&self) -> Arc<ConnectionLimits> {
        Arc::clone(&self.limits)
    }

    /// The proxies whose forwarded client addresses are trusted.
    pub fn proxies(&self) -> Arc<Proxies> {
        Arc::clone(&self.proxies)
    }

    /// The data with which the node connects to this server, for the self-test. `hosts` are the host names that the
    /// server accepts in requests; empty: any host name.
    pub fn loopback(&self, hosts: &[String]) -> std::io::Result<Loopback> {
        let address = self.address()?;
        Ok(Loopback::new(address, hosts, self.certificate(), &self.proxies))
    }

    /// The TLS certificate; `None`: the server has no TLS.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.clone()
    }

    /// Accepts connections until `stop` is cancelled, and then lets running requests end. Each connection is a task
    /// that `connections` tracks.
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
            // In a burst, connections are accepted one at a time, after other tasks that are already waiting.
            match limiter.reserve(Instant::now(), Duration::MAX) {
                Ok(wait) if !wait.is_zero() => tokio::time::sleep(wait).await,
                _ => tokio::task::yield_now().await,
            }
            let origin = match self.proxies.trust(peer) {
                true => Origin::Proxy,
                false => Origin::Client,
            };
            match self.limits.admit(Network::of(peer), origin, self.files_for_clients()) {
                Ok((slot, closed)) => {
                    if let Some(bound) = closed {
                        static LIMIT: LogLimit = LogLimit::new();
                        metrics::counter!("vestnik_connections_closed_for_others_total", "limit" => bound.as_str())
                            .increment(1);
                        if let Some(unlogged) = LIMIT.allows() {
                            tracing::warn!(limit = bound.as_str(), %peer, unlogged,
                                "connections that show no token fill their share: the oldest are closed for new ones");
                        }
                    }
                    connections.spawn(serving.clone().serve(socket, peer, slot));
                }
                Err(full) => full.log(),
            }
        }
    }

    /// The number of client connections for which the system has file descriptors.
    fn files_for_clients(&self) -> usize {
        match getrlimit(Resource::Nofile).current {
            Some(files) => usize::try_from(files.saturating_sub(self.reserved_files).max(1)).unwrap_or(usize::MAX),
            None => usize::MAX,
        }
    }

    /// Handles a failed accept, usually because the system has no free file descriptor. Closes a guest (a connection
    /// without a valid token), and waits for `ACCEPT_PAUSE`.
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
    /// Counts and logs a connection that was refused because no slot is free.
    pub fn log(self) {
        static LIMIT: LogLimit = LogLimit::new();
        metrics::counter!("vestnik_connections_refused_total", "why" => "full").increment(1);
        if let Some(unlogged) = LIMIT.allows() {
            tracing::warn!(
                unlogged,
                "a client found no slot: raise http.max_connections, and the limit of open files (ulimit -n)"
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
        // Accepted sockets inherit the size of the receive buffer.
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

/// Sets the TCP options with which the kernel detects a peer that has disappeared, even on a silent connection. Also
/// disables Nagle's algorithm.
fn tune(socket: &TcpStream) {
    let tuned = || {
        // An order is one small frame, and must be sent without waiting for a full packet.
        sockopt::set_tcp_nodelay(socket, true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(socket, KEEPALIVE_RETRIES)?;
        #[cfg(target_os = "linux")]
        sockopt::set_tcp_user_timeout(socket, TCP_USER_TIMEOUT.as_millis() as u32)?;
        rustix::io::Result::Ok(())
    };
    // An error means that the connection has ended already. The next read of the connection reports this.
    if let Err(error) = tuned() {
        tracing::debug!(%error, "a socket could not be set up");
    }
}

/// Reloads the TLS certificate when its files change, and on each signal of `reload`, until `stop` is cancelled.
pub async fn watch_certificate(certificate: Option<Arc<Certificate>>, reload: Arc<Notify>, stop: CancellationToken) {
    match certificate {
        Some(certificate) => certificate.watch(reload, stop).await,
        None => loop {
            tokio::select! {
                () = reload.notified() => tracing::info!("nothing is read again: there is no certificate"),
                () = stop.cancelled() => return,
            }
        },
    }
}
