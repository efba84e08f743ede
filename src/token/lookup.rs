//! Looks up the tokens of requests. One SQL statement looks up many tokens, and the results are cached for a few
//! seconds. So many invented tokens cause only few statements, and a panel that reconnects often causes none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::infra::db::Pool;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::jwt::Claims;
use super::table::{find, holder};
use super::{Error, Grant, Hash, Issuer, Jwt, Presented, Refused, Scope, Stores, Token, TokenId, TokenLookup, Usage};
use crate::domain::event::StoreId;

/// How long a result stays in the cache while Postgres notifies this node of changed tokens.
const KEPT: Duration = Duration::from_secs(5);
/// How long a result stays in the cache while Postgres cannot notify this node of changed tokens.
const KEPT_UNNOTIFIED: Duration = Duration::from_secs(1);
/// Maximum number of valid tokens in the cache.
const MAX_VALID: usize = 50_000;
/// Maximum number of invalid tokens in the cache. They are cached because a device with an invalid token presents it
/// again and again.
const MAX_REFUSED: usize = 10_000;
/// Maximum number of queued lookups. If the queue is full, a lookup fails, and the client must try again later.
const QUEUE_LOOK_UPS: usize = 8192;
/// Maximum number of lookups in one SQL statement.
const BATCH_LOOK_UPS: usize = 256;
/// Maximum number of SQL statements for lookups at the same time.
const BATCHES_AT_ONCE: usize = 2;

/// The result of a lookup, and the generation of the cache at the time of the lookup. The generation is a number that
/// changes whenever the cache is cleared.
#[derive(Debug, Clone)]
pub struct Looked {
    /// The rights of the token, or the reason why it is not valid.
    pub found: TokenLookup,
    /// The generation of the cache at the time of the lookup. The result is valid while [`Tokens::generation`] returns
    /// this number.
    pub generation: u64,
}

/// Looks up the tokens of one database, and caches the results.
pub struct Tokens {
    questions: mpsc::Sender<Question>,
    cache: Mutex<Cache>,
    is_notified: Box<dyn Fn() -> bool + Send + Sync>,
    usage: Arc<Usage>,
    issuer: Option<Arc<Issuer>>,
    pool: Pool,
    /// The token of this node's self-test (canary): its hash and its rights. It is only in memory, and not in the table
    /// of tokens.
    canary: Option<(Hash, TokenLookup)>,
}

/// The task that executes queued lookups in Postgres.
pub struct LookUps {
    questions: mpsc::Receiver<Question>,
    pool: Pool,
}

struct Question {
    hash: Hash,
    answer: oneshot::Sender<Result<TokenLookup, Arc<Error>>>,
}

#[derive(Default)]
struct Cache {
    valid: HashMap<Hash, (TokenLookup, Instant)>,
    refused: HashMap<Hash, (TokenLookup, Instant)>,
    generation: u64,
}

impl Tokens {
    /// Creates [`Tokens`] for one database, and the task that executes its queued lookups. `is_notified` returns
    /// whether Postgres can notify this node of changed tokens now. After each such notification, the caller must call
    /// [`Tokens::clear_cache`]. `issuer` is the trusted issuer of JWTs. `None`: all JWTs are refused.
    pub fn new(
        pool: Pool,
        is_notified: impl Fn() -> bool + Send + Sync + 'static,
        usage: Arc<Usage>,
        issuer: Option<Arc<Issuer>>,
    ) -> (Self, LookUps) {
        let (sender, receiver) = mpsc::channel(QUEUE_LOOK_UPS);
        let look_ups = LookUps {
            questions: receiver,
            pool: pool.clone(),
        };
        let tokens = Self {
            questions: sender,
            cache: Mutex::default(),
            is_notified: Box::new(is_notified),
            usage,
            issuer,
            pool,
            canary: None,
        };
        (tokens, look_ups)
    }

    /// Adds the token of this node's self-test (canary). Only this node accepts it, and only for the store of the
    /// self-test.
    pub fn with_canary(self, token: &Token, store: &StoreId) -> Self {
        let grant = Grant {
            id: TokenId::CANARY,
            label: None,
            stores: Stores::These(vec![store.as_str().to_owned()]),
            scope: Scope::Read,
            ends: None,
        };
        Self {
            canary: Some((token.hash(), TokenLookup::Valid(Arc::new(grant)))),
            ..self
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up a token or JWT in the cache, otherwise in Postgres. Returns its rights, or why it is invalid. Records
    /// the use of a valid token.
    pub async fn look_up(&self, presented: &Presented) -> Result<Looked, Error> {
        let hash = presented.hash();
        let (kept, generation) = {
            let cache = self.cache();
            (cache.get(&hash, Instant::now()), cache.generation)
        };
        if let Some((_, found)) = self.canary.as_ref().filter(|(canary, _)| *canary == hash) {
            let found = found.clone();
            return Ok(Looked { found, generation });
        }
        let found = match (kept, presented) {
            (Some(found), _) => found,
            (None, Presented::Token(_)) => {
                let found = self.ask(hash).await?;
                self.keep(hash, &found, generation);
                found
            }
            (None, Presented::Jwt(jwt)) => {
                let found = match self.claims_of(jwt).await {
                    Ok(claims) => self.found_of(&claims).await?,
                    // The issuer's keys could not be read. Do not cache this, because the JWT may be valid.
                    Err(Refused::NoKeys) => return Err(Error::NoKeys),
                    Err(why) => TokenLookup::Refused(why),
                };
                self.keep(hash, &found, generation);
                found
            }
        };
        if let TokenLookup::Valid(grant) = &found {
            self.usage.note(grant.id);
        }
        Ok(Looked { found, generation })
    }

    /// Verifies a JWT without the database, and returns the stores that it opens. Does not check whether the JWT is
    /// valid now.
    pub async fn verify(&self, jwt: &Jwt) -> Result<Stores, Refused> {
        Ok(self.claims_of(jwt).await?.stores)
    }

    async fn claims_of(&self, jwt: &Jwt) -> Result<Claims, Refused> {
        match &self.issuer {
            Some(issuer) => issuer.verify(jwt).await,
            None => Err(Refused::NoIssuer),
        }
    }

    async fn found_of(&self, claims: &Claims) -> Result<TokenLookup, Error> {
        let holder = holder(&self.pool, claims).await?;
        if holder.is_revoked {
            return Ok(TokenLookup::Revoked);
        }
        if holder.is_early {
            return Ok(TokenLookup::Refused(Refused::NotYet));
        }
        let (Some(id), Some(ends)) = (holder.id, holder.ends) else {
            return Ok(TokenLookup::Expired);
        };
        Ok(TokenLookup::Valid(Arc::new(Grant {
            id,
            label: Some(claims.subject.as_str())
                .filter(|subject| !subject.is_empty())
                .map(Into::into),
            stores: claims.stores.clone(),
            scope: claims.scope,
            ends: Some(ends),
        })))
    }

    async fn ask(&self, hash: Hash) -> Result<TokenLookup, Error> {
        let (answer, answered) = oneshot::channel();
        let question = Question { hash, answer };
        self.questions.try_send(question).map_err(|_| Error::Busy)?;
        answered.await.map_err(|_| Error::Busy)?.map_err(Error::Shared)
    }

    /// Caches the result of a lookup, unless tokens have changed since the lookup began.
    fn keep(&self, hash: Hash, found: &TokenLookup, generation: u64) {
        let kept = if (self.is_notified)() { KEPT } else { KEPT_UNNOTIFIED };
        let now = Instant::now();
        let mut cache = self.cache();
        if cache.generation != generation {
            return;
        }
        let (until, most) = match found {
            TokenLookup::Valid(grant) => (grant.ends.map_or(now + kept, |ends| ends.min(now + kept)), MAX_VALID),
            _ => (now + kept, MAX_REFUSED),
        };
        let answers = cache.answers_like(found);
        if answers.len() >= most {
            answers.retain(|_, (_, until)| *until > now);
        }
        if answers.len() < most {
            answers.insert(hash, (found.clone(), until));
        }
    }

    /// Clears the cache, because tokens have changed.
    pub fn clear_cache(&self) {
        let mut cache = self.cache();
        cache.valid.clear();
        cache.refused.clear();
        cache.generation += 1;
    }

    /// The generation of the cache. The number changes whenever the cache is cleared.
    pub fn generation(&self) -> u64 {
        self.cache().generation
    }
}

impl Cache {
    fn get(&self, hash: &Hash, now: Instant) -> Option<TokenLookup> {
        let (found, until) = self.valid.get(hash).or_else(|| self.refused.get(hash))?;
        (*until > now).then(|| found.clone())
    }

    fn answers_like(&mut self, found: &TokenLookup) -> &mut HashMap<Hash, (TokenLookup, Instant)> {
        match found {
            TokenLookup::Valid(_) => &mut self.valid,
            _ => &mut self.refused,
        }
    }
}

impl LookUps {
    /// Runs the queued lookups until the shutdown.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut asking = FuturesUnordered::new();
        let mut batch = Vec::with_capacity(BATCH_LOOK_UPS);
        loop {
            tokio::select! {
                taken = self.questions.recv_many(&mut batch, BATCH_LOOK_UPS), if asking.len() < BATCHES_AT_ONCE => {
                    if taken == 0 {
                        return;
                    }
                    asking.push(ask(self.pool.clone(), std::mem::take(&mut batch)));
                }
                Some(()) = asking.next() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

async fn ask(pool: Pool, questions: Vec<Question>) {
    let hashes: Vec<&[u8]> = questions.iter().map(|question| question.hash.as_slice()).collect();
    match find(&pool, &hashes).await {
        Ok(rows) => {
            for question in questions {
                let found = rows.iter().find(|row| row.is_of(&question.hash));
                let found = found.map_or(TokenLookup::Unknown, |row| row.found.clone());
                // Ignore an error of `send`: it means that the caller no longer waits for the result.
                let _ = question.answer.send(Ok(found));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for question in questions {
                let _ = question.answer.send(Err(Arc::clone(&error)));
            }
        }
    }
}
