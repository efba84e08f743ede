//! The feed reads the journal whenever it is woken, and passes the new events to the router. Each database has one task
//! for its feed.
//!
//! If the feed is woken several times during a read, only one further read follows. So under load, each read returns
//! many events. When its connection fails, the feed keeps its position: the transactions that it has read. So after an
//! outage it reads what was committed meanwhile. `wakeup` decides when to read: when a notification arrives, or by
//! polling if NOTIFY would cost the shop more than polling. `large_transactions` publishes the events of large
//! transactions in chunks between the reads.

mod chunk_publisher;
mod feed_state;
mod in_flight;
mod large_transactions;
pub mod listener;
mod precise_sleep;
pub mod repeated_lookups;
#[cfg(test)]
mod simulation;
pub mod suppression_locks;
mod suppression_state;
mod wakeup;
mod without_store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::cursor::{Cursor, Epoch, Position};
use crate::domain::event::{Body, JournalEvent, RowWrite, Write};
use crate::fanout::router::{NotLookedUp, Router, Translation};
use crate::feed::listener::{ListenState, ListenerSignals};
use crate::infra::backoff::Backoff;
use crate::infra::config::Database;
use crate::infra::metrics::HOT;
use crate::journal::{self, News, Reader, Witnesses};
use crate::sources::Sources;
use crate::sources::lookup::Lookup;
use crate::sources::registry::Registry;
use crate::sources::{Changes, overwrite_finder};
use chunk_publisher::ChunkPublisher;
use feed_state::FeedState;
use large_transactions::TooMany;
use wakeup::{WakeReason, WakeupDriver};

/// If the feed's last read is older than this, the feed counts as stale (see [`FeedHealth::is_fresh`]).
const FRESH_FOR: Duration = Duration::from_secs(5);

/// The time of the feed's last read of the journal, and the number of events whose notification did not arrive.
#[derive(Debug)]
pub struct FeedHealth {
    began: Instant,
    /// Time of the last read, in milliseconds after `began`; 0: the journal was never read.
    last_read: AtomicU64,
    /// Number of events that the feed found only by a fallback read, because no notification had arrived.
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
    /// Records a read of the journal. Returns whether the feed was stale before the read.
    fn record_read(&self) -> bool {
        let was_stale = !self.is_fresh();
        let now = self.began.elapsed().as_millis() as u64;
        self.last_read.store(now.max(1), Ordering::Relaxed);
        was_stale
    }

    fn record_missed(&self, events: u64) {
        self.missed_notifications.fetch_add(events, Ordering::Relaxed);
        metrics::counter!("vestnik_missed_notification_events_total").increment(events);
    }

    /// Number of events that the feed found only by a fallback read, because no notification had arrived. A number
    /// above 0 indicates a defect.
    pub fn missed_notifications(&self) -> u64 {
        self.missed_notifications.load(Ordering::Relaxed)
    }

    /// Whether the journal was read within the last five seconds.
    pub fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < FRESH_FOR)
    }

    /// Time since the last read of the journal; `None`: the journal was not read yet.
    pub fn age(&self) -> Option<Duration> {
        let last = self.last_read.load(Ordering::Relaxed);
        (last != 0).then(|| self.began.elapsed().saturating_sub(Duration::from_millis(last)))
    }
}

/// The feed of one database: reads the journal and publishes its events.
pub struct Feed {
    /// The connection settings of the journal's database.
    pub database: Database,
    /// The listener's signals, which wake the feed.
    pub signals: Arc<ListenerSignals>,
    /// Whether notifications of Postgres reach this node.
    pub listen_state: watch::Receiver<ListenState>,
    /// The address of Postgres for LISTEN, and for locks that belong to a Postgres session. It must not lead through a
    /// connection pooler, which supports neither.
    pub listen_url: SecretString,
    /// The router, which hands the events to sessions.
    pub router: Arc<Router>,
    /// Records when the feed last read the journal.
    pub health: Arc<FeedHealth>,
    /// Signals each read that found events. The tasks that enqueue deliveries and post webhooks wait for this signal.
    pub new_events: watch::Sender<()>,
    /// The attached tables of the shop. Their mappings tell what the columns of the shop's rows mean.
    pub sources: Arc<Registry>,
    /// Looks up values of an order that are not in its own row, such as items.
    pub lookup: Arc<Lookup>,
}

impl Feed {
    /// Reads and publishes events until the shutdown. After each failure, reconnects and continues at the same
    /// position.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut state = None;
        let mut wakeup = WakeupDriver::new(
            Arc::clone(&self.signals),
            self.listen_state.clone(),
            self.listen_url.clone(),
            self.database.fallback_poll_interval,
        );
        let mut backoff = Backoff::new();
        loop {
            let result = tokio::select! {
                result = self.connect_and_read(&mut state, &mut wakeup, &mut backoff) => result,
                () = shutdown.cancelled() => return,
            };
            let Err(error) = result;
            wakeup.journal_lost();
            let pause = backoff.next_pause();
            tracing::warn!(
                %error,
                retry_ms = pause.as_millis() as u64,
                "the feed lost its connection to the journal; it keeps its position and reconnects"
            );
            metrics::counter!("vestnik_feed_reconnects_total").increment(1);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Connects to the journal. Then reads it whenever the feed is woken, until the connection fails.
    async fn connect_and_read(
        &self,
        state: &mut Option<FeedState>,
        wakeup: &mut WakeupDriver,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, journal::ConnectError> {
        let mut reader = Reader::connect(&self.database).await?;
        // The sources are loaded before the first session is admitted, because the first events of a session need a
        // translation, too.
        if self.sources.current().version == 0 {
            self.reload_sources(&reader).await?;
        }
        let continues = match state {
            Some(state) => reader.continues(state.epoch, &state.read, &state.seen).await?,
            None => false,
        };
        let state = match state {
            Some(state) if continues => {
                state.epoch = reader.epoch();
                self.router.follow(state.epoch, &state.reached);
                state
            }
            other => self.start_epoch(other, &reader).await?,
        };
        backoff.reset();
        let mut publisher = None;
        let mut wake = WakeReason::Notified;
        // Number of events that the last fallback poll found: an idle node's read without a notification. The
        // notifications of these events may still arrive, and cause the next wake. If the next wake is a fallback poll
        // as well, the notifications count as missed.
        let mut missed_notifications = 0;
        loop {
            let events = self.read(&reader, state, wakeup).await?;
            if self.health.record_read() {
                self.router.set_stale(false);
            }
            match wake {
                WakeReason::FallbackPoll => {
                    self.health.record_missed(missed_notifications);
                    missed_notifications = events;
                }
                WakeReason::Notified | WakeReason::Poll => missed_notifications = 0,
            }
            wake = self.wait(state, &mut publisher, wakeup).await?;
        }
    }

    /// Waits until the next read is due. Meanwhile publishes chunks of large transactions, at most one before each
    /// read, so that other events wait for one chunk only.
    async fn wait(
        &self,
        state: &mut FeedState,
        publisher: &mut Option<ChunkPublisher>,
        wakeup: &mut WakeupDriver,
    ) -> Result<WakeReason, journal::ConnectError> {
        loop {
            let Some(large_transactions) = &state.large_transactions else {
                return Ok(wakeup.wait().await);
            };
            let chunks = publisher.get_or_insert_with(|| {
                let (of, through) = large_transactions.to_stream();
                ChunkPublisher::new(journal::stream_large_transactions(
                    &self.database,
                    state.epoch,
                    &of,
                    through,
                ))
            });
            let chunk = tokio::select! {
                wake = wakeup.wait(), if !large_transactions.is_full() => return Ok(wake),
                chunk = chunks.next(&self.router) => chunk?,
            };
            match chunk {
                Some(events) => self.publish_chunk(state, &events).await,
                None => {
                    *publisher = None;
                    self.finish_large(state);
                }
            }
            if state
                .large_transactions
                .as_ref()
                .is_none_or(|large_transactions| !large_transactions.is_full())
            {
                return Ok(WakeReason::Poll);
            }
        }
    }

    /// Starts the feed at the end of the journal. This happens when the node starts, and when a restore or failover of
    /// the database has begun a new epoch. Cursors of an earlier epoch are invalid, so the router closes all sessions.
    /// Their clients reconnect and reload their lists.
    async fn start_epoch<'a>(
        &self,
        state: &'a mut Option<FeedState>,
        reader: &Reader,
    ) -> Result<&'a mut FeedState, journal::ConnectError> {
        let (epoch, seen, read) = (reader.epoch(), reader.witness().await?, reader.now().await?);
        self.router.reach(epoch, &read);
        if state.is_some() {
            tracing::warn!("the database was restored or failed over: every session starts again");
        }
        Ok(state.insert(FeedState::new(epoch, read, seen)))
    }

    /// Reads and publishes the new events, and advances the feed's position. Returns the number of published events.
    async fn read(
        &self,
        reader: &Reader,
        state: &mut FeedState,
        wakeup: &mut WakeupDriver,
    ) -> Result<u64, journal::Error> {
        HOT.reads.increment(1);
        loop {
            let read = reader.news(&state.read).await?;
            let News::Read {
                snapshot,
                clock,
                sources,
                events,
                newest,
            } = read
            else {
                wakeup.record_read(None, &[]);
                let sizes = reader.transaction_sizes(&state.read).await?;
                match sizes.map_or(Err(TooMany), |sizes| state.separate_large(sizes)) {
                    Ok(()) => continue,
                    Err(TooMany) => return self.read_many(reader, state).await,
                }
            };
            wakeup.record_read(Some((&snapshot, clock)), &events);
            self.refresh_sources(reader, sources).await?;
            let Some(events) = self.remove_related(reader, state, events).await? else {
                return self.read_many(reader, state).await;
            };
            let newest = newest.unwrap_or(state.read.newest()).max(state.read.newest());
            let next = Position::after(&snapshot, newest);
            if events.is_empty() && next == state.read {
                return Ok(0);
            }
            state.read = next;
            state.seen.read(&events);
            self.publish(state, &events).await;
            self.new_events.send_replace(());
            return Ok(events.len() as u64);
        }
    }

    /// Removes the events that must wait for a large transaction, and returns the other events. `None`: too many
    /// transactions would have to wait.
    async fn remove_related(
        &self,
        reader: &Reader,
        state: &mut FeedState,
        events: Vec<JournalEvent>,
    ) -> Result<Option<Vec<JournalEvent>>, journal::Error> {
        let Some(large_transactions) = &mut state.large_transactions else {
            return Ok(Some(events));
        };
        let (large, stores) = large_transactions.stores_to_look_up(&events);
        let touched = reader.touched(&stores, large).await?;
        Ok(large_transactions.remove_related(events, &touched).ok())
    }

    /// Handles new events that are too many for one read, or that would make too many transactions wait. If events of
    /// large transactions are already published, the new events wait until all events of these transactions are
    /// published. Otherwise the new events are published as a backlog.
    async fn read_many(&self, reader: &Reader, state: &mut FeedState) -> Result<u64, journal::Error> {
        if state.must_wait() {
            return Ok(0);
        }
        self.read_backlog(reader, state).await
    }

    /// Publishes a long backlog in chunks while it is read from the journal. After a failure the feed reads the whole
    /// backlog again. Then sessions receive some events twice, with the same id, and no event is lost.
    async fn read_backlog(&self, reader: &Reader, state: &mut FeedState) -> Result<u64, journal::Error> {
        // The sources are reloaded first, because the backlog occupies the connection until its end. Later changes of
        // the sources take effect at the next read.
        self.reload_sources(reader).await?;
        let mut backlog = reader.backlog(&state.read).await?;
        let mut total = 0;
        let mut seen = Witnesses::default();
        let mut reached = state.reached.clone();
        loop {
            let events = backlog.chunks.next().await?;
            let Some(last) = events.last() else { break };
            let through = Cursor::Within {
                before: state.read.clone(),
                seen: backlog.seen.clone(),
                through: last.id,
            };
            self.translate_and_publish(state.epoch, &events, &reached, &through)
                .await;
            total += events.len() as u64;
            seen.extend(&events);
            reached = through;
        }
        self.router.reach(state.epoch, &backlog.seen);
        *state = FeedState::new(state.epoch, backlog.seen, seen.or(std::mem::take(&mut state.seen)));
        self.new_events.send_replace(());
        Ok(total)
    }

    /// Publishes one chunk of the large transactions' events.
    async fn publish_chunk(&self, state: &mut FeedState, events: &[JournalEvent]) {
        if let (Some(large_transactions), Some(last)) = (&mut state.large_transactions, events.last()) {
            large_transactions.advance_to(last.id);
            self.publish(state, events).await;
            self.new_events.send_replace(());
        }
    }

    /// Ends the stream of large transactions after its last chunk. From now on, new cursors cover these transactions.
    fn finish_large(&self, state: &mut FeedState) {
        if state.finish_large() {
            self.router.reach(state.epoch, &state.read);
        }
    }

    async fn publish(&self, state: &mut FeedState, events: &[JournalEvent]) {
        let before = state.advance();
        self.translate_and_publish(state.epoch, events, &before, &state.reached)
            .await;
    }

    /// Publishes the events to the router. Before that, looks up values that the events' rows lack, but only for stores
    /// that have a session on this node.
    async fn translate_and_publish(&self, epoch: Epoch, events: &[JournalEvent], before: &Cursor, after: &Cursor) {
        count(events);
        let all: Vec<&JournalEvent> = events.iter().collect();
        let sources = self.sources.current();
        without_store::report(&sources, events);
        let overwritten = self.lookup.overwritten(&sources, &all).await;
        overwritten
            .values()
            .for_each(|answer| overwrite_finder::report(&sources, answer));
        loop {
            let sources = self.sources.current();
            let watched = self.router.watched(events);
            let wanted = sources.to_look_up(&watched);
            // All events count here: a store whose first session comes just now needs a look-up, too.
            let needs_lookup = sources.needs_lookup(&all);
            let mut lookups = self.lookup.for_keys(&sources, wanted).await;
            lookups.set_overwritten(overwritten.clone());
            let translation = Translation {
                sources: &sources,
                lookups: &lookups,
                looked_up: needs_lookup.then(|| watched.iter().filter_map(|event| event.store.clone()).collect()),
            };
            let published = self.router.publish(epoch, events, before, after, &translation);
            if published != Err(NotLookedUp) {
                self.lookup.remember_incomplete(&watched, &lookups);
                break;
            }
        }
        if events.iter().any(is_truncate) {
            self.router.resync(None);
        }
    }

    /// Loads the sources (attached tables) from the database, and replaces the previous sources, which it returns.
    async fn reload_sources(&self, reader: &Reader) -> Result<Arc<Sources>, journal::Error> {
        let reloaded = tokio::time::timeout(journal::READ_DEADLINE, self.sources.reload(reader.client())).await;
        reloaded
            .map_err(|_| journal::Error::TimedOut)?
            .map_err(journal::Error::Sources)
    }

    /// If the version of the sources has changed, reloads the sources, and tells the sessions of the affected stores to
    /// reload their lists.
    async fn refresh_sources(&self, reader: &Reader, version: i64) -> Result<(), journal::Error> {
        if self.sources.current().version != version {
            let before = self.reload_sources(reader).await?;
            // The cached events are removed, because the version of the sources also rises when a customer's data is
            // erased from the journal.
            self.router.clear_cache();
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
    for event in events.iter().filter(|event| !event.is_canary()) {
        HOT.journal_events[crate::infra::metrics::journal_type(event)].increment(1);
        if event.store.is_none() && !is_truncate(event) {
            metrics::counter!("vestnik_events_without_store_total").increment(1);
        }
    }
}
