//! An issuer of JWTs for tests: its private keys, its JWK set at an address or in a file, and the JWTs that it signs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use vestnik::infra::config::{Jwt, JwtAlgorithm, JwtKeys};

pub const ISSUER: &str = "https://id.example";
/// A private RSA key, PKCS #8 in base64. All tests share this key, because generating one takes seconds.
const RSA: &str = include_str!("rsa.pk8.base64");

/// A private key of the issuer; each variant is one algorithm.
pub enum Key {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Key {
    pub fn ed25519() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    pub fn p256() -> Self {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(kind, made.as_ref(), &random).unwrap())
    }

    pub fn rsa() -> Self {
        let text: String = RSA.split_whitespace().collect();
        Self::Rsa(RsaKeyPair::from_pkcs8(&STANDARD.decode(text).unwrap()).unwrap())
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    /// The public key as an entry of a JWK set, with `id` as its `kid`.
    pub fn public(&self, id: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encode(key.public_key().as_ref())})
            }
            Self::P256(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": encode(&point[1..33]), "y": encode(&point[33..])})
            }
            Self::Rsa(key) => {
                let public: ring::signature::RsaPublicKeyComponents<Vec<u8>> = key.public().into();
                json!({"kty": "RSA", "kid": id, "n": encode(&public.n), "e": encode(&public.e)})
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Self::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// Signs a header and claims, and returns the JWT.
    pub fn jwt(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes())))
    }

    /// Signs claims under a header that names this key's algorithm, the key's `id` and the type `JWT`.
    pub fn issue(&self, id: &str, claims: &Value) -> String {
        self.jwt(&json!({"alg": self.algorithm(), "kid": id, "typ": "JWT"}), claims)
    }
}

/// The header and the claims of a JWT, each in base64, joined by a dot: the part that a signature covers.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// The claims of a JWT for a panel of store 7. The JWT expires `seconds` from now.
pub fn claims(seconds: i64) -> Value {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    json!({"iss": ISSUER, "aud": "vestnik", "sub": "anna", "nbf": now - 1, "exp": now + seconds, "stores": ["7"], "scope": "panel"})
}

/// The settings of a node that accepts JWTs of [`ISSUER`].
pub fn believed(keys: JwtKeys) -> Option<Jwt> {
    Some(Jwt {
        issuer: ISSUER.into(),
        audience: "vestnik".into(),
        keys,
        algorithms: JwtAlgorithm::ALL.to_vec(),
    })
}

/// An HTTP server that answers every request with a JWK set.
pub struct KeySet {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl KeySet {
    pub async fn serve(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let set = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::default(),
            asked: Arc::default(),
        };
        set.set(keys);
        let (answer, asked) = (Arc::clone(&set.answer), Arc::clone(&set.asked));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 4096]).await;
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        set
    }

    pub fn url(&self) -> JwtKeys {
        JwtKeys::Url(format!("http://{}/keys", self.address))
    }

    /// Replaces the keys in the set.
    pub fn set(&self, keys: &[Value]) {
        self.answer_with("200 OK", &json!({ "keys": keys }).to_string());
    }

    /// Replaces the response: later requests get this status and body.
    pub fn answer_with(&self, status: &str, body: &str) {
        *self.answer.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }

    /// The number of connections that the server has answered.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}
