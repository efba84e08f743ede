//! Changes the status of an order or booking for a person who pressed a button, in the shop's own table and words, and
//! remembers who it was. The step is checked in the statement that makes it, so of two people one is first.

use std::time::Duration;

use deadpool_postgres::{Pool, Transaction};
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};

use super::changes::{Found, Lookups, pieces};
use super::list::TypedColumn;
use super::mapping::{Column, StoreRef};
use super::trigger::{ident, literal};
use super::{Beside, Source, Sources};
use crate::db::{self, Failed};
use crate::domain::Subject;
use crate::domain::event::StoreId;
use crate::domain::status::{Status, SubjectKind};
use crate::journal;

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

/// A row as it stands, with what its table has.
struct Standing<'a> {
    source: &'a Source,
    table: AnswerTable,
    subject: Subject,
    /// The status as its table has it.
    word: Option<String>,
    by: Option<String>,
}

/// The row is the shop's. We wait for it no longer than a person waits for a button, and hold it no longer than that,
/// though this process were stopped while it does.
const LIMITS: &str =
    "select set_config('lock_timeout', '3s', true), set_config('idle_in_transaction_session_timeout', '5s', true)";

/// Changes the status, if that is allowed from where it stands, and the shop's own table takes it.
pub async fn change_status(pool: &Pool, sources: &Sources, change: &StatusChange<'_>) -> Result<StatusChangeOutcome, Failed> {
    db::answered(async {
        let mut client = pool.get().await?;
        let mut transaction = client.transaction().await?;
        transaction.execute(LIMITS, &[]).await?;
        let mut found = find(&mut transaction, sources, change.store, change.kind, change.source, change.key).await?;
        if found.len() > 1 {
            let names = found.iter().map(|standing| standing.source.name.to_string()).collect();
            return Ok(StatusChangeOutcome::Ambiguous(names));
        }
        let Some(standing) = found.pop() else {
            return Ok(StatusChangeOutcome::Unknown);
        };
        let outcome = apply(&mut transaction, sources, &standing, change).await;
        match outcome {
            Ok(outcome @ StatusChangeOutcome::Done { .. }) => match transaction.commit().await {
                Ok(()) => Ok(outcome),
                // A constraint of the shop's that is checked at the end.
                Err(error) if is_refusal(&error) => Ok(refused(&standing, &error)),
                Err(error) => Err(error.into()),
            },
            Ok(outcome) => {
                transaction.rollback().await?;
                Ok(outcome)
            }
            Err(Failed::Postgres(error)) if is_refusal(&error) => {
                transaction.rollback().await?;
                tracing::info!(error = db::reason(&error), "the shop's table refused a change of status");
                Ok(refused(&standing, &error))
            }
            Err(error) => Err(error),
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
) -> Result<Option<CurrentStatus>, Failed> {
    db::answered(async {
        let mut client = pool.get().await?;
        let mut transaction = client.transaction().await?;
        let mut found = find(&mut transaction, sources, store, kind, source, key).await?;
        Ok(found.pop().map(|standing| standing.current()))
    })
    .await
}

/// Whether Postgres, or a trigger or constraint of the shop's, says that this row does not take this value.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(tokio_postgres::error::SqlState::code);
    code.is_some_and(|code| ["22", "23", "P0", "42501", "44"].iter().any(|class| code.starts_with(class)))
}

/// What the shop says for people: the message of its own exception. What Postgres says of a constraint is for its owner.
fn refused(standing: &Standing<'_>, error: &tokio_postgres::Error) -> StatusChangeOutcome {
    let is_own = error.code().is_some_and(|code| code.code().starts_with("P0"));
    let message = error.as_db_error().filter(|_| is_own).map(|db| {
        let message = db.message().chars().filter(|c| !c.is_control());
        message.take(REFUSAL_CHARACTERS).collect()
    });
    StatusChangeOutcome::Refused {
        current: standing.current(),
        message,
    }
}

impl Standing<'_> {
    fn current(&self) -> CurrentStatus {
        CurrentStatus {
            source: self.source.name.to_string(),
            status: self.subject.status,
            word: self.subject.status_word.clone(),
            by: self.by.clone(),
            is_delivered: self.subject.is_delivered(),
        }
    }
}

/// Makes the step, if it may be made.
async fn apply(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    standing: &Standing<'_>,
    change: &StatusChange<'_>,
) -> Result<StatusChangeOutcome, Failed> {
    let (now, to) = (standing.subject.status, change.to);
    if standing.subject.visible_status().is_none() {
        return Ok(StatusChangeOutcome::Unknown);
    }
    if now == to && standing.subject.status_word.is_none() {
        return Ok(StatusChangeOutcome::Already(standing.current()));
    }
    let expected = change.from.is_none_or(|from| from == now);
    let may = expected && (standing.subject.next().contains(&to) || may_return(transaction, sources, standing, change).await?);
    if !may {
        return Ok(StatusChangeOutcome::NotAllowed(standing.current()));
    }
    let mapping = &standing.source.mapping;
    let Some(word) = mapping.status.word_of(to) else {
        return Ok(StatusChangeOutcome::NoWord(standing.current()));
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
) -> Result<StatusChangeOutcome, Failed> {
    let source = Some(standing.source.name.as_ref());
    let now = find(transaction, sources, change.store, change.kind, source, change.key).await?.pop();
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
) -> Result<bool, Failed> {
    if !standing.subject.status.can_return_to(change.to, change.kind) {
        return Ok(false);
    }
    let events = journal::newest_of(transaction, change.store, &[change.key], SCANNED_EVENTS).await?;
    let events: Vec<_> = events.iter().collect();
    let mut last = None;
    for piece in pieces(&events) {
        let Some(event) = sources.partner_event(&piece, &Lookups::default()) else { continue };
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap_or_default();
        let is_this = event.subject.as_ref().is_some_and(|subject| subject.id == standing.subject.id);
        if let (true, Some(previous)) = (is_this, data["previous_status"].as_str()) {
            last = Some((Status::from_name(previous), event.at));
        }
    }
    let Some((previous, at)) = last else { return Ok(false) };
    const AGE: &str = "select extract(epoch from clock_timestamp() - $1::timestamptz)::float8";
    let age: f64 = transaction.query_typed_one(AGE, &[(&at, Type::TIMESTAMPTZ)]).await?.try_get(0)?;
    Ok(previous == Some(change.to) && age <= change.step_back.as_secs_f64())
}

/// What an answer needs to know of a table.
struct AnswerTable {
    key: TypedColumn,
    /// Name and type of each column.
    columns: Vec<(String, String)>,
}

impl AnswerTable {
    fn kind(&self, name: &str) -> Option<&str> {
        self.columns.iter().find(|(known, _)| known == name).map(|(_, kind)| kind.as_str())
    }
}

/// The rows of this key and store, in whichever sources have one. A source that cannot be read has none, as far as anybody
/// can tell: it is noted, and costs the others nothing.
async fn find<'a>(
    transaction: &mut Transaction<'_>,
    sources: &'a Sources,
    store: &StoreId,
    kind: SubjectKind,
    source: Option<&str>,
    key: &str,
) -> Result<Vec<Standing<'a>>, Failed> {
    let mut found = Vec::new();
    let meant = sources.all().into_iter().filter(|it| it.mapping.kind == kind && source.is_none_or(|name| it.name.as_ref() == name));
    let mut unreadable = None;
    for source in meant {
        let savepoint = transaction.transaction().await?;
        let beside = Beside {
            currency: sources.currency_of(store),
            lookup: Found::Nothing,
        };
        match find_in(&savepoint, source, store, key, beside).await {
            Ok(standing) => {
                savepoint.commit().await?;
                found.extend(standing);
            }
            Err(error) if error.as_db_error().is_some() => {
                savepoint.rollback().await?;
                tracing::warn!(source = &*source.name, error = db::reason(&error), "an order was not looked for in a source");
                unreadable = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    match unreadable {
        Some(error) if found.is_empty() => Err(error.into()),
        _ => Ok(found),
    }
}

async fn find_in<'a>(
    transaction: &Transaction<'_>,
    source: &'a Source,
    store: &StoreId,
    key: &str,
    beside: Beside<'_>,
) -> Result<Option<Standing<'a>>, tokio_postgres::Error> {
    let Some(table) = answer_table(transaction, source).await? else {
        return Ok(None);
    };
    if !table.key.can_hold(key) {
        return Ok(None);
    }
    let recorded = source.mapping.recorded_columns().into_iter().map(|name| match table.kind(name) {
        Some(_) => format!("t.{}", ident(name)),
        None => format!("null as {}", ident(name)),
    });
    let sql = format!(
        "select vestnik.vst_readable(row_to_json((select one from (select {}) one)))::text, \
             (select a.by_whom from vestnik.vst_status_change a where a.source = $3 and a.key = $1 order by a.id desc limit 1), \
             (select a.status from vestnik.vst_status_change a where a.source = $3 and a.key = $1 order by a.id desc limit 1), \
             vestnik.vst_readable({}) \
         from {} t where {} and t.{}::text = $1 and {}",
        recorded.collect::<Vec<_>>().join(", "),
        status_text(&source.mapping.status.column),
        source.table,
        table.key.is("t", "$1"),
        ident(&source.mapping.key),
        store_is(source, "$2"),
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&key, Type::TEXT), (&store.as_str(), Type::TEXT), (&source.id.0, Type::INT4)];
    let Some(row) = transaction.query_typed_opt(&sql, &parameters).await? else {
        return Ok(None);
    };
    let subject = source.translate(key, row.try_get(0)?, beside);
    let by: Option<String> = row.try_get(1)?;
    let answered: Option<&str> = row.try_get(2)?;
    Ok(Some(Standing {
        source,
        table,
        word: row.try_get(3)?,
        by: by.filter(|_| answered == Some(subject.status.as_str())),
        subject,
    }))
}

async fn answer_table(transaction: &Transaction<'_>, source: &Source) -> Result<Option<AnswerTable>, tokio_postgres::Error> {
    const COLUMNS: &str = "select attname::text, format_type(atttypid, null), format_type(atttypid, atttypmod) from pg_attribute \
         where attrelid = to_regclass($1) and attnum > 0 and not attisdropped";
    let rows = transaction.query_typed(COLUMNS, &[(&source.table, Type::TEXT)]).await?;
    let mut columns = Vec::with_capacity(rows.len());
    let mut key = None;
    for row in &rows {
        let name: String = row.try_get(0)?;
        if name == source.mapping.key {
            key = Some(TypedColumn::new(&name, row.try_get(1)?));
        }
        columns.push((name, row.try_get(2)?));
    }
    Ok(key.map(|key| AnswerTable { key, columns }))
}

fn store_is(source: &Source, parameter: &str) -> String {
    match &source.mapping.store {
        StoreRef::Column(name) => format!("t.{}::text = {parameter}", ident(name)),
        StoreRef::Constant(store) => format!("{parameter} = {}", literal(store)),
    }
}

fn status_text(column: &Column) -> String {
    match column.path.is_empty() {
        true => format!("t.{}::text", ident(&column.name)),
        false => {
            let path: Vec<String> = column.path.iter().map(|name| literal(name)).collect();
            format!("(t.{}::jsonb #>> array[{}])", ident(&column.name), path.join(", "))
        }
    }
}

/// Writes the shop's word, if the status is still what it was. Whether a row was changed.
async fn update(
    transaction: &Transaction<'_>,
    standing: &Standing<'_>,
    word: &str,
    change: &StatusChange<'_>,
) -> Result<bool, tokio_postgres::Error> {
    let sql = update_sql(standing, change.to);
    let reason = change.reason.unwrap_or_default().as_bytes();
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&change.key, Type::TEXT),
        (&change.store.as_str(), Type::TEXT),
        (&word, Type::TEXT),
        (&standing.word, Type::TEXT),
        (&reason, Type::BYTEA),
        (&change.minutes, Type::INT4),
    ];
    let row = transaction.query_typed_opt(&sql, &parameters).await?;
    Ok(row.is_some())
}

/// The UPDATE. A parameter that no column takes has to be used all the same, for Postgres to know its type.
fn update_sql(standing: &Standing<'_>, to: Status) -> String {
    let mapping = &standing.source.mapping;
    let (answer, table) = (&mapping.answer, &standing.table);
    let now = |kind: &str| match kind.starts_with("timestamp") && kind.contains("without") {
        true => format!("(clock_timestamp() at time zone {})", literal(&answer.zone)),
        false => "clock_timestamp()".to_owned(),
    };
    let mut set = Vec::new();
    let mut put = |name: &Option<String>, value: &dyn Fn(&str, &str) -> String| {
        if let Some(name) = name
            && let Some(kind) = table.kind(name)
        {
            let column = ident(name);
            set.push(format!("{column} = {}", value(&column, kind)));
        }
    };
    put(&answer.updated_at, &|_, kind| format!("{}::{kind}", now(kind)));
    if to == Status::Preparing {
        put(&answer.accepted_at, &|_, kind| format!("{}::{kind}", now(kind)));
    }
    put(&answer.reason, &|column, kind| {
        format!("coalesce(nullif(vestnik.vst_storable($5), '')::{kind}, t.{column})")
    });
    put(&answer.minutes, &|column, kind| format!("coalesce($6::{kind}, t.{column})"));
    let status = &mapping.status.column;
    let name = ident(&status.name);
    set.push(match status.path.is_empty() {
        true => format!("{name} = $3::{}", table.kind(&status.name).unwrap_or("text")),
        false => {
            let path: Vec<String> = status.path.iter().map(|name| literal(name)).collect();
            let kind = table.kind(&status.name).unwrap_or("jsonb");
            format!("{name} = jsonb_set(t.{name}::jsonb, array[{}], to_jsonb($3))::{kind}", path.join(", "))
        }
    });
    format!(
        "update {} t set {} where {} and t.{}::text = $1 and {} and {} is not distinct from $4 \
             and $5 is not distinct from $5 and $6 is not distinct from $6 returning true",
        standing.source.table,
        set.join(", "),
        table.key.is("t", "$1"),
        ident(&mapping.key),
        store_is(standing.source, "$2"),
        status_text(status),
    )
}

/// Calls the shop's own function instead. It says no by an exception, or by false.
async fn call(
    transaction: &Transaction<'_>,
    function: &str,
    word: &str,
    change: &StatusChange<'_>,
) -> Result<bool, tokio_postgres::Error> {
    let sql = format!(
        "select {function}($1, $2, nullif(vestnik.vst_storable($3), ''), $4, vestnik.vst_storable($5))::text is distinct from 'false'"
    );
    let (reason, by) = (change.reason.unwrap_or_default().as_bytes(), change.by.as_bytes());
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&change.key, Type::TEXT),
        (&word, Type::TEXT),
        (&reason, Type::BYTEA),
        (&change.minutes, Type::INT4),
        (&by, Type::BYTEA),
    ];
    let row = transaction.query_typed_opt(&sql, &parameters).await?;
    row.map_or(Ok(false), |row| row.try_get(0))
}

/// Remembers who it was, for those who press second, and in the event that the change has just become.
async fn note(transaction: &Transaction<'_>, standing: &Standing<'_>, change: &StatusChange<'_>) -> Result<(), tokio_postgres::Error> {
    const NOTE: &str = "insert into vestnik.vst_status_change (source, key, store_id, previous, status, way, by_whom, minutes) \
         values ($1, $2, $3, $4, $5, $6, vestnik.vst_storable($7), $8)";
    const ANNOTATE: &str = "update vestnik.vst_event set answer = vestnik.vst_storable($4)::json \
         where xid = pg_current_xact_id() and source = $1 and key = $2 and store_id = $3 and type in ('insert', 'update')";
    let (source, store, by) = (standing.source.id.0, change.store.as_str(), change.by.as_bytes());
    let noted: [(&(dyn ToSql + Sync), Type); 8] = [
        (&source, Type::INT4),
        (&change.key, Type::TEXT),
        (&store, Type::TEXT),
        (&standing.subject.status.as_str(), Type::TEXT),
        (&change.to.as_str(), Type::TEXT),
        (&change.way.as_str(), Type::TEXT),
        (&by, Type::BYTEA),
        (&change.minutes, Type::INT4),
    ];
    transaction.query_typed(NOTE, &noted).await?;
    let answer = json!({"by": change.by, "minutes": change.minutes, "reason": change.reason}).to_string();
    let annotated: [(&(dyn ToSql + Sync), Type); 4] = [
        (&source, Type::INT4),
        (&change.key, Type::TEXT),
        (&store, Type::TEXT),
        (&answer.as_bytes(), Type::BYTEA),
    ];
    transaction.query_typed(ANNOTATE, &annotated).await?;
    Ok(())
}
