//! Turns wakes and reads of the journal into one stream of events in order. One task, one source.
//!
//! A wake only says "look": many that come during one read fold into the next, so reads batch by themselves under
//! load. The position stays in memory when a connection breaks, so what was committed meanwhile is read after it.
//! `quiet` says when to read: when it is rung, or, where ringing would cost the shop more, again and again. What a large
//! transaction has written is published in chunks between the reads: `large_transactions`.

mod chunk_publisher;
mod feed_state;
mod in_flight;
mod large_transactions;
pub mod listener;
mod precise_sleep;
#[cfg(test)]
mod simulation;
pub mod suppression_locks;
mod wakeup;
mod wakeup_state;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::cursor::{Cursor, Epoch, Position};
use crate::domain::event::{Body, JournalEvent, RowWrite, Write};
use crate::fanout::router::{Newcomer, Router, Translation};
use crate::feed::listener::{Bell, Hearing};
use crate::infra::backoff::Backoff;
use crate::infra::config::Database;
use crate::infra::metrics::HOT;
use crate::journal::{self, News, Reader};
use crate::sources::Changes;
use crate::sources::lookup::Lookup;
use crate::sources::registry::Registry;
use chunk_publisher::Beside;
use feed_state::FeedState;
use large_transactions::TooMany;
use wakeup::{WakeReason, WakeupDriver};

/// A position older than this is not fresh: [`FeedHealth::is_fresh`].
const FRESH_FOR: Duration = Duration::from_secs(5);

/// When the feed last stood where the journal stands.
#[derive(Debug)]
pub struct FeedHealth {
    began: Instant,
    /// Milliseconds from `began`; 0: never.
    last_read: AtomicU64,
    /// Events that nothing rang for.
    missed_notifications: AtomicU64,
}

impl Default for FeedHealth {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            last_read: AtomicU64::new(0),
            missed_notifications: AtomicU64::new(0),
        }
    }
}

impl FeedHealth {
    /// Whether it was not fresh before.
    fn beat(&self) -> bool {
        let was_stale = !self.is_fresh();
        let now = self.began.elapsed().as_millis() as u64;
        self.last_read.store(now.max(1), Ordering::Relaxed);
        was_stale
    }

    fn miss(&self, events: u64) {
        self.missed_notifications.fetch_add(events, Ordering::Relaxed);
        metrics::counter!("vestnik_missed_notification_events_total").increment(events);
    }

    /// Events that a sleeping feed found though nothing rang for them. A defect, where it is not 0.
    pub fn missed_notifications(&self) -> u64 {
        self.missed_notifications.load(Ordering::Relaxed)
    }

    /// Whether the journal was read within the last seconds.
    pub fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < FRESH_FOR)
    }

    /// How long ago the journal was read; none: it never was.
    pub fn age(&self) -> Option<Duration> {
        let last = self.last_read.load(Ordering::Relaxed);
        (last != 0).then(|| self.began.elapsed().saturating_sub(Duration::from_millis(last)))
    }
}

/// Reads the journal and publishes.
pub struct Feed {
    /// Where the journal is.
    pub database: Database,
    /// What wakes it.
    pub bell: Arc<Bell>,
    /// Whether the bell can be trusted.
    pub hearing: watch::Receiver<Hearing>,
    /// Where LISTEN is: the same database, past any pooler.
    pub listen_url: SecretString,
    /// Who gets the events.
    pub router: Arc<Router>,
    /// When it last read.
    pub pulse: Arc<FeedHealth>,
    /// Rung when it has read something: the durable sends plan then.
    pub news: Arc<Notify>,
    /// What the rows mean.
    pub sources: Arc<Registry>,
    /// Looks up what they do not say.
    pub lookup: Arc<Lookup>,
}

impl Feed {
    /// Reads until the shutdown, coming back by itself.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut place = None;
        let mut quiet = WakeupDriver::new(
            Arc::clone(&self.bell),
            self.hearing.clone(),
            self.listen_url.clone(),
            self.database.safety_read,
        );
        let mut backoff = Backoff::new();
        loop {
            let result = tokio::select! {
                result = self.follow(&mut place, &mut quiet, &mut backoff) => result,
                () = shutdown.cancelled() => return,
            };
            let Err(error) = result;
            quiet.journal_lost();
            let pause = backoff.next_pause();
            tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "the feed lost the journal; its position is kept");
            metrics::counter!("vestnik_feed_reconnects_total").increment(1);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Connects, and reads on every wake until something breaks.
    async fn follow(
        &self,
        place: &mut Option<FeedState>,
        quiet: &mut WakeupDriver,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, journal::ConnectError> {
        let reader = Reader::connect(&self.database).await?;
        // Before the first session is let in: what was missed meanwhile is translated, too.
        if self.sources.current().version == 0 {
            reader.reload(&self.sources).await?;
        }
        let place = match place {
            Some(place) if place.epoch == reader.epoch() => place,
            other => self.begin(other, &reader).await?,
        };
        backoff.reset();
        let mut beside = None;
        let mut wake = WakeReason::Notified;
        // Found by a tick, with no ring since: the notification may still be on its way.
        let mut missed_notifications = 0;
        loop {
            let events = self.read(&reader, place, quiet).await?;
            if self.pulse.beat() {
                self.router.set_stale(false);
            }
            match wake {
                WakeReason::Tick => {
                    self.pulse.miss(missed_notifications);
                    missed_notifications = events;
                }
                WakeReason::Notified | WakeReason::Poll => missed_notifications = 0,
            }
            wake = self.wait(place, &mut beside, quiet).await?;
        }
    }

    /// Waits until it is time to read. What is large_transactions comes in the meantime, a chunk at most: who writes does not wait for
    /// more than one, and what it wrote is read behind it.
    async fn wait(
        &self,
        place: &mut FeedState,
        beside: &mut Option<Beside>,
        quiet: &mut WakeupDriver,
    ) -> Result<WakeReason, journal::ConnectError> {
        loop {
            let Some(large_transactions) = &place.large_transactions else {
                return Ok(quiet.wait().await);
            };
            let chunks = beside.get_or_insert_with(|| {
                let (of, through) = large_transactions.to_stream();
                Beside::new(journal::beside(&self.database, place.epoch, &of, through))
            });
            let chunk = tokio::select! {
                wake = quiet.wait(), if !large_transactions.is_full() => return Ok(wake),
                chunk = chunks.next(&self.router) => chunk?,
            };
            match chunk {
                Some(events) => self.publish_chunk(place, &events).await,
                None => {
                    *beside = None;
                    self.release(place);
                }
            }
            if place
                .large_transactions
                .as_ref()
                .is_none_or(|large_transactions| !large_transactions.is_full())
            {
                return Ok(WakeReason::Poll);
            }
        }
    }

    /// Takes the first position in this life of the database. Had there been another one, every session's cursor
    /// belongs to it: the router lets them go, they come back, and are told to load their lists anew.
    async fn begin<'a>(
        &self,
        place: &'a mut Option<FeedState>,
        reader: &Reader,
    ) -> Result<&'a mut FeedState, journal::ConnectError> {
        let (epoch, read) = (reader.epoch(), reader.now().await?);
        self.router.reach(epoch, &read);
        if place.is_some() {
            tracing::warn!("the database was restored or failed over: every session begins anew");
        }
        Ok(place.insert(FeedState::new(epoch, read)))
    }

    /// Publishes what is new, and moves the position. The number of events.
    async fn read(
        &self,
        reader: &Reader,
        place: &mut FeedState,
        quiet: &mut WakeupDriver,
    ) -> Result<u64, journal::Error> {
        HOT.reads.increment(1);
        loop {
            let news = reader.news(&place.read).await?;
            let News::Read {
                snapshot,
                clock,
                sources,
                events,
                newest,
            } = news
            else {
                quiet.read(None, &[]);
                let outline = reader.outline(&place.read).await?;
                match outline.map_or(Err(TooMany), |outline| place.put_aside(outline)) {
                    Ok(()) => continue,
                    Err(TooMany) => return self.read_too_much(reader, place).await,
                }
            };
            quiet.read(Some((&snapshot, clock)), &events);
            self.refresh_sources(reader, sources).await?;
            let Ok(events) = self.part(reader, place, events).await? else {
                return self.read_too_much(reader, place).await;
            };
            let newest = newest.unwrap_or(place.read.newest()).max(place.read.newest());
            let next = Position::after(&snapshot, newest);
            if events.is_empty() && next == place.read {
                return Ok(0);
            }
            place.read = next;
            self.publish(place, &events).await;
            self.news.notify_one();
            return Ok(events.len() as u64);
        }
    }

    /// Leaves of what was read what nothing that is large_transactions concerns.
    async fn part(
        &self,
        reader: &Reader,
        place: &mut FeedState,
        events: Vec<JournalEvent>,
    ) -> Result<Result<Vec<JournalEvent>, TooMany>, journal::Error> {
        let Some(large_transactions) = &mut place.large_transactions else {
            return Ok(Ok(events));
        };
        let (large, stores) = large_transactions.to_ask(&events);
        let touched = reader.touched(&stores, large).await?;
        Ok(large_transactions.part(events, &touched))
    }

    /// What is new is neither little nor large. Behind something large_transactions that is on its way it waits.
    async fn read_too_much(&self, reader: &Reader, place: &mut FeedState) -> Result<u64, journal::Error> {
        if place.waits_for_aside() {
            return Ok(0);
        }
        self.read_backlog(reader, place).await
    }

    /// Publishes a long backlog as it is streamed. A break in the middle begins it again from the same position: then
    /// events come twice, with the same id, rather than never.
    async fn read_backlog(&self, reader: &Reader, place: &mut FeedState) -> Result<u64, journal::Error> {
        // A connection that streams answers nothing else: what changes meanwhile is seen by the next read.
        reader.reload(&self.sources).await?;
        let mut backlog = reader.backlog(&place.read).await?;
        let mut total = 0;
        let mut reached = place.reached.clone();
        loop {
            let events = backlog.chunks.next().await?;
            let Some(last) = events.last() else { break };
            let through = Cursor::Within {
                before: place.read.clone(),
                seen: backlog.seen.clone(),
                through: last.id,
            };
            self.hand_over(place.epoch, &events, &reached, &through).await;
            total += events.len() as u64;
            reached = through;
        }
        self.router.reach(place.epoch, &backlog.seen);
        *place = FeedState::new(place.epoch, backlog.seen);
        self.news.notify_one();
        Ok(total)
    }

    /// Publishes a part of what is large_transactions.
    async fn publish_chunk(&self, place: &mut FeedState, events: &[JournalEvent]) {
        if let (Some(large_transactions), Some(last)) = (&mut place.large_transactions, events.last()) {
            large_transactions.reach(last.id);
            self.publish(place, events).await;
            self.news.notify_one();
        }
    }

    /// What was large_transactions is through.
    fn release(&self, place: &mut FeedState) {
        if place.release() {
            self.router.reach(place.epoch, &place.read);
        }
    }

    async fn publish(&self, place: &mut FeedState, events: &[JournalEvent]) {
        let before = place.advance();
        self.hand_over(place.epoch, events, &before, &place.reached).await;
    }

    /// Looks up what the rows do not say, for the stores that have a session here, and hands them over.
    async fn hand_over(&self, epoch: Epoch, events: &[JournalEvent], before: &Cursor, after: &Cursor) {
        count(events);
        loop {
            let sources = self.sources.current();
            let watched = self.router.watched(events);
            let needs_lookup = !sources.to_look_up(&watched).is_empty();
            let lookups = self.lookup.for_events(&sources, &watched).await;
            let translation = Translation {
                sources: &sources,
                lookups: &lookups,
                looked_up: needs_lookup.then(|| watched.iter().filter_map(|event| event.store.clone()).collect()),
            };
            let published = self.router.publish(epoch, events, before, after, &translation);
            if published != Err(Newcomer) {
                break;
            }
        }
        if events.iter().any(is_truncate) {
            self.router.resync(None);
        }
    }

    /// Loads the sources anew where another version is in force. Lists that were read otherwise are out of date then.
    async fn refresh_sources(&self, reader: &Reader, version: i64) -> Result<(), journal::Error> {
        if self.sources.current().version != version {
            let before = reader.reload(&self.sources).await?;
            tracing::info!(version, "the sources have changed");
            match self.sources.current().changes_since(&before) {
                Changes::All => self.router.resync(None),
                Changes::Stores(stores) => self.router.resync(Some(&stores)),
            }
        }
        Ok(())
    }
}

fn is_truncate(event: &JournalEvent) -> bool {
    matches!(
        &event.body,
        Body::Write(RowWrite {
            write: Write::Truncate,
            ..
        })
    )
}

fn count(events: &[JournalEvent]) {
    for event in events {
        HOT.journal_events[crate::infra::metrics::journal_type(event)].increment(1);
        if event.store.is_none() && !is_truncate(event) {
            metrics::counter!("vestnik_events_without_store_total").increment(1);
        }
    }
}
