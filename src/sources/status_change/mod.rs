//! Changes the status of an order or booking when a person presses a button. An UPDATE writes the shop's word for the
//! new status into the shop's table. The UPDATE also checks the old status: if two people answer at once, only one of
//! them succeeds. A function, an API or SQL statements of the shop can replace the UPDATE.

mod answer_error;
mod current_order;
mod denied;
mod failure;
mod promise;
mod refusal;
pub(super) mod request;
mod shop_api;
mod step_back;
mod write;

use super::Sources;
use super::derived;
use crate::domain::event::StoreId;
use crate::domain::status::{Status, SubjectKind};
use crate::infra::db::{self, Pool, QueryError, Transaction};
use answer_error::{is_broken_statement, is_denied, is_locked};
use current_order::{CurrentOrder, find};
use refusal::{NO_ROW, PUT_BACK};
pub use request::{AnswerChannel, StatusChange};
use shop_api::Ask;
pub use shop_api::ShopApi;
use write::{call, earlier, is_put_back, note, update};

/// Maximum length of the shop's error message for a person, in characters.
const REFUSAL_CHARACTERS: usize = 200;
/// Number of a store's newest journal rows that are searched for the last change of an order.
const SCANNED_EVENTS: i64 = 2000;

/// The outcome of a person's request to change a status.
#[derive(Debug, Clone, PartialEq)]
pub enum StatusChangeOutcome {
    /// The status was changed.
    Done {
        /// The name of the order's source.
        source: String,
        /// The status of the order before the change.
        previous: Status,
    },
    /// The order already has the requested status.
    Already(CurrentStatus),
    /// The order no longer has the status that the person saw, or the shop's API is still processing another answer.
    Overtaken(CurrentStatus),
    /// The order cannot move from its current status to the requested status.
    NotAllowed(CurrentStatus),
    /// The shop's table, function or API rejected the change.
    Refused {
        /// The order's current state.
        current: CurrentStatus,
        /// The shop's error message for people; `None`: the shop gave no such message.
        message: Option<String>,
        /// The kind of database rule that rejected the change, as a text for people. `None`: no known kind of rule
        /// rejected it.
        rule: Option<&'static str>,
    },
    /// The change failed for a reason that only the operator can correct. Possible reasons: the role of `vestnik serve`
    /// lacks a right, the mapping's SQL statement is wrong, or the settings for the shop's API are wrong.
    Denied,
    /// The shop's API did not reply in time, or replied with a server error. It is unknown whether the order has
    /// changed.
    Unavailable(CurrentStatus),
    /// The shop's application holds the lock on the order's row, so nothing was changed. The person can press again.
    Locked,
    /// The shop has no word for the requested status.
    NoWord(CurrentStatus),
    /// Several sources have an order with this key. The request must name one of these sources. The value has their
    /// names.
    Ambiguous(Vec<String>),
    /// The store has no visible order with this key.
    Unknown,
}

/// The current state of an order, as shown to the person who requested a change of its status.
#[derive(Debug, Clone, PartialEq)]
pub struct CurrentStatus {
    /// The name of the order's source.
    pub source: String,
    /// The order's canonical status.
    pub status: Status,
    /// The shop's own status word if the mapping does not contain it; otherwise `None`.
    pub word: Option<String>,
    /// The name of the person who set the current status with a button; `None`: the status was not set with a button.
    pub by: Option<String>,
    /// Whether the order is to be delivered to the customer.
    pub is_delivered: bool,
}

/// SQL that limits how long the transaction waits for the lock on the shop's row. It also limits how long an idle
/// transaction holds the lock. Postgres enforces the limits even if this process hangs.
const LIMITS: &str =
    "select set_config('lock_timeout', '3s', true), set_config('idle_in_transaction_session_timeout', '5s', true)";

/// The result of the first database transaction of a request to change a status.
enum Step {
    /// The outcome of the request is known, and nothing is left to do.
    Over(StatusChangeOutcome),
    /// The transaction has reserved the order. The person's answer must now be sent to the shop's API.
    Ask(Box<Ask>),
}

impl Step {
    /// Whether the change failed because the order has another status than the requester knew, or no row any more.
    fn is_of_another_status(&self) -> bool {
        use StatusChangeOutcome::{Already, Overtaken, Refused, Unknown};
        match self {
            Self::Over(Already(_) | Overtaken(_) | Unknown) => true,
            Self::Over(Refused { rule, .. }) => *rule == Some(NO_ROW),
            Self::Over(_) | Self::Ask(_) => false,
        }
    }
}

impl From<StatusChangeOutcome> for Step {
    fn from(outcome: StatusChangeOutcome) -> Self {
        Self::Over(outcome)
    }
}

/// Changes the status of an order or booking. The change must be allowed from the current status, and the shop's table,
/// function or API must accept it. `turn` is the caller's permit to use the database, because only a limited number of
/// callers may use it at once. The permit is released before the shop's API is called, so that other requests do not
/// wait for a slow API.
pub async fn change_status<T>(
    pool: &Pool,
    sources: &Sources,
    shop_api: &ShopApi,
    change: &StatusChange<'_>,
    turn: T,
) -> Result<StatusChangeOutcome, QueryError> {
    let ask = match begin(pool, sources, change).await? {
        Step::Over(outcome) => return Ok(outcome),
        Step::Ask(ask) => ask,
    };
    drop(turn);
    shop_api.answer(pool, sources, change, *ask).await
}

async fn begin(pool: &Pool, sources: &Sources, change: &StatusChange<'_>) -> Result<Step, QueryError> {
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let mut transaction = client.transaction().await?;
        transaction.execute(LIMITS, &[]).await?;
        if let Some(outcome) = earlier(&transaction, change).await? {
            return Ok(outcome.into());
        }
        let found = find(
            &mut transaction,
            sources,
            change.store,
            change.kind,
            change.source,
            change.key,
        );
        let mut found = match found.await {
            Err(QueryError::Postgres(error)) if is_locked(&error) => {
                return Ok(failure::locked(change, None, &error).into());
            }
            // The row of the order cannot be read.
            Err(QueryError::Postgres(error)) if is_denied(&error) || is_broken_statement(&error) => {
                return Ok(StatusChangeOutcome::Denied.into());
            }
            found => found?,
        };
        if found.len() > 1 {
            let names = found
                .iter()
                .map(|current_order| current_order.source.name.to_string())
                .collect();
            return Ok(StatusChangeOutcome::Ambiguous(names).into());
        }
        let Some(current_order) = found.pop() else {
            return Ok(StatusChangeOutcome::Unknown.into());
        };
        let applied = match apply(&mut transaction, sources, &current_order, change).await {
            // Postgres may check a constraint of the shop only at commit, so the commit can still be rejected.
            Ok(step @ (Step::Over(StatusChangeOutcome::Done { .. }) | Step::Ask(_))) => {
                transaction.commit().await.map(|()| step).map_err(QueryError::from)
            }
            Ok(step) => {
                transaction.rollback().await?;
                if current_order.source.mapping.derived.is_some() && step.is_of_another_status() {
                    // Perhaps no client has received the other status, because no trigger has recorded the shop's
                    // change. So the projector computes the order.
                    let keys = [change.key.to_owned()];
                    let again = derived::project_again(&*client, current_order.source.id, &keys).await;
                    if let Err(error) = again {
                        tracing::debug!(%error, "an order with another status could not be computed again");
                    }
                }
                Ok(step)
            }
            Err(error) => {
                drop(transaction);
                Err(error)
            }
        };
        match applied {
            Err(QueryError::Postgres(error)) => {
                Ok(failure::outcome(&*client, &current_order, change, error).await?.into())
            }
            applied => applied,
        }
    })
    .await
}

/// The current state of an order; `None`: the store has no order with this key.
pub async fn current_status(
    pool: &Pool,
    sources: &Sources,
    store: &StoreId,
    kind: SubjectKind,
    source: Option<&str>,
    key: &str,
) -> Result<Option<CurrentStatus>, QueryError> {
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let mut transaction = client.transaction().await?;
        let mut found = find(&mut transaction, sources, store, kind, source, key).await?;
        Ok(found.pop().map(|current_order| current_order.current_status()))
    })
    .await
}

/// Changes the status in this transaction if the change is allowed. If the shop's API receives the answers, only
/// reserves the order for a request to the API.
async fn apply(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    current_order: &CurrentOrder<'_>,
    change: &StatusChange<'_>,
) -> Result<Step, QueryError> {
    let (now, to) = (current_order.subject.status, change.to);
    if current_order.subject.visible_status().is_none() {
        return Ok(StatusChangeOutcome::Unknown.into());
    }
    if promise::is_promise(current_order, change) {
        return match current_order.source.mapping.answer_url(to) {
            Some(url) => shop_api::reserve(transaction, sources, current_order, url, None, change).await,
            None => Ok(promise::promise(transaction, current_order, change).await?.into()),
        };
    }
    if now == to && current_order.subject.status_word.is_none() {
        return Ok(StatusChangeOutcome::Already(current_order.current_status()).into());
    }
    let expected = change.from.is_none_or(|from| from == now);
    let is_next = current_order.subject.next().contains(&to);
    let step_back = match expected && !is_next {
        true => step_back::find(transaction, sources, current_order, change).await?,
        false => None,
    };
    let may = expected && (is_next || step_back.is_some());
    let mapping = &current_order.source.mapping;
    // A function or API of the shop may accept a status that has no word in the mapping. It then receives Vestnik's
    // name of the status.
    let usual = mapping.answer.has_own_words().then(|| to.as_str());
    let word = mapping.status.word_of(to).or(usual);
    let lacks_word = word.is_none()
        && now
            .next(change.kind, current_order.subject.is_delivered())
            .contains(&to);
    let Some(word) = word.filter(|_| may) else {
        let current = current_order.current_status();
        return Ok(if lacks_word {
            StatusChangeOutcome::NoWord(current).into()
        } else if expected {
            StatusChangeOutcome::NotAllowed(current).into()
        } else {
            StatusChangeOutcome::Overtaken(current).into()
        });
    };
    if let Some(url) = mapping.answer_url(to) {
        return shop_api::reserve(transaction, sources, current_order, url, Some(word), change).await;
    }
    let changed = match (&mapping.derived, &mapping.answer.function) {
        (Some(derived), _) => {
            let from = current_order.word.as_deref().unwrap_or_default();
            super::derived::answer(transaction, current_order.source, derived, from, change).await?
        }
        (None, Some(function)) => call(transaction, function, word, change).await?,
        (None, None) => {
            let changed = update(transaction, current_order, word, step_back.as_ref(), change).await?;
            if changed && is_put_back(transaction, current_order, word, change).await? {
                return Ok(StatusChangeOutcome::Refused {
                    current: current_order.current_status(),
                    message: None,
                    rule: Some(PUT_BACK),
                }
                .into());
            }
            changed
        }
    };
    if !changed {
        return Ok(nothing_changed(transaction, sources, current_order, change)
            .await?
            .into());
    }
    note(transaction, current_order.source, now, change).await?;
    let source = current_order.source.name.to_string();
    Ok(StatusChangeOutcome::Done { source, previous: now }.into())
}

/// Finds out why a person's answer changed no row. Either another person has changed the order first, or the shop's
/// database skipped the row without an error. Row level security or a trigger can skip a row.
async fn nothing_changed(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    current_order: &CurrentOrder<'_>,
    change: &StatusChange<'_>,
) -> Result<StatusChangeOutcome, QueryError> {
    let source = Some(current_order.source.name.as_ref());
    let now = find(transaction, sources, change.store, change.kind, source, change.key)
        .await?
        .pop();
    Ok(match now {
        None => StatusChangeOutcome::Unknown,
        Some(now) if now.word == current_order.word => StatusChangeOutcome::Refused {
            current: now.current_status(),
            message: None,
            rule: Some(NO_ROW),
        },
        Some(now) if now.subject.status == change.to => StatusChangeOutcome::Already(now.current_status()),
        Some(now) => StatusChangeOutcome::Overtaken(now.current_status()),
    })
}
