//! The TLS settings of a connection to Postgres: whether the connection is encrypted, and which servers it trusts. The
//! parameters have libpq's names and meanings.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio_postgres::config::SslMode as Negotiated;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::libpq::Surroundings;
use super::parameters::{Parameters, Unreadable};
use super::verifier::{Check, Trust, Verifier};

/// The values of libpq's parameter `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// The connection is never encrypted.
    Disable,
    /// The client first tries an unencrypted connection. If this attempt fails, it tries an encrypted connection.
    Allow,
    /// The connection is encrypted if the server supports it.
    Prefer,
    /// The connection is encrypted. If a file of root certificates exists, the server's certificate is verified as with
    /// `VerifyCa`.
    Require,
    /// The connection is encrypted, and a trusted root must have signed the server's certificate.
    VerifyCa,
    /// Like `VerifyCa`, but the certificate must also name the host.
    VerifyFull,
}

const MODES: [(&str, SslMode); 7] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    // The Postgres driver of Node.js uses this name for `require`.
    ("no-verify", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// The value of libpq's parameter `sslrootcert`: the trusted root certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Roots {
    /// The root certificates that the operating system trusts.
    System,
    /// The root certificates in a PEM file.
    File(PathBuf),
}

/// One attempt to open a connection, with or without TLS. [`Tls::attempts`] returns the attempts in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The connection is not encrypted.
    Plain,
    /// The connection uses TLS if the server supports TLS. Otherwise the same connection continues without encryption.
    Preferred,
    /// The connection must use TLS.
    Required,
}

impl Attempt {
    /// The `sslmode` that tokio-postgres uses for this attempt.
    pub fn negotiated(self) -> Negotiated {
        match self {
            Self::Plain => Negotiated::Disable,
            Self::Preferred => Negotiated::Prefer,
            Self::Required => Negotiated::Require,
        }
    }
}

/// The reason why the TLS settings of a connection cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of certificates or keys cannot be used.
    #[error("{what} {}: {problem}", .path.display())]
    File {
        /// The connection parameter that names the file.
        what: &'static str,
        /// The path of the file of certificates or keys.
        path: PathBuf,
        /// What is wrong with the file, and how to correct it.
        problem: String,
    },
    /// The operating system has no trusted root certificates.
    #[error(
        "sslrootcert=system: the operating system has no trusted certificates; install ca-certificates, or give \
         the server's CA as a file with sslrootcert"
    )]
    NoSystemRoots,
    /// rustls rejects the settings.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    /// A list of revoked certificates is invalid, or no root certificate is usable.
    #[error("{0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// How a connection to Postgres is encrypted, and how the server is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    mode: SslMode,
    roots: Option<Roots>,
    revoked: Option<PathBuf>,
    /// The files of the client's certificate and of its private key. `None`: the client has no certificate.
    identity: Option<(PathBuf, PathBuf)>,
    versions: &'static [&'static SupportedProtocolVersion],
    sni: bool,
    /// Whether the address is a local socket. A connection over a local socket is never encrypted.
    over_a_socket: bool,
}

impl Tls {
    /// Removes the TLS parameters from `parameters`, and parses them.
    pub(super) fn read(parameters: &mut Parameters, surroundings: &Surroundings) -> Result<Self, Unreadable> {
        let file = |parameters: &mut Parameters, name: &str, usual: &str| {
            let given = parameters.take(name).map(PathBuf::from);
            given.or_else(|| surroundings.user_file(usual))
        };
        let roots = match parameters.take("sslrootcert") {
            Some(system) if system == "system" => Some(Roots::System),
            Some(path) => Some(Roots::File(path.into())),
            None => surroundings.user_file("root.crt").map(Roots::File),
        };
        let mode = mode(parameters.take("sslmode").as_deref(), roots.as_ref())?;
        if roots.is_none() && matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull) {
            return Err(Unreadable(
                "sslmode verifies the server's certificate, so it needs to know whom to trust: add sslrootcert=FILE with the \
                 server's CA, sslrootcert=system, or put the CA into ~/.postgresql/root.crt"
                    .into(),
            ));
        }
        let certificate = file(parameters, "sslcert", "postgresql.crt");
        let key = file(parameters, "sslkey", "postgresql.key");
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => {
                return Err(Unreadable(
                    "sslcert needs sslkey, the private key of the certificate".into(),
                ));
            }
            (None, _) => None,
        };
        Ok(Self {
            mode,
            roots,
            revoked: file(parameters, "sslcrl", "root.crl"),
            identity,
            versions: versions(parameters)?,
            sni: parameters.take("sslsni").is_none_or(|sni| sni != "0"),
            over_a_socket: false,
        })
    }

    /// Turns TLS off, because the address is a local socket, which needs no encryption.
    pub(super) fn not_over_a_socket(&mut self) {
        self.over_a_socket = true;
    }

    /// The attempts to open a connection, in their order.
    pub fn attempts(&self) -> &'static [Attempt] {
        match self.mode {
            _ if self.over_a_socket => &[Attempt::Plain],
            SslMode::Disable => &[Attempt::Plain],
            SslMode::Allow => &[Attempt::Plain, Attempt::Required],
            SslMode::Prefer => &[Attempt::Preferred, Attempt::Plain],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Attempt::Required],
        }
    }

    /// How the server's certificate is verified.
    fn check(&self) -> Check {
        match (self.mode, &self.roots) {
            (SslMode::VerifyFull, _) => Check::ChainAndName,
            (SslMode::VerifyCa, _) => Check::Chain,
            // As in libpq, `require` verifies the certificate if a file of root certificates exists.
            (SslMode::Require, Some(Roots::File(path))) if path.exists() => Check::Chain,
            _ => Check::Nothing,
        }
    }

    /// Whether the connection is not fully protected: an attacker on the network could read the traffic, or impersonate
    /// the server.
    pub fn is_open(&self) -> bool {
        !self.over_a_socket && self.check() != Check::ChainAndName
    }

    /// Builds the TLS connector. Reads the certificate files each time, because they may have been renewed.
    pub fn connector(&self) -> Result<MakeRustlsConnect, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trust = match self.check() {
            Check::Nothing => Trust::none(),
            check => Trust::new(check, self.root_certificates()?, self.revocations()?)?,
        };
        let verifier = Verifier::new(trust, &provider);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.identity {
            Some((certificate, key)) => {
                let chain = certificates("sslcert", certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| Error::File {
                    what: "sslkey",
                    path: key.clone(),
                    problem: format!("{error}; it has to be a private key in PEM, without a passphrase"),
                })?;
                // Do not check whether certificate and key belong together, because rustls cannot parse a version 1
                // certificate.
                let key = provider.key_provider.load_private_key(key)?;
                let identity = SingleCertAndKey::from(CertifiedKey::new(chain, key));
                builder.with_client_cert_resolver(Arc::new(identity))
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = self.sni;
        // `sslnegotiation=direct` needs this protocol name; otherwise the name has no effect.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(MakeRustlsConnect::new(config))
    }

    fn root_certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        match &self.roots {
            Some(Roots::File(path)) => certificates("sslrootcert", path),
            Some(Roots::System) | None => match rustls_native_certs::load_native_certs().certs {
                none if none.is_empty() => Err(Error::NoSystemRoots),
                certificates => Ok(certificates),
            },
        }
    }

    fn revocations(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
        let Some(path) = &self.revoked else {
            return Ok(Vec::new());
        };
        let lists = CertificateRevocationListDer::pem_file_iter(path).and_then(Iterator::collect);
        lists.map_err(|error| Error::File {
            what: "sslcrl",
            path: path.clone(),
            problem: error.to_string(),
        })
    }

    /// The environment variables with which another Postgres program, such as pg_dump, uses the same TLS settings.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let word = MODES
            .iter()
            .find(|(_, mode)| *mode == self.mode)
            .map(|(word, _)| (*word).to_owned());
        let text = |path: &PathBuf| path.display().to_string();
        let roots = self.roots.as_ref().map(|roots| match roots {
            Roots::System => "system".to_owned(),
            Roots::File(path) => text(path),
        });
        let variables = [
            ("PGSSLMODE", word),
            ("PGSSLROOTCERT", roots),
            ("PGSSLCRL", self.revoked.as_ref().map(text)),
            (
                "PGSSLCERT",
                self.identity.as_ref().map(|(certificate, _)| text(certificate)),
            ),
            ("PGSSLKEY", self.identity.as_ref().map(|(_, key)| text(key))),
        ];
        variables
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

/// Describes the security of the connection for the operator, and how to make a weak connection secure.
impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verify = "sslmode=verify-full with sslrootcert=FILE or system verifies it";
        if self.over_a_socket {
            return f.write_str("over a local socket");
        }
        match (self.mode, self.check()) {
            (SslMode::Disable, _) => f.write_str("not encrypted (sslmode=disable)"),
            (SslMode::Allow, _) => f.write_str("encrypted only where the server insists (sslmode=allow), and nothing is verified"),
            (SslMode::Prefer, _) => {
                write!(f, "encrypted where the server can (sslmode=prefer), and its certificate is not verified: {verify}")
            }
            (_, Check::Nothing) => write!(f, "encrypted, and the server's certificate is not verified: {verify}"),
            (_, Check::Chain) => f.write_str(
                "encrypted, and the server's certificate is signed by a trusted CA; its name is not verified: sslmode=verify-full \
                 verifies it",
            ),
            (_, Check::ChainAndName) => f.write_str("encrypted, and the server's certificate is verified"),
        }
    }
}

/// Parses `sslmode`. If the operating system's root certificates are trusted, the default is `verify-full`, which also
/// checks the host name. A weaker mode would accept any server that has a public certificate.
fn mode(given: Option<&str>, roots: Option<&Roots>) -> Result<SslMode, Unreadable> {
    let system = roots == Some(&Roots::System);
    let Some(given) = given else {
        return Ok(if system { SslMode::VerifyFull } else { SslMode::Prefer });
    };
    let mode = MODES
        .iter()
        .find(|(word, _)| *word == given)
        .map(|(_, mode)| *mode)
        .ok_or_else(|| {
            Unreadable("sslmode is none of disable, allow, prefer, require, verify-ca, verify-full".into())
        })?;
    if system && mode != SslMode::VerifyFull {
        return Err(Unreadable(format!(
            "sslmode={given} is too weak for sslrootcert=system, whose authorities sign for anybody: use verify-full"
        )));
    }
    Ok(mode)
}

/// Returns the TLS versions from `ssl_min_protocol_version` to `ssl_max_protocol_version`.
fn versions(parameters: &mut Parameters) -> Result<&'static [&'static SupportedProtocolVersion], Unreadable> {
    const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];
    let least = parameters.take("ssl_min_protocol_version");
    let most = parameters.take("ssl_max_protocol_version");
    let range = match (least.as_deref(), most.as_deref()) {
        (None | Some("TLSv1" | "TLSv1.1" | "TLSv1.2"), None | Some("TLSv1.3")) => BOTH,
        (None | Some("TLSv1" | "TLSv1.1" | "TLSv1.2"), Some("TLSv1.2")) => &BOTH[..1],
        (Some("TLSv1.3"), None | Some("TLSv1.3")) => &BOTH[1..],
        _ => {
            return Err(Unreadable(
                "of TLS only versions 1.2 and 1.3 are spoken: ssl_min_protocol_version or ssl_max_protocol_version leaves none"
                    .into(),
            ));
        }
    };
    Ok(range)
}

fn certificates(what: &'static str, path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, Error> {
    let problem = |problem: String| Error::File {
        what,
        path: path.clone(),
        problem,
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match read {
        Ok(none) if none.is_empty() => Err(problem("there is no certificate in it: it has to be PEM".into())),
        read => read.map_err(|error| problem(error.to_string())),
    }
}

/// A TLS problem that made a connection fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// No trusted root has signed the certificate.
    Untrusted,
    /// The certificate names another host.
    OtherName,
    /// The server does not support TLS.
    NoTls,
}

/// Finds the TLS problem in the error of a failed connection. `None`: the error has another cause.
pub(super) fn problem(error: &tokio_postgres::Error) -> Option<Problem> {
    use std::error::Error as _;

    use rustls::CertificateError as Certificate;

    let source = error.source()?;
    if source.to_string() == "server does not support TLS" {
        return Some(Problem::NoTls);
    }
    let inner = source
        .downcast_ref::<std::io::Error>()?
        .get_ref()?
        .downcast_ref::<rustls::Error>()?;
    match inner {
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            Some(Problem::Untrusted)
        }
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => Some(Problem::OtherName),
        _ => None,
    }
}
