//! Opens a WebSocket from the node to its own listening socket, for the self-test. The connection goes through the same
//! limits, TLS and routes as a client's connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::{self, Error};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::{Certificate, Proxies};

/// A PROXY header of version 2 without a client address. It means that the proxy connects for itself.
const PROXY_LOCAL: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
/// The host name in the node's own requests if the setting `http.hosts` is empty. The server then accepts any host
/// name.
const ANY_HOST: &str = "localhost";

/// The data with which a node connects to its own listening socket: address, host name and certificate.
#[derive(Debug, Clone)]
pub struct Loopback {
    address: SocketAddr,
    host: String,
    certificate: Option<Arc<Certificate>>,
    sends_header: bool,
}

/// The reason why the node could not connect to itself.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// The server responded with 429 or 503: it is busy, or the connection exceeded a limit that applies to clients,
    /// too.
    #[error("the server is busy: it answered {0}")]
    Busy(StatusCode),
    /// The server responded with an error status that does not mean "busy": not 429 or 503.
    #[error("the server answered {0}")]
    Refused(StatusCode),
    /// The connection failed.
    #[error("no connection to itself: {0}")]
    Failed(Box<Error>),
}

impl From<std::io::Error> for Unreached {
    fn from(error: std::io::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for Unreached {
    fn from(error: Error) -> Self {
        match error {
            Error::Http(response) => match response.status() {
                busy @ (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => Self::Busy(busy),
                other => Self::Refused(other),
            },
            other => Self::Failed(Box::new(other)),
        }
    }
}

impl Loopback {
    /// Creates the data for a listening socket at this address. `hosts` are the host names that the server accepts in
    /// requests; empty: any host name.
    pub(super) fn new(
        address: SocketAddr,
        hosts: &[String],
        certificate: Option<Arc<Certificate>>,
        proxies: &Proxies,
    ) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Self {
            address: (ip, address.port()).into(),
            host: hosts.first().map_or(ANY_HOST, String::as_str).to_owned(),
            certificate,
            sends_header: proxies.send_header && proxies.trust(ip),
        }
    }

    /// Opens a WebSocket to the route at `path`. The request carries `token`.
    pub async fn open(&self, path: &str, token: &str) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, Unreached> {
        let mut socket = TcpStream::connect(self.address).await?;
        if self.sends_header {
            socket.write_all(&PROXY_LOCAL).await?;
        }
        let (scheme, connector) = match &self.certificate {
            Some(certificate) => ("wss", Connector::Rustls(Arc::new(trusting(certificate)?))),
            None => ("ws", Connector::Plain),
        };
        let mut request = format!("{scheme}://{}{path}", self.host).into_client_request()?;
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(tungstenite::http::Error::from);
        request
            .headers_mut()
            .insert("authorization", bearer.map_err(Error::from)?);
        let (socket, _) = client_async_tls_with_config(request, socket, None, Some(connector)).await?;
        Ok(socket)
    }
}

/// Creates a TLS client that accepts only the certificate of this server. The name in the certificate is not checked,
/// because it need not be a name of this machine.
fn trusting(certificate: &Arc<Certificate>) -> Result<rustls::ClientConfig, Error> {
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(certificate.provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(error.into()))?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Own(Arc::clone(certificate))))
        .with_no_client_auth())
}

#[derive(Debug)]
struct Own(Arc<Certificate>);

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.is(shown) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.provider().signature_verification_algorithms.supported_schemes()
    }
}
