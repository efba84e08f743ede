//! Tokens: each opens the streams of one store, of several, or of all. A token is 256 random bits, shown once; the
//! database has only its SHA-256, so a reader of the table can open nothing.

mod issuer;
mod jwt;
mod table;
mod tokens;
mod usage;

pub use issuer::Issuer;
pub use jwt::{Jwt, Refused};
pub use table::{Listed, New, Opens, Standing, Which, create, list, lives, prepare, revoke, rotate, standings};
pub use tokens::{LookUps, Looked, Tokens};
pub use usage::Usage;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::infra::db;

/// What every token begins with, so that a leaked one is recognised.
const PREFIX: &str = "vst_";
const SECRET_BYTES: usize = 32;
/// Characters of the secret in base64.
const SECRET_CHARS: usize = 43;
/// Characters of the secret that a log may show.
const SHOWN_CHARS: usize = 6;

/// Why tokens cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres says so, or is gone.
    #[error("tokens cannot be read or written: {}", db::reason(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// No connection was free, or could be made.
    #[error("no connection for tokens: {0}")]
    Pool(#[from] db::PoolError),
    /// Postgres is silent.
    #[error("tokens cannot be read: {0}")]
    Unanswered(#[from] db::Unanswered),
    /// Several look-ups of one statement failed together.
    #[error("{0}")]
    Shared(Arc<Error>),
    /// More look-ups wait than may.
    #[error("too many tokens wait to be looked up")]
    Busy,
    /// The public keys of the issuer of JWTs are not known.
    #[error("the keys of the issuer of JWTs (jwt.keys) could not be read")]
    NoKeys,
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// What the database keeps of a token: its SHA-256.
type Hash = [u8; 32];

/// A token itself. It has no `Debug` and is shown only where it was made.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new one.
    pub fn generate() -> Result<Self, Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(Error::Random)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret))))
    }

    /// From text of the right shape.
    pub fn parse(text: &str) -> Option<Self> {
        let secret = text
            .strip_prefix(PREFIX)
            .filter(|secret| secret.len() == SECRET_CHARS)?;
        URL_SAFE_NO_PAD.decode(secret).ok().map(|_| Self(text.to_owned()))
    }

    /// Whether a text begins with a token, or with what looks like one.
    pub fn begins(text: &str) -> bool {
        text.get(..PREFIX.len() + SECRET_CHARS)
            .is_some_and(|start| Self::parse(start).is_some())
    }

    /// The first characters of what was shown as a token: enough to find out whose it is, too few to use it.
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

    /// The text, to be shown once or sent in a header.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> Hash {
        Sha256::digest(&self.0).into()
    }
}

/// What a client shows to be let in.
#[derive(Clone)]
pub enum Presented {
    /// A token of our own.
    Token(Token),
    /// A JWT.
    Jwt(Jwt),
}

impl Presented {
    /// From text of one of their shapes.
    pub fn parse(text: &str) -> Option<Self> {
        let token = Token::parse(text).map(Self::Token);
        token.or_else(|| Jwt::parse(text).map(Self::Jwt))
    }

    /// Whether a text begins with one, or with what looks like one.
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

/// The number of a token, which may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub i64);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The stores that a token opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stores {
    /// Every store.
    All,
    /// These.
    These(Vec<String>),
}

impl Stores {
    /// Whether this store is one of them.
    pub fn have(&self, store: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(stores) => stores.iter().any(|opened| opened == store),
        }
    }
}

/// What the holder of a token may do: each one all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// See what happens and what stands: a screen.
    Read,
    /// Answer orders, and say what was shown and sounded: a panel.
    Panel,
    /// See who was reached, and the figures.
    Manager,
    /// Run the program.
    Operator,
}

impl Scope {
    /// From the one that may least.
    pub const ALL: [Self; 4] = [Self::Read, Self::Panel, Self::Manager, Self::Operator];

    /// Its name, everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Panel => "panel",
            Self::Manager => "manager",
            Self::Operator => "operator",
        }
    }

    /// The one that has this name; `None`: none has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// What a valid token allows.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whose.
    pub id: TokenId,
    /// What its maker called it.
    pub label: Option<Arc<str>>,
    /// What it opens.
    pub stores: Stores,
    /// What may be done there.
    pub scope: Scope,
    /// When its time is over, by Postgres' clock; `None`: never.
    pub ends: Option<Instant>,
}

/// Who holds a session, as the router knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// With this token.
    pub token: TokenId,
    /// Who may do this.
    pub scope: Scope,
    /// Until then.
    pub ends: Option<Instant>,
}

impl Grant {
    /// Its holder.
    pub fn holder(&self) -> Holder {
        Holder {
            token: self.id,
            scope: self.scope,
            ends: self.ends,
        }
    }

    /// Whether it opens this store.
    pub fn opens(&self, store: &str) -> bool {
        self.stores.have(store)
    }
}

/// What a look-up found.
#[derive(Debug, Clone)]
pub enum Found {
    /// A token that opens something.
    Valid(Arc<Grant>),
    /// Nothing.
    Unknown,
    /// A token whose time is over.
    Expired,
    /// A token that was revoked.
    Revoked,
    /// A JWT that is not to be believed.
    Refused(Refused),
}

impl Found {
    /// Why it opens nothing, as a metric's label; `None`: it does.
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

/// Why a token no longer opens what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawn {
    /// It was revoked, or its row is gone, or it opens other stores now.
    Revoked,
    /// Its time is over.
    Expired,
    /// It opens the same, to do something else there, or for another time.
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
