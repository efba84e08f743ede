//! The settings of JWTs (JSON Web Tokens). Vestnik accepts a JWT in place of one of its own tokens if the configured
//! issuer has signed the JWT. The issuer is a login server, for example of the shop's platform.

use std::path::PathBuf;

use super::load::Reading;

/// The trusted issuer of JWTs, and the values that each of its JWTs must have.
#[derive(Debug, Clone)]
pub struct Jwt {
    /// The claim `iss` that a JWT must have.
    pub issuer: String,
    /// The claim `aud` that a JWT must have: the issuer's name for Vestnik.
    pub audience: String,
    /// The source of the issuer's public keys.
    pub keys: JwtKeys,
    /// The signature algorithms that are accepted.
    pub algorithms: Vec<JwtAlgorithm>,
}

/// The source of the issuer's public keys, which form a JWK set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// The path of a file that holds the JWK set.
    File(PathBuf),
    /// The URL from which the JWK set is fetched.
    Url(String),
}

/// A signature algorithm of JWTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// EdDSA, with Ed25519 keys only.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSA with SHA-256, PKCS#1 1.5, at least 2048 bits.
    Rs256,
}

impl JwtAlgorithm {
    /// All supported algorithms.
    pub const ALL: [Self; 3] = [Self::EdDsa, Self::Es256, Self::Rs256];

    /// The algorithm's name in a JWT's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    /// The algorithm with this name in a JWT's header; `None`: the algorithm is not supported.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

impl Reading {
    /// Reads the section `jwt`. `None`: no issuer is configured, so no JWT is accepted.
    pub(super) fn jwt(&mut self) -> Option<Jwt> {
        let (issuer, audience, keys) = (
            self.text("jwt.issuer"),
            self.text("jwt.audience"),
            self.text("jwt.keys"),
        );
        let algorithms = self.list(
            "jwt.algorithms",
            "of \"EdDSA\", \"ES256\" and \"RS256\" those that the issuer uses",
            JwtAlgorithm::from_name,
        );
        if issuer.is_empty() {
            return None;
        }
        for (name, is_missing, allowed) in [
            (
                "jwt.audience",
                audience.is_empty(),
                "needed as well: as the issuer names this program (`aud`)",
            ),
            (
                "jwt.keys",
                keys.is_empty(),
                "needed as well: the issuer's JWK set, a file or an https:// address",
            ),
            ("jwt.algorithms", algorithms.is_empty(), "one at least"),
        ] {
            if is_missing {
                self.complain_of(name, allowed);
            }
        }
        let keys = if keys.starts_with("https://") || is_of_this_machine(&keys) {
            JwtKeys::Url(keys)
        } else {
            if keys.contains("://") {
                let allowed = "a file, or an https:// address (http:// of this machine only): keys that somebody could change on \
                     their way prove nothing";
                self.complain_of("jwt.keys", allowed);
            }
            JwtKeys::File(keys.into())
        };
        Some(Jwt {
            issuer,
            audience,
            keys,
            algorithms,
        })
    }
}

/// Whether a URL is plain http to this machine. The issuer's keys may be fetched from such a URL without TLS, because
/// nobody on the network can change the response.
fn is_of_this_machine(url: &str) -> bool {
    let host = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split(['/', '?', '#']).next());
    host.is_some_and(|host| {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        matches!(name, "localhost" | "127.0.0.1" | "[::1]")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_called_without_tls() {
        for url in [
            "http://127.0.0.1:8080/keys",
            "http://localhost/keys",
            "http://[::1]:80/keys",
        ] {
            assert!(is_of_this_machine(url), "{url}");
        }
        for url in [
            "https://localhost/keys",
            "http://localhost.evil.example/keys",
            "http://localhost@evil.example/keys",
            "http://evil.example/?http://localhost",
            "/etc/keys.json",
        ] {
            assert!(!is_of_this_machine(url), "{url}");
        }
    }
}
