//! Posts events to the endpoints of a database. Each endpoint gets its events in the order of the journal, from its own
//! task on the node that holds its lease. So an endpoint that is down does not delay the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::failed_post::{self, Consequence};
use super::figures::{self, Figures};
use super::lease::{self, Lease, Leased, Place, RENEWAL};
use super::post::{self, Failure};
use crate::domain::cursor::Unusable;
use crate::domain::event::{JournalEvent, PartnerEvent};
use crate::infra::backoff::Backoff;
use crate::infra::config::Webhook;
use crate::infra::db::{self, Pool, QueryError};
use crate::infra::standard_webhook::{Letter, Poster};
use crate::journal::{self, Page, PageEvent, Start};
use crate::receipts::writer::{Channel, Receipt, ReceiptKind, ReceiptRecorder};
use crate::sources::lookup::Lookup;
use crate::sources::registry::Registry;
use crate::token::TokenId;

/// The time between two searches for endpoints whose lease no node holds.
const CLAIM_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two reads of the journal, so that a busy journal is read in batches.
const SPACING: Duration = Duration::from_millis(50);
/// The longest wait for a signal of new events. After this time, the journal is read even without a signal.
const IDLE: Duration = RENEWAL;
/// The most events that one read of the journal returns.
const PAGE_EVENTS: usize = 200;
/// The longest time for which a page of events is used. After this time, the page is read again, because an event in it
/// may have been erased meanwhile.
const PAGE_HELD: Duration = Duration::from_secs(5);

/// Posts the events of one database. The fields are shared by the tasks of all endpoints.
pub struct Endpoints {
    /// The connection pool for all SQL of the tasks.
    pub pool: Pool,
    /// The settings that say which addresses an endpoint may have.
    pub webhook: Webhook,
    /// The most bytes of an event's payload. The large parts of a larger payload are left out.
    pub max_event_bytes: usize,
    /// Signals that the feed has read new events.
    pub news: watch::Receiver<()>,
    /// The attached sources with their mappings.
    pub sources: Arc<Registry>,
    /// Looks up details of events that other tables of the shop have, such as items.
    pub lookup: Arc<Lookup>,
    /// Records which endpoint accepted which event.
    pub recorder: ReceiptRecorder,
    /// The database's name, for the labels of metrics. `None`: the node serves only one database.
    pub database: Option<String>,
}

/// The reason why events could not be posted, or why the outcome of a post could not be saved.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Journal(#[from] journal::Error),
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// What the task of an endpoint must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// There may be more events: continue at once.
    More,
    /// Every event was posted: wait for new events.
    Wait,
    /// This node has lost the lease: the task ends.
    End,
}

impl Endpoints {
    /// Posts events until the shutdown. Posts that have begun are finished first.
    pub async fn run(self, stop: CancellationToken) {
        let poster = match Poster::new(self.webhook) {
            Ok(poster) => poster,
            Err(error) => return tracing::error!(%error, "webhooks cannot be posted from here"),
        };
        let figures = Figures::new(self.pool.clone(), self.database.as_deref());
        let endpoints = Arc::new(self);
        tokio::join!(endpoints.claim(&poster, &stop), figures.run(&stop));
    }

    async fn claim(self: &Arc<Self>, poster: &Poster, stop: &CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            let pause = match lease::claim(&self.pool).await {
                Ok(claimed) => {
                    for leased in claimed {
                        tasks.spawn(Arc::clone(self).serve(leased, poster.clone(), stop.clone()));
                    }
                    backoff.reset();
                    CLAIM_INTERVAL
                }
                Err(error) => {
                    tracing::warn!(%error, "webhooks wait");
                    backoff.next_pause().max(CLAIM_INTERVAL)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Posts events to one endpoint until this node loses the lease.
    async fn serve(self: Arc<Self>, mut leased: Leased, poster: Poster, stop: CancellationToken) {
        let mut news = self.news.clone();
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            news.borrow_and_update();
            let pause = match self.advance(&mut leased, &poster, &stop).await {
                Ok(Next::More) => continue,
                Ok(Next::Wait) => {
                    backoff.reset();
                    SPACING
                }
                Ok(Next::End) => {
                    tracing::debug!(endpoint = leased.id, "the lease of a webhook is over");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, endpoint = leased.id, "the events of a webhook wait");
                    backoff.next_pause()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(IDLE) => {}
                Ok(()) = news.changed() => {}
                () = stop.cancelled() => {}
            }
        }
        if let Err(error) = lease::release(&self.pool, &leased).await {
            tracing::debug!(%error, endpoint = leased.id, "the lease of a webhook ends by itself");
        }
    }

    /// Reads the next page of events, and posts the events that the endpoint wants. Returns what the task must do next.
    async fn advance(&self, leased: &mut Leased, poster: &Poster, stop: &CancellationToken) -> Result<Next, Error> {
        if leased.renewed.elapsed() >= RENEWAL && lease::renew(&self.pool, leased).await? == Lease::Over {
            return Ok(Next::End);
        }
        if let Some(reason) = leased.resync.clone() {
            return self.tell_of_resync(leased, &reason, poster).await;
        }
        let start = Start::After(&leased.cursor);
        let (rows, cursor, is_last) = match journal::read_page(&self.pool, &leased.stores, start, PAGE_EVENTS).await? {
            Page::Resync { reason, fresh, .. } => return self.resync(leased, reason, &fresh).await,
            Page::Events { events, cursor, end } => (events, cursor, end.is_some()),
        };
        let mut events = self.wanted(leased, &rows).await?;
        if let Some(handled) = events.iter().position(|event| Some(event.id) == leased.handled) {
            events.drain(..=handled);
        }
        if !events.is_empty() && lease::renew(&self.pool, leased).await? == Lease::Over {
            return Ok(Next::End);
        }
        let read_at = Instant::now();
        let mut cursors = rows.iter();
        for event in events {
            if stop.is_cancelled() || read_at.elapsed() > PAGE_HELD {
                return Ok(Next::More);
            }
            // `events` has the order of `rows`, but several rows may have become one event, so skip rows without an
            // event.
            let Some(row) = cursors.find(|row| row.event.id == event.id) else {
                continue;
            };
            let id = format!("evt_{}_{}", event.id, leased.key);
            let place = Place {
                cursor: &row.cursor,
                handled: (!row.is_covered).then_some(event.id),
            };
            let next = self.post(leased, poster, id, event.to_wire_alone(), place).await?;
            if next == Next::End {
                return Ok(Next::End);
            }
            self.recorder.record(Receipt {
                store: event.store.clone(),
                event: event.id,
                channel: Channel::Webhook,
                recipient: leased.id.to_string(),
                token: TokenId(0),
                what: ReceiptKind::Sent,
                at: OffsetDateTime::now_utc(),
            });
        }
        (leased.cursor, leased.handled) = (cursor, None);
        Ok(if is_last { Next::Wait } else { Next::More })
    }

    /// Translates these journal rows, and returns the events that the endpoint wants.
    async fn wanted(&self, leased: &Leased, rows: &[PageEvent]) -> Result<Vec<PartnerEvent>, QueryError> {
        let rows: Vec<&JournalEvent> = rows.iter().map(|row| &row.event).collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let sources = db::with_timeout(async { self.sources.in_force(&*self.pool.get().await?).await }).await?;
        let lookups = self.lookup.for_events(&sources, &rows).await;
        let mut events = sources.partner_events(&rows, &lookups);
        events.retain(|event| leased.wants(event));
        events.iter_mut().for_each(|event| event.shorten(self.max_event_bytes));
        Ok(events)
    }

    async fn resync(&self, leased: &mut Leased, reason: Unusable, fresh: &str) -> Result<Next, Error> {
        tracing::error!(
            endpoint = leased.id,
            reason = reason.as_str(),
            "a webhook may have missed events: the journal does not have them any more"
        );
        Ok(match lease::resync(&self.pool, leased, reason.as_str(), fresh).await? {
            Lease::Held => Next::More,
            Lease::Over => Next::End,
        })
    }

    /// Posts a message that tells the endpoint that it may have missed events. Later events are posted after this
    /// message.
    async fn tell_of_resync(&self, leased: &mut Leased, reason: &str, poster: &Poster) -> Result<Next, Error> {
        if lease::renew(&self.pool, leased).await? == Lease::Over {
            return Ok(Next::End);
        }
        let id = format!("resync_{}_{}", leased.resyncs, leased.key);
        let body = json!({"type": "resync_required", "reason": reason}).to_string();
        let cursor = leased.cursor.clone();
        let place = Place {
            cursor: &cursor,
            handled: leased.handled,
        };
        self.post(leased, poster, id, body, place).await
    }

    /// Posts one message, and saves the outcome. `place` is saved if the post succeeds.
    async fn post(
        &self,
        leased: &mut Leased,
        poster: &Poster,
        id: String,
        body: String,
        place: Place<'_>,
    ) -> Result<Next, Error> {
        // If this process was suspended for long, the lease may have ended, so renew the lease before the post.
        if leased.renewed.elapsed() >= RENEWAL && lease::renew(&self.pool, leased).await? == Lease::Over {
            return Ok(Next::End);
        }
        let letter = Letter {
            id,
            time: leased.time,
            url: leased.url.clone(),
            secrets: leased.secrets.clone(),
            body,
        };
        let failed = match post::post(poster, &letter).await {
            Ok(_) => {
                figures::count("sent");
                return Ok(match lease::sent(&self.pool, leased, place).await? {
                    Lease::Held => Next::More,
                    Lease::Over => Next::End,
                });
            }
            Err(failed) => failed,
        };
        figures::count(match failed.failure {
            Failure::Refused => "refused",
            Failure::Down | Failure::Gone => "failed",
        });
        let consequence = failed_post::save(&self.pool, leased, place, &failed).await?;
        let (endpoint, message, reason) = (leased.id, letter.id.as_str(), failed.reason.as_str());
        match consequence {
            Consequence::Retry => tracing::warn!(endpoint, message, reason, "a webhook was not posted yet"),
            Consequence::PassedOver => {
                figures::count("given_up");
                tracing::error!(endpoint, message, reason, "a webhook refuses an event: it is given up");
            }
            Consequence::Stopped => {
                figures::count("stopped");
                tracing::error!(
                    endpoint,
                    reason,
                    "a webhook is stopped: `vestnik webhook resume` posts what waits"
                );
            }
            Consequence::None => {}
        }
        Ok(Next::End)
    }
}
