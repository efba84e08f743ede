//! The trusted issuer of JWTs (JSON Web Tokens), and its public keys (a JWK set). The node reads the keys from a file
//! or a URL, and caches them. It reads them again at intervals, and when a JWT names an unknown key.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::jwt::{Claims, DecodedJwt, Jwt, Refused};
use crate::infra::config::{self, JwtAlgorithm as Algorithm};
use crate::infra::periodic::Periodic;
use crate::infra::telemetry::LogLimit;

/// If the issuer's keys are in a file, this is the time between two reads of the file.
const FILE_INTERVAL: Duration = Duration::from_secs(5);
/// If the issuer's keys are at a URL, this is the time between two requests for them.
const URL_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The shortest time between two requests for the keys, after a failure or because a JWT names an unknown key. So JWTs
/// with invented key names cannot cause many requests.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// The longest time for which cached keys are used if they cannot be read again. The limit exists because the issuer
/// may have withdrawn a key meanwhile.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The deadline of a request for the keys.
const FETCH_DEADLINE: Duration = Duration::from_secs(5);
/// Maximum size of a JWK set, bytes.
const MAX_SET_BYTES: usize = 256 * 1024;
/// Maximum number of keys that are used of a JWK set.
const MAX_KEYS: usize = 64;

/// The reason why the issuer's keys cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("{0}")]
    File(#[from] std::io::Error),
    #[error("{0}")]
    Fetch(String),
    #[error("it is larger than {MAX_SET_BYTES} bytes")]
    TooLarge,
    #[error("it is no JWK set: {0}")]
    NoSet(#[from] serde_json::Error),
    #[error("it has no key for jwt.algorithms")]
    NoKey,
}

/// A public key of the issuer. The type of the key determines the algorithm of signatures. The JWT cannot choose it.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl Key {
    fn algorithm(&self) -> Algorithm {
        match self.public {
            Public::Ed25519(_) => Algorithm::EdDsa,
            Public::P256(_) => Algorithm::Es256,
            Public::Rsa { .. } => Algorithm::Rs256,
        }
    }

    fn verifies(&self, parts: &DecodedJwt<'_>) -> bool {
        let (signed, signature) = (parts.signed.as_bytes(), parts.signature.as_slice());
        match &self.public {
            Public::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature),
            Public::P256(key) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(signed, signature),
            Public::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
        }
        .is_ok()
    }
}

/// A key in a JWK set, as JSON. Only public keys are used. A secret key (type `oct`) is ignored: this struct has no
/// field for its secret.
#[derive(Debug, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Jwk {
    fn key(self) -> Option<Key> {
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let of_length = |text: &Option<String>, length| bytes(text).filter(|bytes: &Vec<u8>| bytes.len() == length);
        let public = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => Public::Ed25519(of_length(&self.x, 32)?),
            ("EC", Some("P-256")) => Public::P256([vec![4], of_length(&self.x, 32)?, of_length(&self.y, 32)?].concat()),
            ("RSA", None) => Public::Rsa {
                n: bytes(&self.n)?,
                e: bytes(&self.e)?,
            },
            _ => return None,
        };
        let key = Key { id: self.kid, public };
        let is_ours = |alg: String| alg == key.algorithm().as_str();
        let fits = self.alg.is_none_or(is_ours) && self.used_for.is_none_or(|used_for| used_for == "sig");
        fits.then_some(key)
    }
}

/// Parses a JWK set (JSON). Returns its keys for the allowed algorithms, or an error if it has no such key.
fn keys(set: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, Unreadable> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(set)?;
    // Ignore a key that cannot be read, so that the other keys can be used.
    let read = |key| serde_json::from_value::<Jwk>(key).ok()?.key();
    let usable = |key: &Key| algorithms.contains(&key.algorithm());
    let keys: Vec<Key> = set
        .keys
        .into_iter()
        .filter_map(read)
        .filter(usable)
        .take(MAX_KEYS)
        .collect();
    match keys.is_empty() {
        true => Err(Unreadable::NoKey),
        false => Ok(keys),
    }
}

/// The cached keys of the issuer.
#[derive(Debug, Default)]
struct CachedKeys {
    keys: Arc<Vec<Key>>,
    read_at: Option<Instant>,
    /// Whether the last attempt to read the keys failed.
    is_stale: bool,
}

/// The trusted issuer of JWTs.
#[derive(Debug)]
pub struct Issuer {
    settings: config::Jwt,
    cached: RwLock<CachedKeys>,
    /// The time of the last attempt to read the keys. A task holds this lock during its attempt.
    tried_at: Mutex<Option<Instant>>,
    http: reqwest::Client,
}

impl Issuer {
    /// Creates the issuer from the settings, without reading its keys.
    pub fn new(settings: &config::Jwt) -> Self {
        let http = reqwest::Client::builder()
            .timeout(FETCH_DEADLINE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap_or_default();
        Self {
            settings: settings.clone(),
            cached: RwLock::default(),
            tried_at: Mutex::default(),
            http,
        }
    }

    /// Reads the keys at intervals, until the shutdown.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let interval = match &self.settings.keys {
            config::JwtKeys::File(_) => FILE_INTERVAL,
            config::JwtKeys::Url(_) => URL_INTERVAL,
        };
        let mut periodic = Periodic::now(interval, &stop);
        while periodic.next_run().await {
            let is_read = self.read(Duration::ZERO).await;
            if !is_read {
                periodic.set_next_pause(RETRY_INTERVAL.min(interval));
            }
        }
    }

    /// Verifies the signature, issuer and audience of a JWT. Returns its claims. The caller checks by Postgres' clock
    /// whether the JWT is valid now.
    pub(super) async fn verify(&self, jwt: &Jwt) -> Result<Claims, Refused> {
        let parts = jwt.parts()?;
        let algorithm = Algorithm::from_name(&parts.header.algorithm).ok_or(Refused::Algorithm)?;
        if !self.settings.algorithms.contains(&algorithm) {
            return Err(Refused::Algorithm);
        }
        let name = parts.header.key.as_deref();
        let mut verified = verify(&self.keys()?, algorithm, name, &parts);
        if verified == Err(Refused::UnknownKey) && self.read(RETRY_INTERVAL).await {
            // Try again with the new keys, because the issuer may have created the key a moment ago.
            verified = verify(&self.keys()?, algorithm, name, &parts);
        }
        if verified == Err(Refused::UnknownKey) && self.is_stale() {
            // The JWT may be signed by a new key, but the keys could not be read.
            return Err(Refused::NoKeys);
        }
        verified?;
        Claims::read(&parts.claims, &self.settings.issuer, &self.settings.audience)
    }

    fn is_stale(&self) -> bool {
        self.cached.read().unwrap_or_else(PoisonError::into_inner).is_stale
    }

    fn keys(&self) -> Result<Arc<Vec<Key>>, Refused> {
        let cached = self.cached.read().unwrap_or_else(PoisonError::into_inner);
        match cached.read_at {
            Some(read_at) if read_at.elapsed() < MAX_AGE => Ok(Arc::clone(&cached.keys)),
            // The cached keys were read more than `MAX_AGE` ago, or were never read.
            _ => Err(Refused::NoKeys),
        }
    }

    /// Reads the keys. Does nothing if the last attempt was less than `not_within` ago. Returns true if this task or
    /// another task has read the keys during this call.
    async fn read(&self, not_within: Duration) -> bool {
        let asked_at = Instant::now();
        let mut tried_at = self.tried_at.lock().await;
        let read_at = self.cached.read().unwrap_or_else(PoisonError::into_inner).read_at;
        if read_at.is_some_and(|read_at| read_at > asked_at) {
            // Another task has read the keys while this task waited for the lock.
            return true;
        }
        if tried_at.is_some_and(|tried_at| tried_at.elapsed() < not_within) {
            return false;
        }
        *tried_at = Some(Instant::now());
        let set = self.fetch().await;
        match set.and_then(|set| keys(&set, &self.settings.algorithms)) {
            Ok(keys) => {
                metrics::gauge!("vestnik_jwt_keys").set(keys.len() as f64);
                let mut cached = self.cached.write().unwrap_or_else(PoisonError::into_inner);
                *cached = CachedKeys {
                    keys: Arc::new(keys),
                    read_at: Some(Instant::now()),
                    is_stale: false,
                };
                true
            }
            Err(error) => {
                self.cached.write().unwrap_or_else(PoisonError::into_inner).is_stale = true;
                static LIMIT: LogLimit = LogLimit::new();
                metrics::counter!("vestnik_jwt_keys_unread_total").increment(1);
                if let Some(unlogged) = LIMIT.allows() {
                    tracing::warn!(%error, unlogged, "the keys of the issuer of JWTs (jwt.keys) could not be read; those that are known still count");
                }
                false
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<u8>, Unreadable> {
        match &self.settings.keys {
            config::JwtKeys::File(file) => {
                let set = tokio::fs::read(file).await?;
                match set.len() <= MAX_SET_BYTES {
                    true => Ok(set),
                    false => Err(Unreadable::TooLarge),
                }
            }
            config::JwtKeys::Url(url) => {
                // Remove the URL from the error, because it may contain a secret.
                let failed = |error: reqwest::Error| Unreadable::Fetch(error.without_url().to_string());
                let answer = self.http.get(url.clone()).send().await.map_err(failed)?;
                let mut answer = answer.error_for_status().map_err(failed)?;
                let mut set = Vec::new();
                while let Some(part) = answer.chunk().await.map_err(failed)? {
                    set.extend_from_slice(&part);
                    if set.len() > MAX_SET_BYTES {
                        return Err(Unreadable::TooLarge);
                    }
                }
                Ok(set)
            }
        }
    }
}

/// Verifies the signature of a JWT with one of these keys: the key with the name `name`. If the JWT names no key,
/// exactly one of the keys must be for the algorithm.
fn verify(keys: &[Key], algorithm: Algorithm, name: Option<&str>, parts: &DecodedJwt<'_>) -> Result<(), Refused> {
    let mut fitting = keys
        .iter()
        .filter(|key| key.algorithm() == algorithm && (name.is_none() || key.id.as_deref() == name));
    match (fitting.next(), fitting.next()) {
        (Some(key), None) if key.verifies(parts) => Ok(()),
        (Some(_), None) => Err(Refused::Signature),
        _ => Err(Refused::UnknownKey),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_jwk_set_only_what_can_verify_a_signature_is_kept() {
        let (x, n) = (URL_SAFE_NO_PAD.encode([7; 32]), URL_SAFE_NO_PAD.encode([0xf7; 256]));
        let set = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": x},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": x, "y": x, "use": "sig", "alg": "ES256"},
            {"kty": "RSA", "kid": "rsa", "n": n, "e": "AQAB", "alg": "RS256"},
            {"kty": "oct", "kid": "secret", "k": "AAAA"},
            {"kty": "RSA", "kid": "other", "n": n, "e": "AQAB", "alg": "RS512"},
            {"kty": "RSA", "kid": "encrypts", "n": n, "e": "AQAB", "use": "enc"},
            {"kty": "EC", "crv": "P-384", "kid": "long", "x": x, "y": x},
            {"kty": "OKP", "crv": "Ed25519", "kid": "short", "x": "AAAA"},
            {"nonsense": true}, 5,
        ]});
        let read = |algorithms: &[Algorithm]| keys(set.to_string().as_bytes(), algorithms);
        let ids: Vec<_> = read(&Algorithm::ALL)
            .unwrap()
            .into_iter()
            .filter_map(|key| key.id)
            .collect();
        assert_eq!(ids, ["ed", "ec", "rsa"]);
        let ids: Vec<_> = read(&[Algorithm::Es256])
            .unwrap()
            .into_iter()
            .filter_map(|key| key.id)
            .collect();
        assert_eq!(ids, ["ec"]);
        assert!(matches!(
            keys(br#"{"keys":[]}"#, &Algorithm::ALL),
            Err(Unreadable::NoKey)
        ));
        assert!(matches!(keys(b"<html>", &Algorithm::ALL), Err(Unreadable::NoSet(_))));
        let many = json!({"keys": vec![json!({"kty": "OKP", "crv": "Ed25519", "x": x}); 1000]});
        assert_eq!(
            keys(many.to_string().as_bytes(), &Algorithm::ALL).unwrap().len(),
            MAX_KEYS
        );
    }
}
