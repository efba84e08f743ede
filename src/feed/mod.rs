//! Turns wakes and reads of the journal into one stream of events in order. One task, one source.
//!
//! A wake only says "look": many that come during one read fold into the next, so reads batch by themselves under
//! load. The position stays in memory when a connection breaks, so what was committed meanwhile is read after it.
//! `quiet` says when to read: when it is rung, or, where ringing would cost the shop more, again and again.

mod load;
mod mode;
mod nap;
mod quiet;
#[cfg(test)]
mod simulation;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::config::Database;
use crate::cursor::{Cursor, Epoch, Position};
use crate::event::Event;
use crate::journal::{self, News, Reader};
use crate::listener::{Bell, Hearing};
use crate::router::Router;
use quiet::{Quiet, Wake};

/// A position older than this is not fresh: [`Pulse::is_fresh`].
const FRESH_FOR: Duration = Duration::from_secs(5);

/// When the feed last stood where the journal stands.
#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    /// Milliseconds from `began`; 0: never.
    last_read: AtomicU64,
    /// Events that nothing rang for.
    unrung: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            last_read: AtomicU64::new(0),
            unrung: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    fn beat(&self) {
        let now = self.began.elapsed().as_millis() as u64;
        self.last_read.store(now.max(1), Ordering::Relaxed);
    }

    fn miss(&self, events: u64) {
        self.unrung.fetch_add(events, Ordering::Relaxed);
        metrics::counter!("vestnik_feed_unrung_events_total").increment(events);
    }

    /// Events that a sleeping feed found though nothing rang for them. A defect, where it is not 0.
    pub fn unrung(&self) -> u64 {
        self.unrung.load(Ordering::Relaxed)
    }

    /// Whether the journal was read within the last seconds.
    pub fn is_fresh(&self) -> bool {
        let last = self.last_read.load(Ordering::Relaxed);
        last != 0 && self.began.elapsed() < Duration::from_millis(last) + FRESH_FOR
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
    pub pulse: Arc<Pulse>,
    /// Rung when it has read something: the durable sends plan then.
    pub news: Arc<Notify>,
}

/// Where the feed stands.
struct Place {
    epoch: Epoch,
    position: Position,
}

impl Feed {
    /// Reads until the shutdown, coming back by itself.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut place = None;
        let mut quiet = Quiet::new(
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
        place: &mut Option<Place>,
        quiet: &mut Quiet,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, journal::ConnectError> {
        let reader = Reader::connect(&self.database).await?;
        let place = match place {
            Some(place) if place.epoch == reader.epoch() => place,
            other => self.begin(other, &reader).await?,
        };
        backoff.reset();
        let mut wake = Wake::Rung;
        // Found by a tick, with no ring since: the notification may still be on its way.
        let mut unrung = 0;
        loop {
            let events = self.read(&reader, place, quiet).await?;
            self.pulse.beat();
            match wake {
                Wake::Tick => {
                    self.pulse.miss(unrung);
                    unrung = events;
                }
                Wake::Rung | Wake::Poll => unrung = 0,
            }
            wake = quiet.wait().await;
        }
    }

    /// Takes the first position in this life of the database. Had there been another one, every session's cursor
    /// belongs to it: the router lets them go, they come back, and are told to load their lists anew.
    async fn begin<'a>(
        &self,
        place: &'a mut Option<Place>,
        reader: &Reader,
    ) -> Result<&'a mut Place, journal::ConnectError> {
        let (epoch, position) = (reader.epoch(), reader.now().await?);
        self.router.reach(epoch, &position);
        if place.is_some() {
            tracing::warn!("the database was restored or failed over: every session begins anew");
        }
        Ok(place.insert(Place { epoch, position }))
    }

    /// Publishes what the position does not cover, and moves it. The number of events.
    async fn read(&self, reader: &Reader, place: &mut Place, quiet: &mut Quiet) -> Result<u64, journal::Error> {
        metrics::counter!("vestnik_journal_reads_total").increment(1);
        match reader.news(&place.position).await? {
            News::Read {
                snapshot,
                clock,
                events,
                newest,
            } => {
                quiet.read(Some((&snapshot, clock)), &events);
                let newest = newest.unwrap_or(place.position.newest()).max(place.position.newest());
                let next = Position::after(&snapshot, newest);
                if events.is_empty() && next == place.position {
                    return Ok(0);
                }
                let (before, after) = (Cursor::At(place.position.clone()), Cursor::At(next.clone()));
                count(&events);
                self.router.publish(place.epoch, &events, &before, &after);
                place.position = next;
                self.news.notify_one();
                Ok(events.len() as u64)
            }
            News::TooMuch => {
                quiet.read(None, &[]);
                self.read_backlog(reader, place).await
            }
        }
    }

    /// Publishes a long backlog as it is streamed. A break in the middle begins it again from the same position: then
    /// events come twice, with the same id, rather than never.
    async fn read_backlog(&self, reader: &Reader, place: &mut Place) -> Result<u64, journal::Error> {
        let mut backlog = reader.backlog(&place.position).await?;
        let mut total = 0;
        let mut reached = Cursor::At(place.position.clone());
        loop {
            let events = backlog.chunk().await?;
            let Some(last) = events.last() else { break };
            let through = Cursor::Within {
                before: place.position.clone(),
                seen: backlog.seen.clone(),
                through: last.id,
            };
            count(&events);
            self.router.publish(place.epoch, &events, &reached, &through);
            total += events.len() as u64;
            reached = through;
        }
        self.router.reach(place.epoch, &backlog.seen);
        place.position = backlog.seen;
        self.news.notify_one();
        Ok(total)
    }
}

fn count(events: &[Event]) {
    for event in events {
        metrics::counter!("vestnik_events_total", "type" => event.kind.as_str()).increment(1);
        if event.store.is_none() {
            metrics::counter!("vestnik_events_without_store_total").increment(1);
        }
    }
}
