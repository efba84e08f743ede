//! Starts the program with TLS, and connects clients with TLS or without.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::engine::{start, until_listening};
use crate::shop::{Ended, Shop};

/// A client's connection, with TLS or without.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// The address of a server, and whether a client connects with TLS.
pub struct Way {
    /// The server's address.
    pub address: SocketAddr,
    /// The TLS client that trusts the server's certificate. `None`: a connection without TLS.
    pub tls: Option<TlsConnector>,
}

impl Way {
    /// The address of a server without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// Connects to the server.
    pub async fn connect(&self) -> std::io::Result<Box<dyn Connection>> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(socket),
            Some(tls) => {
                let name = "localhost".try_into().expect("a name");
                Box::new(tls.connect(name, socket).await?)
            }
        })
    }
}

/// Starts the program with a new self-signed certificate. Also returns a [`Way`] with a TLS client that trusts the
/// certificate.
pub async fn serve(shop: &Shop, settings: &[&str]) -> (Ended, Way) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let directory = tempfile::tempdir().expect("a directory").keep();
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let certificate = format!("tls.certificate={}", certificate.display());
    let key = format!("tls.key={}", key.display());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = Some(TlsConnector::from(Arc::new(config)));
    let settings = [settings, &["--set", &certificate, "--set", &key]].concat();
    let (engine, address) = start(shop, &settings);
    let way = Way { address, tls };
    until_listening(address).await;
    std::fs::remove_dir_all(directory).expect("it was ours");
    (engine, way)
}
