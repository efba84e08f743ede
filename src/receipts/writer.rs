//! Saves receipts. A receipt says which recipient an event reached, on which channel, and when. Sessions queue receipts
//! as they happen. The writer saves them in batches in the background, so that no event waits for its receipt.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::domain::event::{EventId, StoreId};
use crate::infra::db::{self, Pool, QueryError};
use crate::receipts::first_seen;
use crate::sources::registry::Registry;
use crate::token::TokenId;

/// Maximum number of queued receipts. Further receipts are dropped and counted in a metric. Events are sent even if
/// their receipts are dropped.
const QUEUE_RECEIPTS: usize = 20_000;
/// Maximum number of receipts that one statement saves.
const BATCH_RECEIPTS: usize = 1000;
/// The longest time for which a receipt waits for more receipts to form a batch.
const GATHER: Duration = Duration::from_millis(200);
/// Maximum number of attempts to save a batch.
const ATTEMPTS: u32 = 5;
/// The time between two attempts to save a batch.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The channel that carried an event to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// A WebSocket.
    WebSocket,
    /// Server-Sent Events (SSE).
    Sse,
    /// The client fetched the event by an HTTP request.
    Polling,
    /// An endpoint of a webhook accepted the event. No person sees the event by this.
    Webhook,
}

impl Channel {
    /// The channel's name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::Polling => "polling",
            Self::Webhook => "webhook",
        }
    }
}

/// The fact that a receipt proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptKind {
    /// The event was written to the recipient's connection.
    Sent,
    /// The panel showed the event on its screen.
    Rendered,
    /// The panel played the sound for the event.
    Sounded,
}

/// A receipt that is to be saved.
#[derive(Debug)]
pub struct Receipt {
    /// The store of the session or request. The receipt is saved only if the event belongs to this store.
    pub store: StoreId,
    /// The id of the event.
    pub event: EventId,
    /// The channel that carried the event.
    pub channel: Channel,
    /// The name of the recipient: the session's name, or the name that a panel chose.
    pub recipient: String,
    /// The id of the token with which the session or request was opened.
    pub token: TokenId,
    /// The fact that the receipt proves.
    pub what: ReceiptKind,
    /// When the event was sent, shown or sounded.
    pub at: OffsetDateTime,
}

/// Queues receipts for [`ReceiptWriter`]. Any task may use it, because it never waits.
#[derive(Debug, Clone)]
pub struct ReceiptRecorder {
    receipts: mpsc::Sender<Receipt>,
}

/// The task that saves the queued receipts in Postgres.
#[derive(Debug)]
pub struct ReceiptWriter {
    receipts: mpsc::Receiver<Receipt>,
}

/// Creates a recorder, and the writer that saves the receipts of this recorder.
pub fn recorder() -> (ReceiptRecorder, ReceiptWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE_RECEIPTS);
    (
        ReceiptRecorder { receipts: sender },
        ReceiptWriter { receipts: receiver },
    )
}

impl ReceiptRecorder {
    /// Queues a receipt, or drops it if the queue is full.
    pub fn record(&self, receipt: Receipt) {
        if self.receipts.try_send(receipt).is_err() {
            metrics::counter!("vestnik_receipts_dropped_total").increment(1);
        }
    }
}

impl ReceiptWriter {
    /// Saves receipts until the shutdown, and then saves the rest of the queue.
    pub async fn run(mut self, pool: Pool, sources: Arc<Registry>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_RECEIPTS);
        loop {
            tokio::select! {
                taken = self.receipts.recv_many(&mut batch, BATCH_RECEIPTS) => if taken == 0 { return },
                () = stop.cancelled() => {
                    while self.receipts.try_recv().map(|receipt| batch.push(receipt)).is_ok() {}
                    for part in batch.chunks(BATCH_RECEIPTS) {
                        save(&pool, &sources, part).await;
                    }
                    return;
                }
            }
            let until = Instant::now() + GATHER;
            while batch.len() < BATCH_RECEIPTS {
                match timeout_at(until, self.receipts.recv()).await {
                    Ok(Some(receipt)) => batch.push(receipt),
                    Ok(None) | Err(_) => break,
                }
            }
            for attempt in 1..=ATTEMPTS {
                if save(&pool, &sources, &batch).await {
                    break;
                }
                if attempt == ATTEMPTS || stop.is_cancelled() {
                    metrics::counter!("vestnik_receipts_dropped_total").increment(batch.len() as u64);
                    break;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            batch.clear();
        }
    }
}

/// Tries to save a batch. Returns whether it was saved.
async fn save(pool: &Pool, sources: &Registry, receipts: &[Receipt]) -> bool {
    match insert(pool, sources, receipts).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, receipts = receipts.len(), "receipts could not be saved");
            false
        }
    }
}

/// Saves a batch, and counts the channels on which new orders were first seen.
async fn insert(pool: &Pool, sources: &Registry, receipts: &[Receipt]) -> Result<(), QueryError> {
    // The statement keeps the earliest time of each kind of receipt. It ignores a receipt if its event was deleted from
    // the journal, or belongs to another store.
    const INSERT: &str = "with said as ( \
             select e.id as event_id, w.channel, w.recipient, w.token_id, min(w.at) filter (where w.what = 0) as sent, \
                    min(w.at) filter (where w.what = 1) as rendered, min(w.at) filter (where w.what = 2) as sounded \
             from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::int[], $6::timestamptz[], $7::bigint[]) \
                  w(event_id, store_id, channel, recipient, what, at, token_id) \
             join vestnik.vst_event e on e.id = w.event_id and e.store_id = w.store_id group by 1, 2, 3, 4), \
         kept as ( \
             insert into vestnik.vst_receipt as r (event_id, channel, recipient, token_id, sent_at, rendered_at, sounded_at) \
             select event_id, channel, recipient, token_id, sent, rendered, sounded from said order by 1, 2, 3, 4 \
             on conflict (event_id, channel, recipient, token_id) do update set sent_at = least(r.sent_at, excluded.sent_at), \
                 rendered_at = least(r.rendered_at, excluded.rendered_at), sounded_at = least(r.sounded_at, excluded.sounded_at)) \
         select distinct on (s.event_id) s.event_id, s.channel from said s where s.channel <> 'webhook' \
         and not exists (select from vestnik.vst_receipt r where r.event_id = s.event_id and r.channel <> 'webhook') \
         order by s.event_id, least(s.sent, s.rendered, s.sounded)";
    let what = |word: &Receipt| match word.what {
        ReceiptKind::Sent => 0,
        ReceiptKind::Rendered => 1,
        ReceiptKind::Sounded => 2,
    };
    let ids: Vec<i64> = receipts.iter().map(|word| word.event.0).collect();
    let stores: Vec<&str> = receipts.iter().map(|word| word.store.as_str()).collect();
    let channels: Vec<&str> = receipts.iter().map(|word| word.channel.as_str()).collect();
    let recipients: Vec<&str> = receipts.iter().map(|word| word.recipient.as_str()).collect();
    let whats: Vec<i32> = receipts.iter().map(what).collect();
    let times: Vec<OffsetDateTime> = receipts.iter().map(|word| word.at).collect();
    let tokens: Vec<i64> = receipts.iter().map(|word| word.token.0).collect();
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(INSERT).await?;
        let rows = client
            .query(
                &statement,
                &[&ids, &stores, &channels, &recipients, &whats, &times, &tokens],
            )
            .await?;
        let first = |row: &'_ tokio_postgres::Row| Ok((EventId(row.try_get(0)?), row.try_get::<_, String>(1)?));
        let first: Vec<(EventId, String)> = rows.iter().map(first).collect::<Result<_, tokio_postgres::Error>>()?;
        let first: Vec<(EventId, &str)> = first.iter().map(|(id, channel)| (*id, channel.as_str())).collect();
        first_seen::count(&*client, &sources.current(), &first).await
    })
    .await
}

/// Records that a person answered the event by a button in a Telegram chat, in the receipt of this chat. `chat` is the
/// chat's id at Telegram, `by` the person's name. If people in one chat answer several times, the first answer counts.
pub async fn answered(pool: &Pool, event: i64, chat: i64, by: &str) -> Result<(), QueryError> {
    const ANSWERED: &str = "insert into vestnik.vst_receipt as r (event_id, channel, recipient, acknowledged_at, acknowledged_by) \
         select id, 'telegram', $2, clock_timestamp(), $3 from vestnik.vst_event where id = $1 \
         on conflict (event_id, channel, recipient, token_id) do update set \
             acknowledged_at = coalesce(r.acknowledged_at, excluded.acknowledged_at), \
             acknowledged_by = coalesce(r.acknowledged_by, excluded.acknowledged_by)";
    db::with_timeout(async {
        let client = pool.get().await?;
        client.execute(ANSWERED, &[&event, &chat.to_string(), &by]).await?;
        Ok(())
    })
    .await
}
