//! Parses JWTs (JSON Web Tokens) of the configured issuer. The claims of a JWT (its data) are used only after its
//! signature was verified.
//!
//! A JWT cannot choose how it is verified. The settings must allow its algorithm, and the algorithm must belong to the
//! type of the issuer's key. So a JWT with the algorithm `none` is refused, and a public key cannot be misused as a
//! shared secret. A JWT is also refused if its header contains a key or the address of a key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

use super::{Hash, Scope, Stores};

/// Maximum length of a JWT, bytes. A JWT must fit into the headers of an HTTP request.
pub const MAX_JWT_BYTES: usize = 8 * 1024;
/// The beginning of each JWT: `{"` in base64.
const BEGINNING: &str = "eyJ";
/// Maximum length of the claim `sub` (subject) of a JWT, characters. Other people see the subject as the name of the
/// JWT's holder.
const MAX_SUBJECT_CHARACTERS: usize = 100;

/// A JWT in its compact form. It is secret, so this type has no `Debug`, and a JWT is never shown.
#[derive(Clone)]
pub struct Jwt(String);

impl Jwt {
    /// Parses a JWT: three parts, separated by dots. `None`: the text does not have the form of a JWT.
    pub fn parse(text: &str) -> Option<Self> {
        Self::looks_like(text).then(|| Self(text.to_owned()))
    }

    /// Whether a text has the form of a JWT.
    pub fn looks_like(text: &str) -> bool {
        let is_part = |part: &str| {
            let mut letters = part.bytes();
            letters.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        text.len() <= MAX_JWT_BYTES
            && text.starts_with(BEGINNING)
            && text.split('.').count() == 3
            && text.split('.').all(is_part)
    }

    /// The SHA-256 of this JWT. The cache of lookups finds the JWT by this hash.
    pub(super) fn hash(&self) -> Hash {
        Sha256::digest(&self.0).into()
    }

    /// Decodes the parts of the JWT. The signature is not verified yet.
    pub(super) fn parts(&self) -> Result<DecodedJwt<'_>, Refused> {
        let (signed, signature) = self.0.rsplit_once('.').ok_or(Refused::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Refused::Malformed)?;
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Refused::Malformed)?;
        if header.brings_a_key() || header.critical.is_some() {
            return Err(Refused::Header);
        }
        let kind = header.kind.as_deref().unwrap_or("JWT");
        if !["JWT", "at+jwt"].iter().any(|known| known.eq_ignore_ascii_case(kind)) {
            return Err(Refused::Header);
        }
        Ok(DecodedJwt {
            header,
            claims: decode(claims)?,
            signed,
            signature: decode(signature)?,
        })
    }
}

/// The reason why a JWT is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No issuer of JWTs is configured.
    NoIssuer,
    /// The JWT cannot be decoded, or lacks a required claim.
    Malformed,
    /// The header contains a key or the address of a key, or names a type or extension that vestnik does not support.
    Header,
    /// The settings do not allow the algorithm.
    Algorithm,
    /// The issuer has no key with the name in the JWT's header, or several keys match.
    UnknownKey,
    /// The keys of the issuer could not be read.
    NoKeys,
    /// The signature does not match the key that the JWT names.
    Signature,
    /// The claims name another issuer than the configured one.
    Issuer,
    /// The claims name another audience than the configured one.
    Audience,
    /// The claims contain no known scope.
    Scope,
    /// The JWT is not valid yet.
    NotYet,
}

impl Refused {
    /// The name of the reason, for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoIssuer => "no_issuer",
            Self::Malformed => "malformed",
            Self::Header => "header",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::NoKeys => "no_keys",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Scope => "scope",
            Self::NotYet => "not_yet",
        }
    }
}

/// The decoded parts of a JWT. The signature is not verified yet.
pub(super) struct DecodedJwt<'a> {
    pub header: Header,
    pub claims: Vec<u8>,
    /// The text that is signed: the encoded header and claims.
    pub signed: &'a str,
    pub signature: Vec<u8>,
}

/// The header of a JWT. If the JSON of the header names one of these keys twice, the JWT is refused.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    #[serde(rename = "alg")]
    pub algorithm: String,
    #[serde(rename = "kid")]
    pub key: Option<String>,
    #[serde(rename = "typ")]
    kind: Option<String>,
    #[serde(rename = "crit")]
    critical: Option<IgnoredAny>,
    jku: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
}

impl Header {
    fn brings_a_key(&self) -> bool {
        [&self.jku, &self.jwk, &self.x5u, &self.x5c]
            .iter()
            .any(|key| key.is_some())
    }
}

/// The claims of a JWT, as its JSON has them.
#[derive(Debug, Deserialize)]
struct Raw {
    iss: String,
    #[serde(deserialize_with = "one_or_many")]
    aud: Vec<String>,
    exp: f64,
    nbf: f64,
    sub: Option<String>,
    #[serde(deserialize_with = "one_or_many")]
    stores: Vec<String>,
    scope: String,
}

/// The claims of a JWT from the configured issuer and for the configured audience. The times in the claims are checked
/// later, by Postgres' clock.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claims {
    pub issuer: String,
    pub subject: String,
    pub stores: Stores,
    pub scope: Scope,
    /// The time from which the JWT is valid, seconds since 1970. `expires` is the time until which the JWT is valid, in
    /// the same unit.
    pub not_before: f64,
    pub expires: f64,
}

impl Claims {
    /// Parses the claims, and checks their issuer, audience and scope. The caller must verify the signature first.
    pub fn read(claims: &[u8], issuer: &str, audience: &str) -> Result<Self, Refused> {
        let raw: Raw = serde_json::from_slice(claims).map_err(|_| Refused::Malformed)?;
        if raw.iss != issuer {
            return Err(Refused::Issuer);
        }
        if !raw.aud.iter().any(|named| named == audience) {
            return Err(Refused::Audience);
        }
        // An OAuth issuer writes several scopes in one text, separated by spaces. The highest scope counts.
        let scope = raw.scope.split(' ').filter_map(Scope::from_name).max();
        let subject = raw.sub.unwrap_or_default();
        Ok(Self {
            issuer: raw.iss,
            subject: subject
                .chars()
                .filter(|letter| !letter.is_control())
                .take(MAX_SUBJECT_CHARACTERS)
                .collect(),
            stores: match raw.stores.iter().any(|store| store == "*") {
                true => Stores::All,
                false => Stores::These(raw.stores),
            },
            scope: scope.ok_or(Refused::Scope)?,
            not_before: raw.nbf,
            expires: raw.exp,
        })
    }

    /// The SHA-256 of the claims `iss` (issuer) and `sub` (subject). It identifies the holder: the person or program
    /// that presents the JWT. All JWTs of one holder have the same hash.
    pub fn holder(&self) -> Hash {
        Sha256::digest(format!("jwt\0{}\0{}", self.issuer, self.subject)).into()
    }
}

/// Parses a value, or a list of values, as texts. A value may also be a number, because some issuers write ids as
/// numbers.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum One {
        Text(String),
        Number(i64),
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(One),
        Many(Vec<One>),
    }
    let text = |one| match one {
        One::Text(text) => text,
        One::Number(number) => number.to_string(),
    };
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![text(one)],
        OneOrMany::Many(many) => many.into_iter().map(text).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn jwt(header: &Value) -> Jwt {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        Jwt::parse(&format!("{}.{}.AAAA", encode(header), encode(&json!({})))).unwrap()
    }

    #[test]
    fn a_header_that_brings_a_key_or_asks_for_more_is_refused() {
        assert!(jwt(&json!({"alg": "EdDSA", "kid": "1", "typ": "JWT"})).parts().is_ok());
        assert!(jwt(&json!({"alg": "EdDSA", "typ": "at+jwt"})).parts().is_ok());
        for (name, value) in [
            ("jku", json!("https://evil.example/keys")),
            ("x5u", json!("https://evil.example/cert")),
            ("jwk", json!({"kty": "oct", "k": "AAAA"})),
            ("x5c", json!(["AAAA"])),
            ("crit", json!(["b64"])),
            ("typ", json!("logout+jwt")),
        ] {
            let mut header = json!({"alg": "EdDSA", "kid": "1"});
            header[name] = value;
            assert_eq!(jwt(&header).parts().err(), Some(Refused::Header), "{name}");
        }
        let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","alg":"none"}"#);
        let twice = Jwt::parse(&format!("{twice}.e30.AAAA")).unwrap();
        assert_eq!(twice.parts().err(), Some(Refused::Malformed));
    }

    fn claims(change: impl FnOnce(&mut Value)) -> Result<Claims, Refused> {
        let mut claims = json!({"iss": "https://id.example", "aud": "vestnik", "sub": "anna", "exp": 2000, "nbf": 1000,
            "stores": ["7", 8], "scope": "openid panel read"});
        change(&mut claims);
        Claims::read(claims.to_string().as_bytes(), "https://id.example", "vestnik")
    }

    #[test]
    fn claims_say_what_is_opened_and_what_is_missing_opens_nothing() {
        let read = claims(|_| ()).unwrap();
        assert_eq!(read.stores, Stores::These(vec!["7".into(), "8".into()]));
        assert_eq!(
            (read.scope, read.not_before, read.expires),
            (Scope::Panel, 1000.0, 2000.0)
        );
        assert_eq!(
            claims(|claims| claims["stores"] = json!("*")).unwrap().stores,
            Stores::All
        );
        assert!(claims(|claims| claims["aud"] = json!(["other", "vestnik"])).is_ok());
        for required in ["iss", "aud", "exp", "nbf", "stores", "scope"] {
            let without = claims(|claims| drop(claims.as_object_mut().unwrap().remove(required)));
            assert_eq!(without, Err(Refused::Malformed), "{required}");
        }
        for (name, value, why) in [
            ("iss", json!("https://evil.example"), Refused::Issuer),
            ("aud", json!("somebody"), Refused::Audience),
            ("aud", json!(["vestnik2"]), Refused::Audience),
            ("scope", json!("openid admin"), Refused::Scope),
            ("exp", json!("2000"), Refused::Malformed),
            ("nbf", json!(null), Refused::Malformed),
            ("stores", json!({"7": true}), Refused::Malformed),
        ] {
            assert_eq!(claims(|claims| claims[name] = value), Err(why), "{name}");
        }
    }

    #[test]
    fn a_holder_is_one_issuer_and_one_subject() {
        let of = |subject: &str| claims(|claims| claims["sub"] = json!(subject)).unwrap().holder();
        assert_eq!(of("anna"), of("anna"));
        assert_ne!(of("anna"), of("olga"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "eyJ[-A-Za-z0-9_]{0,40}\\.[-A-Za-z0-9_]{0,40}\\.[-A-Za-z0-9_]{0,40}", any in ".{0,60}") {
            if let Some(jwt) = Jwt::parse(&text) {
                let _ = jwt.parts();
            }
            let _ = (Jwt::parse(&any), Claims::read(any.as_bytes(), "i", "a"));
        }
    }
}
