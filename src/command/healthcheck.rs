//! `vestnik healthcheck`: asks the server of this machine whether it is ready. For containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use vestnik::config::Config;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// Bytes of the answer that are read.
const ANSWER_BYTES: u64 = 16 * 1024;

/// Fails when the server is not ready, and says why.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let address = local(config.http.listen);
    let answer = timeout(DEADLINE, ask(address, config.tls.is_some()))
        .await
        .with_context(|| format!("{address} did not answer within {} s", DEADLINE.as_secs()))?
        .with_context(|| format!("cannot ask {address}"))?;
    let ready = answer.starts_with("HTTP/1.1 200");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    if !ready {
        bail!("not ready: {body}");
    }
    super::say!("{body}");
    Ok(())
}

/// Where a server that listens on every address is reached from here.
fn local(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(address: SocketAddr, tls: bool) -> anyhow::Result<String> {
    let socket = TcpStream::connect(address).await?;
    if !tls {
        return get(socket).await;
    }
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Ourselves(provider)))
        .with_no_client_auth();
    let name = ServerName::from(address.ip());
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    get(connector.connect(name, socket).await?).await
}

async fn get(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> anyhow::Result<String> {
    let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.take(ANSWER_BYTES).read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The certificate is for the name that partners use, not for this machine's address: and nothing secret is sent.
#[derive(Debug)]
struct Ourselves(rustls::crypto::CryptoProvider);

impl ServerCertVerifier for Ourselves {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
