//! Tokens. A client presents a token to prove that it may use a store. A token gives access to ("opens") one store,
//! several stores, or all stores. A token has 256 random bits, and is shown only once. The database stores only the
//! SHA-256 of each token, so nobody who reads the table can use a token.

pub mod idempotency;
mod issuer;
mod jwt;
mod lookup;
mod table;
mod usage;

pub use issuer::Issuer;
pub use jwt::{Jwt, Refused};
pub use lookup::{LookUps, Looked, Tokens};
pub use table::{ListedToken, New, Opens, TokenState, Which, create, list, lives, prepare, revoke, rotate, states};
pub use usage::Usage;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::infra::db;

/// The prefix of each token. If a token leaks, people and secret scanners recognize it by this prefix.
const PREFIX: &str = "vst_";
const SECRET_BYTES: usize = 32;
/// The length of a token's secret (the part after the prefix) in base64, characters.
const SECRET_CHARS: usize = 43;
/// The number of characters of a token's secret that may appear in a log.
const SHOWN_CHARS: usize = 6;

/// The reason why tokens could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres reported an error, or the connection was lost.
    #[error("tokens cannot be read or written: {}", db::reason(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// No connection of the pool was free, and no new connection could be opened.
    #[error("no connection for tokens: {0}")]
    Pool(#[from] db::PoolError),
    /// Postgres did not respond in time.
    #[error("tokens cannot be read: {0}")]
    Unanswered(#[from] db::Unanswered),
    /// One SQL statement for several lookups failed. Each of these lookups gets this error.
    #[error("{0}")]
    Shared(Arc<Error>),
    /// Too many lookups are queued. The client may try again later.
    #[error("too many tokens wait to be looked up")]
    Busy,
    /// The public keys of the issuer of JWTs could not be read, so a JWT cannot be verified.
    #[error("the keys of the issuer of JWTs (jwt.keys) could not be read")]
    NoKeys,
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// The SHA-256 of a token or JWT. The database and the cache identify a token by its hash.
type Hash = [u8; 32];

/// A token in clear text. It is secret, so this type has no `Debug`. The token is shown only when it is created.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Generates a new token.
    pub fn generate() -> Result<Self, Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(Error::Random)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret))))
    }

    /// Parses a token. `None`: the text does not have the form of a token.
    pub fn parse(text: &str) -> Option<Self> {
        let secret = text
            .strip_prefix(PREFIX)
            .filter(|secret| secret.len() == SECRET_CHARS)?;
        URL_SAFE_NO_PAD.decode(secret).ok().map(|_| Self(text.to_owned()))
    }

    /// Whether the beginning of a text has the form of a token. More text may follow.
    pub fn begins(text: &str) -> bool {
        text.get(..PREFIX.len() + SECRET_CHARS)
            .is_some_and(|start| Self::parse(start).is_some())
    }

    /// Returns the first characters of a token's secret, for a log. They are enough to find the token, but not enough
    /// to use it. Empty: the text is not a token.
    pub fn beginning(text: &str) -> &str {
        let secret = text.strip_prefix(PREFIX).unwrap_or_default();
        let shown = secret.get(..SHOWN_CHARS.min(secret.len())).unwrap_or_default();
        match shown
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            true => shown,
            false => "",
        }
    }

    /// The token in clear text, to be shown once or sent in a header.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> Hash {
        Sha256::digest(&self.0).into()
    }
}

/// The credential that a client presents: a token or a JWT.
#[derive(Clone)]
pub enum Presented {
    /// A token that vestnik created.
    Token(Token),
    /// A JWT of the configured issuer.
    Jwt(Jwt),
}

impl Presented {
    /// Parses a token or a JWT. `None`: the text has neither form.
    pub fn parse(text: &str) -> Option<Self> {
        let token = Token::parse(text).map(Self::Token);
        token.or_else(|| Jwt::parse(text).map(Self::Jwt))
    }

    /// Whether the beginning of a text has the form of a token, or the whole text has the form of a JWT. This is how a
    /// token in a URL is found.
    pub fn begins(text: &str) -> bool {
        Token::begins(text) || Jwt::looks_like(text)
    }

    fn hash(&self) -> Hash {
        match self {
            Self::Token(token) => token.hash(),
            Self::Jwt(jwt) => jwt.hash(),
        }
    }
}

/// The id of a token's row in the database. It is not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub i64);

impl TokenId {
    /// The id of the token that this node uses for its self-test (canary). Other tokens have ids from 1 on.
    pub const CANARY: Self = Self(0);
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The stores that the holder of a token may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stores {
    /// Every store.
    All,
    /// Only these stores.
    These(Vec<String>),
}

impl Stores {
    /// Whether a token with these stores opens this store.
    pub fn have(&self, store: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(stores) => stores.iter().any(|opened| opened == store),
        }
    }
}

/// The permissions of a token's holder. Each scope includes the permissions of the scopes above it in this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The holder may read events and lists, for example on a display.
    Read,
    /// The holder may also change orders and send receipts, as a panel does.
    Panel,
    /// The holder may also read receipts and figures.
    Manager,
    /// The holder may also operate vestnik.
    Operator,
}

impl Scope {
    /// All scopes, the lowest first.
    pub const ALL: [Self; 4] = [Self::Read, Self::Panel, Self::Manager, Self::Operator];

    /// The scope's name in the database, in JWTs and in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Panel => "panel",
            Self::Manager => "manager",
            Self::Operator => "operator",
        }
    }

    /// The scope with this name. `None`: no scope has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// The rights that a valid token gives its holder.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The token's id.
    pub id: TokenId,
    /// The label of the token. `None`: the token has no label.
    pub label: Option<Arc<str>>,
    /// The stores that the token opens.
    pub stores: Stores,
    /// The permissions of the holder in these stores.
    pub scope: Scope,
    /// The time at which the token expires, computed from Postgres' clock. `None`: the token never expires.
    pub ends: Option<Instant>,
}

/// What the router must know about the token of a session. The router hands events to sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The id of the session's token.
    pub token: TokenId,
    /// The permissions of the holder.
    pub scope: Scope,
    /// The time at which the token expires. `None`: the token never expires.
    pub ends: Option<Instant>,
}

impl Grant {
    /// Returns the part of this grant that the router needs: the token's id, scope and expiry.
    pub fn holder(&self) -> Holder {
        Holder {
            token: self.id,
            scope: self.scope,
            ends: self.ends,
        }
    }

    /// Whether the token opens this store.
    pub fn opens(&self, store: &str) -> bool {
        self.stores.have(store)
    }
}

/// The result of a lookup of a token or JWT.
#[derive(Debug, Clone)]
pub enum TokenLookup {
    /// The token is valid.
    Valid(Arc<Grant>),
    /// The database has no such token.
    Unknown,
    /// The token has expired.
    Expired,
    /// The token was revoked.
    Revoked,
    /// The JWT is not accepted. The field is the reason.
    Refused(Refused),
}

impl TokenLookup {
    /// The reason why the token gives no access, as the value of a metric's label. `None`: the token is valid.
    pub fn why_not(&self) -> Option<&'static str> {
        match self {
            Self::Valid(_) => None,
            Self::Unknown => Some("unknown"),
            Self::Expired => Some("expired"),
            Self::Revoked => Some("revoked"),
            Self::Refused(why) => Some(why.as_str()),
        }
    }
}

/// The reason why a token that was valid gives no access any more, or gives other rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenInvalidated {
    /// The token was revoked, its row is deleted, or it does not open the session's store any more.
    Revoked,
    /// The token has expired.
    Expired,
    /// The scope or the expiry of the token has changed. The token still opens the store.
    Changed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_256_random_bits_behind_its_prefix() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(Token::parse(one.reveal()).unwrap().hash(), one.hash());
        for wrong in [
            "",
            "vst_",
            "vst_short",
            &one.reveal()[4..],
            &format!("{}x", one.reveal()),
        ] {
            assert!(Token::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_token_opens_its_stores_only() {
        let grant = |stores| Grant {
            id: TokenId(1),
            label: None,
            stores,
            scope: Scope::Panel,
            ends: None,
        };
        assert!(grant(Stores::All).opens("7"));
        assert!(grant(Stores::These(vec!["7".into()])).opens("7"));
        assert!(!grant(Stores::These(vec!["7".into()])).opens("77"));
    }

    #[test]
    fn a_scope_has_one_name_and_an_order() {
        for scope in Scope::ALL {
            assert_eq!(Scope::from_name(scope.as_str()), Some(scope));
        }
        assert!(Scope::ALL.is_sorted() && Scope::from_name("admin").is_none());
    }
}
