//! Erases the data of a customer from everything that the engine stores. Journal rows are kept without the customer's
//! data, so that cursors, statistics and receipts stay correct.

mod find;
mod messages;

use crate::domain::event::{EventId, JournalEvent, SourceId, StoreId};
use crate::infra::db::{Client, QueryError, Transaction};
use crate::sources::{Sources, derived, registry};
pub use find::Whom;
use find::{CustomerData, find};

/// The reason why nothing was erased.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database has no event, setting or token of the store.
    #[error("no store is called {0}: `vestnik store list` and `vestnik token list` name them")]
    UnknownStore(String),
    /// The journal has no order with this number or key in the store.
    #[error("the journal has no order or booking {order} of store {store}; it keeps them for journal.retention_days")]
    NoOrder {
        /// The id of the store.
        store: String,
        /// The number or the key of the order.
        order: String,
    },
    /// The journal has no order with the telephone number.
    #[error(
        "the journal has no order with this telephone number; one that only a query of `details` reads is not in it: name the order"
    )]
    NoPhone,
    /// The telephone number is too short, and would match many customers.
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

/// The result of an erasure. The result of a dry run says what would be erased.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// For each order and booking of the customer: the name of its source, its number, and its key.
    pub orders: Vec<(String, String, String)>,
    /// The number of journal rows from which the data is erased.
    pub events: u64,
    /// The number of rows of derived sources from which the data is erased. A derived source has rows that Vestnik
    /// computes from several tables of the shop.
    pub projections: u64,
    /// The number of recorded status changes that Vestnik sent to the shop's own API. From each record, the reason that
    /// a person gave is deleted.
    pub answers: u64,
    /// The number of the bot's answers whose saved text was replaced, because it contained the customer's data.
    pub replies: u64,
    /// The number of Telegram messages that will be edited.
    pub messages: u64,
    /// The number of messages that a node is sending now, and that may still contain the customer's data.
    pub sending: i64,
    /// The number of dead deliveries (those that are never sent again) of the customer's orders. They contain no data
    /// of the customer.
    pub dead: i64,
}

/// Erases a customer's data in one transaction. If `is_dry`, rolls the transaction back, so that nothing is erased.
/// Returns the report in both cases.
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
        // Each node clears its cache of events when it reads the new version number, so that no cache keeps the erased
        // data.
        registry::bump_version(&transaction).await?;
        transaction.commit().await?;
    }
    Ok(report)
}

/// Removes the customer's data from `data`, which is a row of the source `source`. Returns the rest of the row. If the
/// source is not attached any more, its columns are not known, so the result is empty.
fn redacted(sources: &Sources, source: SourceId, data: &str) -> String {
    let source = sources.get(source);
    source.map_or_else(
        || "{}".to_owned(),
        |source| source.at_the_time_of(data).without_customer(data),
    )
}

async fn journal(
    transaction: &Transaction<'_>,
    sources: &Sources,
    events: &[JournalEvent],
) -> Result<u64, tokio_postgres::Error> {
    // Keep the name of the person who pressed a button, and the promised minutes. Delete the reason, because it may
    // name the customer.
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

async fn answers(transaction: &Transaction<'_>, found: &CustomerData) -> Result<u64, tokio_postgres::Error> {
    const REDACT: &str = "update vestnik.vst_answer_request set \
             answer = json_build_object('by', answer->'by', 'minutes', answer->'minutes') \
         where (source, key) in (select * from unnest($1::int[], $2::text[]))";
    let (sources, keys) = found.subjects();
    transaction.execute(REDACT, &[&sources, &keys]).await
}

/// Deletes the stored responses to requests with an idempotency key, if they contain a message of the shop. Such a
/// message may name the customer. If a client repeats such a request, the request is executed again. This is safe,
/// because the refused request changed nothing.
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
    found: &CustomerData,
) -> Result<u64, tokio_postgres::Error> {
    const FAILURES: &str = "delete from vestnik.vst_projection_failure where source = $1 and key = $2";
    let mut rows = 0;
    for subject in &found.subjects {
        let Some(source) = sources.get(subject.source).filter(|it| it.mapping.derived.is_some()) else {
            rows += derived::forget_kept_answer(transaction, subject.source, &subject.key).await?;
            continue;
        };
        // Delete recorded failures, because a failed order is computed again at intervals, which would restore the
        // customer's data.
        transaction.execute(FAILURES, &[&source.id.0, &&*subject.key]).await?;
        let table = derived::projection(source.id);
        let select = format!("select store_id, vestnik.vst_readable(data)::text from {table} where key = $1");
        let update =
            format!("update {table} set data = vestnik.vst_storable($3)::json where key = $1 and store_id = $2");
        for row in transaction.query(&select, &[&&*subject.key]).await? {
            let (store, data): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            // The mapping's paths begin at the column `data`, so put the data into an object with the member `data`.
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

/// Returns an error if the database has no data of this store.
async fn known(transaction: &Transaction<'_>, store: &StoreId) -> Result<(), Error> {
    match crate::store::is_known_to(transaction, store).await? {
        true => Ok(()),
        false => Err(Error::UnknownStore(store.as_str().to_owned())),
    }
}
