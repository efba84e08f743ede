//! TLS clients that trust one certificate only.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The settings of a client that trusts this certificate, or certificates that it has signed.
pub fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Opens a TLS connection to `localhost` as a client that trusts this certificate.
pub async fn secured(socket: TcpStream, trusted: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    let connector = tokio_rustls::TlsConnector::from(trusting(trusted.clone()));
    connector
        .connect(ServerName::try_from("localhost").unwrap(), socket)
        .await
}
