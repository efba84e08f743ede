//! The TLS certificate of the server. The node reads it at the start, when its files change, and when an operator
//! requests it. Open connections keep the certificate that they had at their start.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::infra::config;

/// Time between two checks for changes of the certificate and key files.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The TLS certificate and private key that new connections use.
#[derive(Debug)]
pub struct Certificate {
    files: config::Tls,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

impl Certificate {
    /// Reads the certificate and its private key from their files.
    pub fn load(files: &config::Tls) -> Result<Arc<Self>, Error> {
        let provider = Arc::new(ring::default_provider());
        let current = RwLock::new(Arc::new(read(files, &provider)?));
        Ok(Arc::new(Self {
            files: files.clone(),
            provider,
            current,
        }))
    }

    /// The library of cryptographic algorithms for this certificate.
    pub(super) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Whether `shown` is the certificate that new connections use now.
    pub(super) fn is(&self, shown: &CertificateDer<'_>) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.cert.first().is_some_and(|own| own.as_ref() == shown.as_ref())
    }

    /// Creates a TLS acceptor that always uses the current certificate.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, Error> {
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| problem("certificate", &self.files.certificate, &error))?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reloads the certificate when its files change, and on each signal of `reload`, until `stop` is cancelled. If the
    /// new certificate cannot be used, the error is logged, and the old certificate stays in use.
    pub async fn watch(self: Arc<Self>, reload: Arc<Notify>, stop: CancellationToken) {
        let mut seen = self.stamps();
        loop {
            let is_forced = tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
                () = reload.notified() => true,
                () = stop.cancelled() => return,
            };
            let now = self.stamps();
            if now == seen && !is_forced {
                continue;
            }
            seen = now;
            match read(&self.files, &self.provider) {
                Ok(read) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
                    tracing::info!(certificate = %self.files.certificate.display(), "the certificate was read again");
                }
                // The file may be incomplete. Its next change causes another attempt.
                Err(error) => tracing::error!(%error, "the new certificate cannot be used; the old one stays"),
            }
        }
    }

    /// The modification time, size and inode of the certificate file and of the key file. A change or replacement of a
    /// file changes these values.
    fn stamps(&self) -> [Option<(SystemTime, u64, u64)>; 2] {
        let stamp = |metadata: Metadata| Some((metadata.modified().ok()?, metadata.len(), metadata.ino()));
        [&self.files.certificate, &self.files.key].map(|file| std::fs::metadata(file).ok().and_then(stamp))
    }
}

fn read(files: &config::Tls, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem("certificate", &files.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| problem("key", &files.key, &error))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| problem("certificate", &files.certificate, &error))
}

fn problem(setting: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Tls {
        setting,
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}
