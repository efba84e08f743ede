//! Signs a POST request as Standard Webhooks (standardwebhooks.com) defines it. The signature covers the id, the time
//! and the body. Each secret gives one signature, and the receiver accepts the request if one signature is valid.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// The prefix of a secret that is written in base64. The decoded bytes are the signing key.
const PREFIX: &str = "whsec_";
/// The length of a generated key, in bytes.
const NEW_KEY_BYTES: usize = 32;
/// The minimum length of a secret that a person chooses, in bytes. The length of a base64 secret is the number of its
/// decoded bytes.
const SHORTEST: usize = 16;

/// The signing key of a secret. If the secret begins with `whsec_`, the key is the rest of its text, decoded from
/// base64. Otherwise the key is the bytes of the secret.
fn key(secret: &str) -> Vec<u8> {
    let decoded = secret.strip_prefix(PREFIX).and_then(|key| STANDARD.decode(key).ok());
    decoded.unwrap_or_else(|| secret.as_bytes().to_vec())
}

/// Whether a secret is long enough. If the secret begins with `whsec_`, the rest of its text must also be valid base64.
pub fn is_good(secret: &str) -> bool {
    match secret.strip_prefix(PREFIX) {
        Some(key) => STANDARD.decode(key).is_ok_and(|key| key.len() >= SHORTEST),
        None => secret.len() >= SHORTEST,
    }
}

/// Generates a secret with a random key. Fails if the operating system gives no random bytes.
pub fn generate() -> Result<String, getrandom::Error> {
    let mut key = [0_u8; NEW_KEY_BYTES];
    getrandom::fill(&mut key)?;
    Ok(format!("{PREFIX}{}", STANDARD.encode(key)))
}

/// The value of the header `webhook-signature`: one signature for each secret. `time` is in seconds since 1970.
pub fn header(secrets: &[&str], id: &str, time: i64, body: &str) -> String {
    let sign = |secret: &&str| {
        // HMAC accepts a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&key(secret)).ok()?;
        mac.update(format!("{id}.{time}.{body}").as_bytes());
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    };
    secrets.iter().filter_map(sign).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_standards_own_example() {
        // This example is from the documentation of Standard Webhooks.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let (id, time, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(header(&[secret], id, time, body), expected);
        let both = header(&[secret, "0123456789abcdef"], id, time, body);
        assert!(both.starts_with(&format!("{expected} v1,")), "{both}");
    }

    #[test]
    fn a_secret_without_its_prefix_is_its_own_bytes() {
        let (plain, standard) = ("0123456789abcdef", "whsec_MDEyMzQ1Njc4OWFiY2RlZg==");
        assert_eq!(header(&[plain], "1", 2, "{}"), header(&[standard], "1", 2, "{}"));
        assert!(is_good(plain) && is_good(standard) && is_good(&generate().unwrap()));
        for wrong in [
            "",
            "short",
            "whsec_",
            "whsec_not base64, but long enough",
            "whsec_c2hvcnQ=",
        ] {
            assert!(!is_good(wrong), "{wrong}");
        }
    }
}
