//! Verifies the certificate of a Postgres server. The library webpki verifies certificate chains, but rejects some
//! certificates that libpq (Postgres' C library) accepts. These are version 1 certificates, certificates without
//! subject alternative names, and self-signed certificates as in PostgreSQL's documentation. For such a certificate,
//! this module checks that it is a configured root, or that a configured root has signed it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::CN;
use x509_cert::der::oid::db::rfc5280::ID_KP_SERVER_AUTH;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName};
use x509_cert::spki::AlgorithmIdentifierOwned;

/// How much of a server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing: the client accepts any server.
    Nothing,
    /// A trusted root has signed the certificate. The host name is not compared.
    Chain,
    /// A trusted root has signed the certificate, and the certificate names the host.
    ChainAndName,
}

/// The trusted root certificates, and how much of a server's certificate is verified.
#[derive(Debug)]
pub struct Trust {
    check: Check,
    roots: Vec<CertificateDer<'static>>,
    /// Whether lists of revoked certificates are configured. Only the library webpki can check a certificate against
    /// these lists.
    may_be_revoked: bool,
    webpki: Option<Arc<WebPkiServerVerifier>>,
}

impl Trust {
    /// Trusts any server without verification.
    pub fn none() -> Self {
        Self {
            check: Check::Nothing,
            roots: Vec::new(),
            may_be_revoked: false,
            webpki: None,
        }
    }

    /// Trusts a server if these roots have signed its certificate, and the lists `revoked` do not contain the
    /// certificate.
    pub fn new(
        check: Check,
        roots: Vec<CertificateDer<'static>>,
        revoked: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, VerifierBuilderError> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let may_be_revoked = !revoked.is_empty();
        let webpki = match store.is_empty() {
            // webpki can parse none of the roots, because they may be version 1 certificates.
            true => None,
            false => {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider);
                Some(builder.with_crls(revoked).allow_unknown_revocation_status().build()?)
            }
        };
        Ok(Self {
            check,
            roots,
            may_be_revoked,
            webpki,
        })
    }
}

/// Verifies the certificate of a server during the TLS handshake, for rustls.
#[derive(Debug)]
pub struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Creates a verifier that accepts the signature algorithms of this provider.
    pub fn new(trust: Trust, provider: &CryptoProvider) -> Self {
        Self {
            trust,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Verifies a certificate chain with webpki. Ignores a wrong host name, because the caller checks the name.
    fn chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let webpki = self.trust.webpki.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        match webpki.verify_server_cert(end_entity, intermediates, name, &[], now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ))
            | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Verifies a certificate that webpki rejects. The certificate must be a configured root, or a configured root must
    /// have signed it.
    fn directly(&self, end_entity: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
        let (der, leaf) = (end_entity, parse(end_entity)?);
        is_in_time(&leaf, now)?;
        let usage = leaf
            .tbs_certificate
            .get::<ExtendedKeyUsage>()
            .map_err(|_| CertificateError::BadEncoding)?;
        if usage.is_some_and(|(_, usage)| !usage.0.contains(&ID_KP_SERVER_AUTH)) {
            return Err(CertificateError::InvalidPurpose);
        }
        for root in &self.trust.roots {
            if root.as_ref() == der.as_ref() {
                return Ok(());
            }
            let Ok(root) = parse(root) else { continue };
            if root.tbs_certificate.subject == leaf.tbs_certificate.issuer && self.signed(&leaf, &root, now).is_ok() {
                return Ok(());
            }
        }
        Err(CertificateError::UnknownIssuer)
    }

    /// Checks that the certificate `root` has signed the certificate `leaf`, and that `root` may sign certificates.
    fn signed(&self, leaf: &Certificate, root: &Certificate, now: UnixTime) -> Result<(), CertificateError> {
        is_in_time(root, now)?;
        // A version 1 certificate has no field for the right to sign, so accept it without this field.
        let constraints = root
            .tbs_certificate
            .get::<BasicConstraints>()
            .map_err(|_| CertificateError::BadEncoding)?;
        if root.tbs_certificate.extensions.is_some() && !constraints.is_some_and(|(_, constraints)| constraints.ca) {
            return Err(CertificateError::UnknownIssuer);
        }
        let announced = leaf
            .tbs_certificate
            .to_der()
            .map_err(|_| CertificateError::BadEncoding)?;
        let key = &root.tbs_certificate.subject_public_key_info;
        let signature = leaf.signature.as_bytes().ok_or(CertificateError::BadEncoding)?;
        let fits = |id: &[u8], algorithm: &AlgorithmIdentifierOwned| contents(algorithm).as_deref() == Some(id);
        let mut algorithms = self.algorithms.all.iter().filter(|algorithm| {
            fits(&algorithm.public_key_alg_id(), &key.algorithm)
                && fits(&algorithm.signature_alg_id(), &leaf.signature_algorithm)
        });
        let bits = key.subject_public_key.as_bytes().ok_or(CertificateError::BadEncoding)?;
        match algorithms.any(|algorithm| algorithm.verify_signature(bits, &announced, signature).is_ok()) {
            true => Ok(()),
            false => Err(CertificateError::BadSignature),
        }
    }

    /// Verifies a handshake signature with the public key of a certificate that webpki cannot parse.
    fn handshake(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = parse(certificate)?;
        let key = &certificate.tbs_certificate.subject_public_key_info;
        let bits = key.subject_public_key.as_bytes().ok_or(CertificateError::BadEncoding)?;
        let mapped = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme);
        let mut algorithms = mapped.iter().flat_map(|(_, algorithms)| algorithms.iter());
        let is_good = algorithms.any(|algorithm| {
            contents(&key.algorithm).as_deref() == Some(&algorithm.public_key_alg_id())
                && algorithm.verify_signature(bits, message, signed.signature()).is_ok()
        });
        match is_good {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.trust.check == Check::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        if let Err(error) = self.chain(end_entity, intermediates, server_name, now) {
            let is_webpkis_to_judge = self.trust.may_be_revoked
                || !matches!(
                    error,
                    Error::InvalidCertificate(
                        CertificateError::UnknownIssuer | CertificateError::BadEncoding | CertificateError::Other(_)
                    )
                );
            if is_webpkis_to_judge {
                return Err(error);
            }
            self.directly(end_entity, now)?;
        }
        if self.trust.check == Check::ChainAndName {
            is_made_out_to(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms).or_else(|_| self.handshake(message, cert, dss))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms).or_else(|error| match dss.scheme {
            // TLS 1.3 does not allow SHA-1 or PKCS#1 signatures.
            SignatureScheme::RSA_PKCS1_SHA1 | SignatureScheme::ECDSA_SHA1_Legacy => Err(error),
            SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512 => Err(error),
            _ => self.handshake(message, cert, dss),
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn parse(der: &CertificateDer<'_>) -> Result<Certificate, CertificateError> {
    Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)
}

/// The DER encoding of an algorithm identifier, without the outer SEQUENCE. rustls stores identifiers in this form.
fn contents(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let mut contents = algorithm.oid.to_der().ok()?;
    if let Some(parameters) = &algorithm.parameters {
        contents.extend(parameters.to_der().ok()?);
    }
    Some(contents)
}

fn is_in_time(certificate: &Certificate, now: UnixTime) -> Result<(), CertificateError> {
    let validity = &certificate.tbs_certificate.validity;
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        Err(CertificateError::NotValidYet)
    } else if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        Err(CertificateError::Expired)
    } else {
        Ok(())
    }
}

/// Checks that a certificate names the host. If the certificate has no subject alternative names, its common name
/// counts, as in libpq.
fn is_made_out_to(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let by_alternative = ParsedCertificate::try_from(certificate).and_then(|parsed| verify_server_name(&parsed, name));
    let Err(error) = by_alternative else { return Ok(()) };
    let certificate = parse(certificate)?;
    let alternatives = certificate
        .tbs_certificate
        .get::<SubjectAltName>()
        .map_err(|_| CertificateError::BadEncoding)?;
    let has_names = alternatives.is_some_and(|(_, names)| {
        let is_name = |name: &GeneralName| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_));
        names.0.iter().any(is_name)
    });
    let common = common_name(&certificate).filter(|_| !has_names);
    match common.is_some_and(|common| fits(&common, &name.to_str())) {
        true => Ok(()),
        false => match error {
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => Err(error),
            _ => Err(CertificateError::NotValidForName.into()),
        },
    }
}

fn common_name(certificate: &Certificate) -> Option<String> {
    let mut names = certificate
        .tbs_certificate
        .subject
        .0
        .iter()
        .flat_map(|names| names.0.iter());
    let common = names.rfind(|name| name.oid == CN)?;
    let text = Utf8StringRef::try_from(&common.value).map(|text| text.as_str().to_owned());
    let text = text.or_else(|_| PrintableStringRef::try_from(&common.value).map(|text| text.as_str().to_owned()));
    let text = text.or_else(|_| TeletexStringRef::try_from(&common.value).map(|text| text.as_str().to_owned()));
    text.ok()
}

/// Whether a certificate's name matches the host. The first label of the name may be a wildcard, as in `*.example.com`.
fn fits(name: &str, host: &str) -> bool {
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((_, rest))) => domain.contains('.') && domain.eq_ignore_ascii_case(rest),
        _ => name.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_part_of_a_name() {
        assert!(fits("DB.example.org", "db.example.org"));
        assert!(fits("*.example.org", "db.example.org"));
        for (name, host) in [
            ("*.example.org", "a.db.example.org"),
            ("*.example.org", "example.org"),
            ("*.org", "example.org"),
            ("*", "db"),
            ("db", "db.example.org"),
        ] {
            assert!(!fits(name, host), "{name} {host}");
        }
    }
}
