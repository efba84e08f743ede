//! Tokens: what opens the streams of one store, of several, or of all. 256 random bits, shown once; the database keeps
//! their SHA-256, so that whoever reads it can open nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;

use crate::db::{self, Client, Pool};

/// What every token begins with, so that a leaked one is recognised.
const PREFIX: &str = "vst_";
const SECRET_BYTES: usize = 32;
/// Characters of the secret in base64.
const SECRET_CHARS: usize = 43;

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
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

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

    /// The text, to be shown once or sent in a header.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
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

/// What a valid token allows.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whose.
    pub id: TokenId,
    /// What its maker called it.
    pub label: Option<Arc<str>>,
    /// What it opens.
    pub stores: Stores,
    /// When its time is over; `None`: never.
    pub expires_at: Option<OffsetDateTime>,
}

impl Grant {
    /// Whether it opens this store.
    pub fn opens(&self, store: &str) -> bool {
        match &self.stores {
            Stores::All => true,
            Stores::These(stores) => stores.iter().any(|opened| opened == store),
        }
    }
}

/// What a look-up found.
#[derive(Debug)]
pub enum Found {
    /// A token that opens something.
    Valid(Grant),
    /// Nothing.
    Unknown,
    /// A token whose time is over.
    Expired,
    /// A token that was revoked.
    Revoked,
}

/// Why a token opens nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawn {
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
}

/// Finds what a token allows.
pub async fn look_up(pool: &Pool, token: &Token) -> Result<Found, Error> {
    const LOOK_UP: &str = "select id, hash, label, stores, expires_at, revoked_at is not null, \
             coalesce(expires_at <= now(), false) from vestnik.vst_token where hash = $1";
    let hash = token.hash();
    let found = db::answered::<_, Error>(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(LOOK_UP).await?;
        Ok(client.query_opt(&statement, &[&hash.as_slice()]).await?)
    });
    let Some(row) = found.await? else {
        return Ok(Found::Unknown);
    };
    // The index has found it by an ordinary comparison of hashes, which tells an attacker nothing about the token;
    // what opens the door is compared in constant time all the same.
    if !bool::from(row.try_get::<_, &[u8]>(1)?.ct_eq(&hash)) {
        return Ok(Found::Unknown);
    }
    if row.try_get(5)? {
        return Ok(Found::Revoked);
    }
    if row.try_get(6)? {
        return Ok(Found::Expired);
    }
    Ok(Found::Valid(Grant {
        id: TokenId(row.try_get(0)?),
        label: row.try_get::<_, Option<&str>>(2)?.map(Into::into),
        stores: row
            .try_get::<_, Option<Vec<String>>>(3)?
            .map_or(Stores::All, Stores::These),
        expires_at: row.try_get(4)?,
    }))
}

/// Which of these tokens open nothing any more.
pub async fn withdrawn(pool: &Pool, tokens: &[TokenId]) -> Result<Vec<(TokenId, Withdrawn)>, Error> {
    const WITHDRAWN: &str = "select id, revoked_at is not null from vestnik.vst_token \
         where id = any ($1) and (revoked_at is not null or expires_at <= now())";
    let ids: Vec<i64> = tokens.iter().map(|token| token.0).collect();
    let rows = db::answered::<_, Error>(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(WITHDRAWN).await?;
        Ok(client.query(&statement, &[&ids]).await?)
    });
    let rows = rows.await?;
    let read = |row: &tokio_postgres::Row| {
        let why = if row.try_get(1)? {
            Withdrawn::Revoked
        } else {
            Withdrawn::Expired
        };
        Ok((TokenId(row.try_get(0)?), why))
    };
    rows.iter().map(read).collect()
}

/// Makes a token and stores its hash.
pub async fn create(
    client: &Client,
    stores: &Stores,
    label: Option<&str>,
    expires_in: Option<Duration>,
) -> Result<Token, Error> {
    const CREATE: &str = "insert into vestnik.vst_token (hash, stores, label, expires_at) \
         values ($1, $2, $3, now() + make_interval(secs => $4))";
    let token = Token::generate()?;
    let stores = match stores {
        Stores::All => None,
        Stores::These(stores) => Some(stores),
    };
    let seconds = expires_in.map(|expires_in| expires_in.as_secs_f64());
    client
        .execute(CREATE, &[&token.hash().as_slice(), &stores, &label, &seconds])
        .await?;
    Ok(token)
}

/// A token as a list shows it: everything but itself.
#[derive(Debug)]
pub struct Listed {
    /// Its number.
    pub id: TokenId,
    /// What its maker called it.
    pub label: Option<String>,
    /// What it opens.
    pub stores: Stores,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When its time is over.
    pub expires_at: Option<OffsetDateTime>,
    /// Why it opens nothing any more; `None`: it does.
    pub withdrawn: Option<Withdrawn>,
}

/// Every token, the oldest first.
pub async fn list(client: &Client) -> Result<Vec<Listed>, Error> {
    const LIST: &str = "select id, label, stores, created_at, expires_at, revoked_at is not null, \
             coalesce(expires_at <= now(), false) from vestnik.vst_token order by id";
    let rows = client.query(LIST, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        let (revoked, expired): (bool, bool) = (row.try_get(5)?, row.try_get(6)?);
        Ok(Listed {
            id: TokenId(row.try_get(0)?),
            label: row.try_get(1)?,
            stores: row
                .try_get::<_, Option<Vec<String>>>(2)?
                .map_or(Stores::All, Stores::These),
            created_at: row.try_get(3)?,
            expires_at: row.try_get(4)?,
            withdrawn: if revoked {
                Some(Withdrawn::Revoked)
            } else {
                expired.then_some(Withdrawn::Expired)
            },
        })
    };
    rows.iter().map(read).collect()
}

/// Which token to revoke.
#[derive(Debug, Clone)]
pub enum Which {
    /// By its number.
    Id(TokenId),
    /// All of this label.
    Label(String),
}

/// Revokes, and rings for it, in one statement: every node closes its sessions. The number of tokens that were valid.
pub async fn revoke(client: &Client, which: &Which) -> Result<u64, Error> {
    const REVOKE: &str = "with revoked as (update vestnik.vst_token set revoked_at = now() \
             where (id = $1 or label = $2) and revoked_at is null returning id) \
         select id, pg_notify('vestnik_token', id::text) from revoked";
    let (id, label) = match which {
        Which::Id(id) => (Some(id.0), None),
        Which::Label(label) => (None, Some(label)),
    };
    Ok(client.query(REVOKE, &[&id, &label]).await?.len() as u64)
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
            expires_at: None,
        };
        assert!(grant(Stores::All).opens("7"));
        assert!(grant(Stores::These(vec!["7".into()])).opens("7"));
        assert!(!grant(Stores::These(vec!["7".into()])).opens("77"));
    }
}
