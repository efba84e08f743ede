//! The settings of JWTs that the platform's own issuer signs.

use std::path::PathBuf;

use super::load::Reading;

/// The trusted issuer.
#[derive(Debug, Clone)]
pub struct Jwt {
    /// The claim `iss`.
    pub issuer: String,
    /// The claim `aud`.
    pub audience: String,
    /// The source of its public keys.
    pub keys: JwtKeys,
    /// The accepted signature algorithms.
    pub algorithms: Vec<JwtAlgorithm>,
}

/// The source of a JWK set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// The path of the file that holds it.
    File(PathBuf),
    /// The URL from which it is fetched.
    Url(String),
}

/// A signature algorithm.
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
    /// All known algorithms.
    pub const ALL: [Self; 3] = [Self::EdDsa, Self::Es256, Self::Rs256];

    /// The name in a JWT header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    /// The algorithm with this name; `None` for an unknown name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

impl Reading {
    /// `None`: no issuer is configured.
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

/// Whether an address is plain http to this machine.
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
