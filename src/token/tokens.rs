//! Looks tokens up for the requests of a node: many in one statement, and what was found is kept for seconds. So a flood
//! of made-up tokens costs Postgres a statement now and then, and a panel that comes back often none.

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
use super::{Error, Found, Grant, Hash, Issuer, Jwt, Presented, Refused, Stores, Usage};

/// For how long an answer is kept where a notification says that a token has changed.
const KEPT: Duration = Duration::from_secs(5);
/// The same where none reaches this node.
const KEPT_UNNOTIFIED: Duration = Duration::from_secs(1);
/// Good tokens that are kept.
const MAX_VALID: usize = 50_000;
/// Other ones that are kept: a forgotten device asks again and again with the same one.
const MAX_REFUSED: usize = 10_000;
/// Look-ups that may wait; a further one is told to come back.
const QUEUE_LOOK_UPS: usize = 8192;
/// Look-ups of one statement.
const BATCH_LOOK_UPS: usize = 256;
/// Statements at once.
const BATCHES_AT_ONCE: usize = 2;

/// What was looked up, and in which state of the tokens.
#[derive(Debug, Clone)]
pub struct Looked {
    /// What was found.
    pub found: Found,
    /// When nothing has been forgotten since, it is still so.
    pub generation: u64,
}

/// Answers what tokens open.
pub struct Tokens {
    questions: mpsc::Sender<Question>,
    cache: Mutex<Cache>,
    is_notified: Box<dyn Fn() -> bool + Send + Sync>,
    usage: Arc<Usage>,
    issuer: Option<Arc<Issuer>>,
    pool: Pool,
}

/// Asks Postgres on their behalf.
pub struct LookUps {
    questions: mpsc::Receiver<Question>,
    pool: Pool,
}

struct Question {
    hash: Hash,
    answer: oneshot::Sender<Result<Found, Arc<Error>>>,
}

#[derive(Default)]
struct Cache {
    valid: HashMap<Hash, (Found, Instant)>,
    refused: HashMap<Hash, (Found, Instant)>,
    generation: u64,
}

impl Tokens {
    /// For one database. `is_notified`: whether a notification would reach [`Tokens::forget`]; `issuer`: whose JWTs are
    /// believed.
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
        };
        (tokens, look_ups)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a token or JWT opens: as it was found within the last seconds, or as Postgres says.
    pub async fn look_up(&self, presented: &Presented) -> Result<Looked, Error> {
        let hash = presented.hash();
        let (kept, generation) = {
            let cache = self.cache();
            (cache.get(&hash, Instant::now()), cache.generation)
        };
        let found = match (kept, presented) {
            (Some(found), _) => found,
            (None, Presented::Token(_)) => {
                let found = self.ask(hash).await?;
                self.keep(hash, &found, generation);
                found
            }
            (None, Presented::Jwt(jwt)) => {
                let found = match self.verify(jwt).await {
                    Ok(claims) => self.found_of(&claims).await?,
                    // It may be a good one: its holder comes back.
                    Err(Refused::NoKeys) => return Err(Error::NoKeys),
                    Err(why) => Found::Refused(why),
                };
                self.keep(hash, &found, generation);
                found
            }
        };
        if let Found::Valid(grant) = &found {
            self.usage.note(grant.id);
        }
        Ok(Looked { found, generation })
    }

    /// The stores that a JWT opens, if it is of our issuer's, and for us: no database is asked for it.
    pub async fn prove(&self, jwt: &Jwt) -> Result<Stores, Refused> {
        Ok(self.verify(jwt).await?.stores)
    }

    async fn verify(&self, jwt: &Jwt) -> Result<Claims, Refused> {
        match &self.issuer {
            Some(issuer) => issuer.verify(jwt).await,
            None => Err(Refused::NoIssuer),
        }
    }

    async fn found_of(&self, claims: &Claims) -> Result<Found, Error> {
        let holder = holder(&self.pool, claims).await?;
        if holder.is_revoked {
            return Ok(Found::Revoked);
        }
        if holder.is_early {
            return Ok(Found::Refused(Refused::NotYet));
        }
        let (Some(id), Some(ends)) = (holder.id, holder.ends) else {
            return Ok(Found::Expired);
        };
        Ok(Found::Valid(Arc::new(Grant {
            id,
            label: Some(claims.subject.as_str())
                .filter(|subject| !subject.is_empty())
                .map(Into::into),
            stores: claims.stores.clone(),
            scope: claims.scope,
            ends: Some(ends),
        })))
    }

    async fn ask(&self, hash: Hash) -> Result<Found, Error> {
        let (answer, answered) = oneshot::channel();
        let question = Question { hash, answer };
        self.questions.try_send(question).map_err(|_| Error::Busy)?;
        answered.await.map_err(|_| Error::Busy)?.map_err(Error::Shared)
    }

    /// Keeps an answer, unless something was changed while it was on its way.
    fn keep(&self, hash: Hash, found: &Found, generation: u64) {
        let kept = if (self.is_notified)() { KEPT } else { KEPT_UNNOTIFIED };
        let now = Instant::now();
        let mut cache = self.cache();
        if cache.generation != generation {
            return;
        }
        let (until, most) = match found {
            Found::Valid(grant) => (grant.ends.map_or(now + kept, |ends| ends.min(now + kept)), MAX_VALID),
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

    /// Tokens have changed: everything is looked up anew.
    pub fn forget(&self) {
        let mut cache = self.cache();
        cache.valid.clear();
        cache.refused.clear();
        cache.generation += 1;
    }

    /// In which state of the tokens we are: it changes when they do.
    pub fn generation(&self) -> u64 {
        self.cache().generation
    }
}

impl Cache {
    fn get(&self, hash: &Hash, now: Instant) -> Option<Found> {
        let (found, until) = self.valid.get(hash).or_else(|| self.refused.get(hash))?;
        (*until > now).then(|| found.clone())
    }

    fn answers_like(&mut self, found: &Found) -> &mut HashMap<Hash, (Found, Instant)> {
        match found {
            Found::Valid(_) => &mut self.valid,
            _ => &mut self.refused,
        }
    }
}

impl LookUps {
    /// Asks until the shutdown.
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
                let found = found.map_or(Found::Unknown, |row| row.found.clone());
                // Whoever asked may be gone.
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
