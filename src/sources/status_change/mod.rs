//! Changes the status of an order or booking for a person who pressed a button, in the shop's own table and words, and
//! saves who it was. One statement checks the step and makes it, so of two people one is first.

mod promise;
mod standing;
mod write;

use std::time::Duration;

use crate::infra::db::GenericClient;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::access;
use super::catalog::Table;
use super::changes::Lookups;
use super::{Source, Sources};
use crate::domain::event::StoreId;
use crate::domain::status::{Status, SubjectKind};
use crate::infra::db::{self, Pool, QueryError, Transaction};
use crate::journal;
use crate::token::TokenId;
use standing::{Standing, find};
use write::{call, note, update};

/// Characters of the shop's own refusal that a person is shown.
const REFUSAL_CHARACTERS: usize = 200;
/// The newest events of a store among which the last change of an order is looked for.
const SCANNED_EVENTS: i64 = 2000;

/// By which way somebody answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A panel's button.
    Panel,
    /// A button below a message.
    Telegram,
}

impl Way {
    fn as_str(self) -> &'static str {
        match self {
            Self::Panel => "panel",
            Self::Telegram => "telegram",
        }
    }
}

/// What somebody wants.
#[derive(Debug)]
pub struct StatusChange<'a> {
    /// Whose order.
    pub store: &'a StoreId,
    /// Order or booking.
    pub kind: SubjectKind,
    /// The source that it is in; `None`: whichever has it.
    pub source: Option<&'a str>,
    /// Its key, as text.
    pub key: &'a str,
    /// What it should become.
    pub to: Status,
    /// What who wants it believes it to be; where it is not, somebody was first.
    pub from: Option<Status>,
    /// Why, where the table has a column for it.
    pub reason: Option<&'a str>,
    /// How long the preparation will take, as somebody promised, minutes.
    pub minutes: Option<i32>,
    /// Who wants it, as others are told.
    pub by: &'a str,
    /// Whose token it is, where it is a panel's.
    pub token: Option<TokenId>,
    /// From where.
    pub way: Way,
    /// For how long after a step it may be taken back.
    pub step_back: Duration,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub enum StatusChangeOutcome {
    /// Done.
    Done {
        /// The source that it is in.
        source: String,
        /// What it was.
        previous: Status,
    },
    /// It is so already.
    Already(CurrentStatus),
    /// There is no way from where it stands to there.
    NotAllowed(CurrentStatus),
    /// The shop's own table does not take it.
    Refused {
        /// Where it stands.
        current: CurrentStatus,
        /// The shop's own words; `None`: it said nothing for people.
        message: Option<String>,
    },
    /// The role of `vestnik serve` lacks a right: the operator's fault, and nobody else's.
    Denied(CurrentStatus),
    /// The shop has no word for this status.
    NoWord(CurrentStatus),
    /// Several sources have an order of this key: say which is meant.
    Ambiguous(Vec<String>),
    /// The store has no such order.
    Unknown,
}

/// Where an order stands.
#[derive(Debug, Clone, PartialEq)]
pub struct CurrentStatus {
    /// The source that it is in.
    pub source: String,
    /// Its canonical status.
    pub status: Status,
    /// The shop's own word, where no mapping knows it.
    pub word: Option<String>,
    /// Who brought it there, where it was done by a button.
    pub by: Option<String>,
    /// Whether it goes to its customer.
    pub is_delivered: bool,
}

/// The row is the shop's. We wait for it no longer than a person waits for a button, and hold it no longer than that,
/// though this process were stopped while it does.
const LIMITS: &str =
    "select set_config('lock_timeout', '3s', true), set_config('idle_in_transaction_session_timeout', '5s', true)";

/// Changes the status, if that is allowed from where it stands, and the shop's own table takes it.
pub async fn change_status(
    pool: &Pool,
    sources: &Sources,
    change: &StatusChange<'_>,
) -> Result<StatusChangeOutcome, QueryError> {
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let mut transaction = client.transaction().await?;
        transaction.execute(LIMITS, &[]).await?;
        let mut found = find(
            &mut transaction,
            sources,
            change.store,
            change.kind,
            change.source,
            change.key,
        )
        .await?;
        if found.len() > 1 {
            let names = found.iter().map(|standing| standing.source.name.to_string()).collect();
            return Ok(StatusChangeOutcome::Ambiguous(names));
        }
        let Some(standing) = found.pop() else {
            return Ok(StatusChangeOutcome::Unknown);
        };
        let applied = match apply(&mut transaction, sources, &standing, change).await {
            // A constraint of the shop's may be checked at the end.
            Ok(outcome @ StatusChangeOutcome::Done { .. }) => {
                transaction.commit().await.map(|()| outcome).map_err(QueryError::from)
            }
            Ok(outcome) => transaction.rollback().await.map(|()| outcome).map_err(QueryError::from),
            Err(error) => {
                drop(transaction);
                Err(error)
            }
        };
        match applied {
            Err(QueryError::Postgres(error)) if is_denied(&error) => {
                report_denied(&*client, standing.source, &error).await;
                Ok(StatusChangeOutcome::Denied(standing.current()))
            }
            Err(QueryError::Postgres(error)) if is_refusal(&error) => {
                tracing::info!(
                    error = db::reason(&error),
                    "the shop's table refused a change of status"
                );
                Ok(refused(&standing, &error))
            }
            applied => applied,
        }
    })
    .await
}

/// Where an order stands; none: the store has no such order.
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
        Ok(found.pop().map(|standing| standing.current()))
    })
    .await
}

/// Whether it is an exception that a function of the shop's raises itself: its own word, whatever code it gives it.
fn is_raised(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().and_then(|db| db.routine()) == Some("exec_stmt_raise")
}

/// Whether Postgres says that the engine's role may not do it: a grant or a policy was forgotten.
fn is_denied(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) && !is_raised(error)
}

/// Whether Postgres, or a trigger or constraint of the shop's, says that this row does not take this value.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(SqlState::code);
    is_raised(error) || code.is_some_and(|code| ["22", "23", "P0", "44"].iter().any(|class| code.starts_with(class)))
}

/// Tells the operator which grants and policies are missing.
async fn report_denied(client: &impl GenericClient, source: &Source, error: &tokio_postgres::Error) {
    let missing = match Table::find(client, &source.table).await {
        Ok(table) => access::check(client, &table, &source.mapping)
            .await
            .map_or_else(|_| Vec::new(), |access| access.missing),
        Err(_) => Vec::new(),
    };
    let missing = match missing.is_empty() {
        // A trigger or function of the shop's that runs with this role's rights.
        true => "the role of `vestnik serve` needs a right that is not one on the table itself".to_owned(),
        false => missing.join("; "),
    };
    tracing::error!(
        source = &*source.name,
        error = db::reason(error),
        missing,
        "an answer was not written: a right is missing"
    );
}

/// What the shop says for people: the message of its own exception. What Postgres says of a constraint is for its owner.
fn refused(standing: &Standing<'_>, error: &tokio_postgres::Error) -> StatusChangeOutcome {
    let is_own = is_raised(error) || error.code().is_some_and(|code| code.code().starts_with("P0"));
    let message = error.as_db_error().filter(|_| is_own).map(|db| {
        let message = db.message().chars().filter(|c| !c.is_control());
        message.take(REFUSAL_CHARACTERS).collect()
    });
    StatusChangeOutcome::Refused {
        current: standing.current(),
        message,
    }
}

/// Makes the step, if it may be made.
async fn apply(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    standing: &Standing<'_>,
    change: &StatusChange<'_>,
) -> Result<StatusChangeOutcome, QueryError> {
    let (now, to) = (standing.subject.status, change.to);
    if standing.subject.visible_status().is_none() {
        return Ok(StatusChangeOutcome::Unknown);
    }
    if promise::is_promise(standing, change) {
        return promise::promise(transaction, standing, change).await;
    }
    if now == to && standing.subject.status_word.is_none() {
        return Ok(StatusChangeOutcome::Already(standing.current()));
    }
    let expected = change.from.is_none_or(|from| from == now);
    let may = expected
        && (standing.subject.next().contains(&to) || may_return(transaction, sources, standing, change).await?);
    let mapping = &standing.source.mapping;
    // A function of the shop's may know what to make of a status that has no word.
    let usual = mapping.answer.function.as_ref().map(|_| to.as_str());
    let word = mapping.status.word_of(to).or(usual);
    let lacks_word = word.is_none() && now.next(change.kind, standing.subject.is_delivered()).contains(&to);
    let Some(word) = word.filter(|_| may) else {
        let current = standing.current();
        return Ok(if lacks_word {
            StatusChangeOutcome::NoWord(current)
        } else {
            StatusChangeOutcome::NotAllowed(current)
        });
    };
    let changed = match (&mapping.derived, &mapping.answer.function) {
        (Some(derived), _) => {
            let from = standing.word.as_deref().unwrap_or_default();
            super::derived::answer(transaction, standing.source, derived, from, change).await?
        }
        (None, Some(function)) => call(transaction, function, word, change).await?,
        (None, None) => update(transaction, standing, word, change).await?,
    };
    if !changed {
        return nothing_changed(transaction, sources, standing, change).await;
    }
    note(transaction, standing, change).await?;
    Ok(StatusChangeOutcome::Done {
        source: standing.source.name.to_string(),
        previous: now,
    })
}

/// Why no row was changed: somebody was first; or the row does not take it: row level security, or a trigger that returns
/// null.
async fn nothing_changed(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    standing: &Standing<'_>,
    change: &StatusChange<'_>,
) -> Result<StatusChangeOutcome, QueryError> {
    let source = Some(standing.source.name.as_ref());
    let now = find(transaction, sources, change.store, change.kind, source, change.key)
        .await?
        .pop();
    Ok(match now {
        None => StatusChangeOutcome::Unknown,
        Some(now) if now.word == standing.word => StatusChangeOutcome::Refused {
            current: now.current(),
            message: None,
        },
        Some(now) if now.subject.status == change.to => StatusChangeOutcome::Already(now.current()),
        Some(now) => StatusChangeOutcome::NotAllowed(now.current()),
    })
}

/// Whether the wish takes the last step back, and that step was made a short time ago.
async fn may_return(
    transaction: &Transaction<'_>,
    sources: &Sources,
    standing: &Standing<'_>,
    change: &StatusChange<'_>,
) -> Result<bool, QueryError> {
    let can_return = |now: Status| now.can_return_to(change.to, change.kind, standing.subject.words);
    let now = standing.subject.status;
    if now != Status::Cancelled && !can_return(now) {
        return Ok(false);
    }
    let events = journal::newest_of(transaction, change.store, &[change.key], SCANNED_EVENTS).await?;
    let events: Vec<_> = events.iter().collect();
    let mut last = None;
    for event in sources.partner_events(&events, &Lookups::default()) {
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap_or_default();
        let is_this = event
            .subject
            .as_ref()
            .is_some_and(|subject| subject.id == standing.subject.id);
        if let (true, Some(previous)) = (is_this, data["previous_status"].as_str()) {
            last = Some((Status::from_name(previous), data["by"].is_string(), event.at));
        }
    }
    let Some((previous, was_pressed, at)) = last else {
        return Ok(false);
    };
    // The shop has one word for both, and the store itself has rejected it.
    if now == Status::Cancelled && !(was_pressed && can_return(Status::Rejected)) {
        return Ok(false);
    }
    const AGE: &str = "select extract(epoch from clock_timestamp() - $1::timestamptz)::float8";
    let age: f64 = transaction
        .query_typed_one(AGE, &[(&at, Type::TIMESTAMPTZ)])
        .await?
        .try_get(0)?;
    Ok(previous == Some(change.to) && age <= change.step_back.as_secs_f64())
}
