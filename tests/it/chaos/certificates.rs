//! The certificates of the nodes, and the certificate authority (CA) that signs them. HAProxy trusts only this CA.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SignatureAlgorithm};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;

use crate::support::tls::secured;

/// The name in the certificates of all nodes.
const NAME: &str = "localhost";
/// The algorithms of the nodes' keys. A new certificate may have another algorithm than the old one.
const ALGORITHMS: [&SignatureAlgorithm; 3] = [
    &rcgen::PKCS_ECDSA_P256_SHA256,
    &rcgen::PKCS_ECDSA_P384_SHA384,
    &rcgen::PKCS_ED25519,
];

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// The files that a node reads.
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Creates a CA, and writes its certificate to a file in `directory`.
    pub fn new(directory: &Path) -> Self {
        let mut params = CertificateParams::default();
        // OpenSSL takes a certificate for self-signed if it has the same name as its issuer.
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of the test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self {
            issuer,
            directory: directory.to_owned(),
        };
        std::fs::write(authority.file(), authority.issuer.pem()).unwrap();
        authority
    }

    /// The file with the certificate of the CA.
    fn file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The files of a node.
    pub fn files(&self, node: usize) -> Files {
        let file = |end: &str| self.directory.join(format!("node-{node}.{end}"));
        Files {
            certificate: file("pem"),
            key: file("key"),
        }
    }

    /// Writes a new certificate and a new key to the files of a node. Returns the certificate.
    pub fn renew(&self, node: usize, random: &mut fastrand::Rng) -> CertificateDer<'static> {
        let key = KeyPair::generate_for(ALGORITHMS[random.usize(..ALGORITHMS.len())]).unwrap();
        let params = CertificateParams::new([NAME.to_owned()]).unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let files = self.files(node);
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        std::fs::write(&files.certificate, made.pem()).unwrap();
        made.der().clone()
    }

    /// Writes HAProxy's configuration for nodes with these certificates: the example's file, with TLS to the nodes.
    /// Returns its path. HAProxy still asks for `/readyz` without TLS, at the address for operators.
    pub fn balancer(&self) -> PathBuf {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster/haproxy.cfg");
        let plain = std::fs::read_to_string(example).unwrap();
        let trusted = self.file();
        let tls = format!(
            "default-server ssl verify required ca-file {} verifyhost {NAME} check",
            trusted.display()
        );
        let secure = plain.replace("default-server check", &tls);
        assert_ne!(secure, plain, "the example has a line default-server");
        let path = self.directory.join("haproxy.cfg");
        std::fs::write(&path, secure).unwrap();
        path
    }

    /// The certificate that a server shows to a client that trusts this CA. `None`: there is no connection, or the
    /// client does not trust the server.
    pub async fn shown_at(&self, address: std::net::SocketAddr) -> Option<CertificateDer<'static>> {
        let socket = TcpStream::connect(address).await.ok()?;
        let stream = secured(socket, self.issuer.der()).await.ok()?;
        let shown = stream.get_ref().1.peer_certificates()?.first()?;
        Some(shown.clone().into_owned())
    }
}
