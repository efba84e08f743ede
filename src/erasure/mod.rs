//! Erases the data of a customer from everything that the engine keeps. The rows of the journal stay, so that cursors,
//! figures and receipts stay true; what they say of the customer goes.

mod find;
mod messages;

use crate::domain::event::{EventId, JournalEvent, SourceId, StoreId};
use crate::infra::db::{Client, QueryError, Transaction};
use crate::sources::{Sources, derived, registry};
pub use find::Whom;
use find::{Found, find};

/// Why nothing was erased.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No event, setting or token names the store.
    #[error("no store is called {0}: `vestnik store list` and `vestnik token list` name them")]
    UnknownStore(String),
    /// The journal has no such order.
    #[error("the journal has no order or booking {order} of store {store}; it keeps them for journal.retention_days")]
    NoOrder {
        /// The store.
        store: String,
        /// The number or key.
        order: String,
    },
    /// The journal has no order with the telephone number.
    #[error(
        "the journal has no order with this telephone number; one that only a query of `details` reads is not in it: name the order"
    )]
    NoPhone,
    /// The telephone number would fit many customers.
    #[error("a telephone number has {} digits at least", find::MIN_PHONE_DIGITS)]
    ShortPhone,
    /// Postgres failed.
    #[error(transparent)]
    Failed(#[from] QueryError),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// What was erased, or would be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The orders and bookings: source, number, and key.
    pub orders: Vec<(String, String, String)>,
    /// Rows of the journal.
    pub events: u64,
    /// Rows of derived sources' own tables.
    pub projections: u64,
    /// Answers that the shop's own API was asked for.
    pub answers: u64,
    /// Answers of the bot to commands, which named the customer.
    pub replies: u64,
    /// Messages of Telegram that will be edited.
    pub messages: u64,
    /// Messages that a node sends at this moment, and that may still say the old text.
    pub sending: i64,
    /// Deliveries that were given up; they are kept without the customer.
    pub dead: i64,
}

/// Erases a customer's data, or only says what would be erased. All of it happens in one transaction.
pub async fn erase(client: &mut Client, whom: &Whom, is_dry: bool) -> Result<Report, Error> {
    let sources = registry::load(client).await?;
    let transaction = client.transaction().await?;
    let found = find(&transaction, &sources, whom).await?;
    let mut report = Report {
        orders: found.orders(),
        ..Report::default()
    };
    report.messages = messages::rewrite(&transaction, &found).await?;
    report.replies = messages::blank_replies(&transaction, &found).await?;
    (report.sending, report.dead) = messages::under_way(&transaction, &found).await?;
    report.events = journal(&transaction, &sources, &found.events).await?;
    report.answers = answers(&transaction, &found).await?;
    repeatable_refusals(&transaction, whom).await?;
    report.projections = projections(&transaction, &sources, &found).await?;
    if is_dry {
        transaction.rollback().await?;
    } else {
        // Each node drops its cache of events when it reads the new number.
        registry::bump_version(&transaction).await?;
        transaction.commit().await?;
    }
    Ok(report)
}

/// A recorded row without the customer. Of a source that is detached nothing is known, and nothing stays.
fn redacted(sources: &Sources, source: SourceId, data: &str) -> String {
    let source = sources.get(source);
    source.map_or_else(|| "{}".to_owned(), |source| source.without_customer(data))
}

async fn journal(
    transaction: &Transaction<'_>,
    sources: &Sources,
    events: &[JournalEvent],
) -> Result<u64, tokio_postgres::Error> {
    // Who pressed stays, and the minutes; a reason may name the customer.
    const REDACT: &str = "update vestnik.vst_event e set data = vestnik.vst_storable(r.data)::json, \
             old = case when r.old is not null then vestnik.vst_storable(r.old)::json end, \
             answer = case when e.answer is not null then json_build_object('by', e.answer->'by', 'minutes', e.answer->'minutes') end \
         from unnest($1::bigint[], $2::bytea[], $3::bytea[]) r(id, data, old) where e.id = r.id";
    let (mut ids, mut data, mut old) = (Vec::new(), Vec::new(), Vec::new());
    for (EventId(id), write) in find::writes(events) {
        ids.push(id);
        data.push(redacted(sources, write.source, &write.data).into_bytes());
        let before = write.old.as_ref();
        old.push(before.map(|old| redacted(sources, write.source, old).into_bytes()));
    }
    transaction.execute(REDACT, &[&ids, &data, &old]).await
}

async fn answers(transaction: &Transaction<'_>, found: &Found) -> Result<u64, tokio_postgres::Error> {
    const REDACT: &str = "update vestnik.vst_answer_request set \
             answer = json_build_object('by', answer->'by', 'minutes', answer->'minutes') \
         where (source, key) in (select * from unnest($1::int[], $2::text[]))";
    let (sources, keys) = found.subjects();
    transaction.execute(REDACT, &[&sources, &keys]).await
}

/// Deletes the kept answers that have a message of the shop, which may name the customer. A repetition of such a
/// request is executed again: a refused one has changed nothing.
async fn repeatable_refusals(transaction: &Transaction<'_>, whom: &Whom) -> Result<(), tokio_postgres::Error> {
    const DELETE: &str = "delete from vestnik.vst_idempotent_request \
         where strpos(body, '\"shop_message\"') > 0 and ($1::text is null or store_id = $1)";
    let store = match whom {
        Whom::Order { store, .. } => Some(store.as_str()),
        Whom::Phone { store, .. } => store.as_ref().map(StoreId::as_str),
    };
    transaction.execute(DELETE, &[&store]).await.map(drop)
}

async fn projections(
    transaction: &Transaction<'_>,
    sources: &Sources,
    found: &Found,
) -> Result<u64, tokio_postgres::Error> {
    const FAILURES: &str = "delete from vestnik.vst_projection_failure where source = $1 and key = $2";
    let mut rows = 0;
    for subject in &found.subjects {
        let Some(source) = sources.get(subject.source).filter(|it| it.mapping.derived.is_some()) else {
            continue;
        };
        // An order that fails is computed again at intervals, and would bring the customer back.
        transaction.execute(FAILURES, &[&source.id.0, &&*subject.key]).await?;
        let table = derived::projection(source.id);
        let select = format!("select store_id, vestnik.vst_readable(data)::text from {table} where key = $1");
        let update =
            format!("update {table} set data = vestnik.vst_storable($3)::json where key = $1 and store_id = $2");
        for row in transaction.query(&select, &[&&*subject.key]).await? {
            let (store, data): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            // The mapping knows the values as paths in the column `data`.
            let kept: serde_json::Value =
                serde_json::from_str(&source.without_customer(&format!("{{\"data\":{data}}}"))).unwrap_or_default();
            let data = kept
                .get("data")
                .map_or_else(|| "{}".to_owned(), ToString::to_string)
                .into_bytes();
            rows += transaction.execute(&update, &[&&*subject.key, &store, &data]).await?;
        }
    }
    Ok(rows)
}

/// The store of the command, if it is known here.
async fn known(transaction: &Transaction<'_>, store: &StoreId) -> Result<(), Error> {
    match crate::store::is_known_to(transaction, store).await? {
        true => Ok(()),
        false => Err(Error::UnknownStore(store.as_str().to_owned())),
    }
}
