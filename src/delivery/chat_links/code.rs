//! Creates the codes by which a person links a chat to a store. A code is valid once. The database stores only the
//! SHA-256 hash of a code.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::Mode;
use crate::domain::event::StoreId;
use crate::infra::db::{Client, QueryError};

/// How long a code is valid.
pub const CODE_LIFE: Duration = Duration::from_secs(15 * 60);
/// The 32 characters that a code may contain. No two of them look alike.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// The length of a code, characters. Each character has 5 bits, so a code has 60 bits.
const CODE_CHARS: usize = 12;

/// A code that links one chat to a store. The code is valid once.
pub struct Code(String);

impl Code {
    fn generate() -> Result<Self, getrandom::Error> {
        let mut random = [0_u8; CODE_CHARS];
        getrandom::fill(&mut random)?;
        Ok(Self(
            random
                .iter()
                .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
                .collect(),
        ))
    }

    /// Returns the code as text. The operator sees this text only once.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Whether a text has the form of a code: its length and its characters.
pub fn looks_like_code(text: &str) -> bool {
    let is_of_it = |byte: u8| ALPHABET.contains(&byte.to_ascii_uppercase());
    text.len() == CODE_CHARS && text.bytes().all(is_of_it)
}

pub(super) fn hash(code: &str) -> [u8; 32] {
    Sha256::digest(code.trim().to_ascii_uppercase()).into()
}

/// The reason why a code could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// The database failed.
    #[error(transparent)]
    Failed(#[from] QueryError),
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Creates a code that links a chat to this store, with this mode and language. Also sets the store up, if it is not
/// set up yet.
pub async fn create_code(client: &mut Client, store: &StoreId, mode: Mode, language: &str) -> Result<Code, CodeError> {
    let code = Code::generate().map_err(CodeError::Random)?;
    let saved = async {
        let transaction = client.transaction().await?;
        let set_up = "insert into vestnik.vst_store (id) values ($1) on conflict do nothing";
        transaction.execute(set_up, &[&store.as_str()]).await?;
        transaction
            .execute("delete from vestnik.vst_link_code where expires_at < now()", &[])
            .await?;
        let insert = "insert into vestnik.vst_link_code (hash, store_id, mode, language, expires_at) \
             values ($1, $2, $3, $4, now() + make_interval(secs => $5))";
        let life = CODE_LIFE.as_secs_f64();
        let hash = hash(&code.0);
        transaction
            .execute(
                insert,
                &[&hash.as_slice(), &store.as_str(), &mode.as_str(), &language, &life],
            )
            .await?;
        transaction.commit().await
    };
    saved.await.map_err(QueryError::from)?;
    Ok(code)
}
