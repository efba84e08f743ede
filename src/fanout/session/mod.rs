//! A session: one connected client. The client first gets the events that it missed (the replay), and then live events.
//! `ws` and `sse` are the transports.
//!
//! A session first subscribes to live events, and then reads the missed events. It skips live events that the replay
//! has already sent. So no event is missing or repeated between the replay and the live events.

mod client_message;
mod frame_meter;
mod heartbeat_and_expiry;
mod hub;
mod messages;
mod panel;
mod renewal;
mod replay;
pub mod socket;
pub mod sse;
mod transport;
mod write_buffer;
pub mod ws;

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::timeout;

use heartbeat_and_expiry::{Clock, Due};
pub use hub::Hub;
pub use messages::Close;
use panel::Panel;
pub use transport::{Incoming, Outgoing, Transport};

use crate::domain::cursor::ReplayEnd;
use crate::domain::event::{EventId, StoreId};
use crate::fanout::router::{BatchPart, End, ManyStores, Published, Queued, Refused, Selection, Subscription};
use crate::infra::metrics::HOT;
use crate::receipts::writer::{Channel, Receipt, ReceiptKind};
use crate::token::{Grant, TokenId, TokenInvalidated};

/// Number of bytes after which the session flushes its writes, so that it needs little memory, even if its queue is
/// long.
const FLUSH_BYTES: usize = 256 * 1024;
/// Maximum time for a client to receive flushed data.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// The session of one connected client, from its subscription to its end.
pub struct Session {
    hub: Arc<Hub>,
    selection: Selection,
    grant: Arc<Grant>,
    name: String,
    subscription: Subscription,
    /// The end of the replay. The session skips live events that the replay has already sent. `None`: there was no
    /// replay yet.
    replayed: Option<ReplayEnd>,
    /// Whether the client has said that it is a panel. Receipts are recorded only for panels.
    panel: Panel,
    /// Whether the client was told that this node cannot read the journal. While this is `true`, the client gets no
    /// heartbeat.
    is_stale: bool,
}

impl Session {
    /// Marks the client as a panel. The name comes from the request that opened the stream, because a client of
    /// Server-Sent Events can send no messages. From now on, each event that the session sends is recorded as sent to
    /// the panel.
    pub fn name_panel(&mut self, token: TokenId, name: &str) {
        let Selection::Store(store) = &self.selection else {
            return;
        };
        name.clone_into(&mut self.name);
        self.panel = Panel::Stream(self.hub.panel_streams.open(store, token, name));
    }

    /// Opens a session with a subscription to one store. The session receives every event that the subscription's
    /// cursor does not cover.
    pub fn open(hub: &Arc<Hub>, store: StoreId, grant: Arc<Grant>) -> Result<Box<Self>, Refused> {
        let subscription = hub.router.subscribe(&store, grant.holder())?;
        Ok(Self::of(hub, Selection::Store(store), grant, subscription))
    }

    /// Opens a session with a subscription to several stores. The session receives every event that the subscription's
    /// cursor does not cover.
    pub fn open_many(hub: &Arc<Hub>, many: ManyStores, grant: Arc<Grant>) -> Result<Box<Self>, Refused> {
        let many = Arc::new(many);
        let subscription = hub.router.subscribe_many(&many, grant.holder())?;
        Ok(Self::of(hub, Selection::Many(many), grant, subscription))
    }

    fn of(hub: &Arc<Hub>, selection: Selection, grant: Arc<Grant>, subscription: Subscription) -> Box<Self> {
        let name = format!("{:016x}", fastrand::u64(..));
        // The session is boxed: otherwise each future that the session is moved into reserves memory for it.
        Box::new(Self {
            hub: Arc::clone(hub),
            selection,
            grant,
            name,
            subscription,
            replayed: None,
            panel: Panel::Unknown,
            is_stale: false,
        })
    }

    /// Serves the client until the session ends, and then tells the client the reason. `after` is the client's cursor
    /// from an earlier session. `None`: the client has no cursor, so it gets live events only.
    pub async fn run(mut self: Box<Self>, after: Option<String>, transport: &mut impl Transport) -> Close {
        let Err(why) = self.serve(after, transport).await;
        transport.close(why).await;
        if !self.selection.is_canary() {
            metrics::counter!("vestnik_sessions_closed_total", "code" => why.code().to_string()).increment(1);
        }
        tracing::debug!(session = self.name, store = %self.selection, code = why.code(), "session ended");
        why
    }

    async fn serve<T: Transport>(
        &mut self,
        after: Option<String>,
        transport: &mut T,
    ) -> Result<std::convert::Infallible, Close> {
        let mut cursor = Arc::clone(&self.subscription.cursor);
        let interval_s = self.hub.ping_interval.as_secs();
        let connected = messages::connected(
            &self.selection,
            &self.name,
            after.as_deref().unwrap_or(&cursor),
            interval_s,
            self.hub.router.reconnect_jitter().as_millis() as u64,
        );
        self.put(Outgoing::Message(connected), transport).await?;
        if let Some(after) = after {
            // Boxed, so that an idle session does not reserve memory for this future.
            cursor = Box::pin(self.replay(after, transport)).await?;
        }
        self.put(
            Outgoing::WithCursor(Arc::clone(&cursor), messages::live(&cursor)),
            transport,
        )
        .await?;
        self.flush(transport).await?;
        self.live(transport).await
    }

    async fn live<T: Transport>(&mut self, transport: &mut T) -> Result<std::convert::Infallible, Close> {
        // The futures of rare work are boxed, so that an idle session does not reserve memory for them.
        let mut clock = Clock::new(self.hub.ping_interval, self.grant.ends);
        let mut silent_intervals = 0;
        loop {
            self.check_token()?;
            tokio::select! {
                biased;
                queued = self.subscription.next() => self.send(queued.map_err(close_for)?, transport).await?,
                incoming = transport.receive() => {
                    silent_intervals = 0;
                    let before = Arc::clone(&self.grant);
                    Box::pin(self.receive(incoming, transport)).await?;
                    if !Arc::ptr_eq(&before, &self.grant) {
                        clock.set_end(self.grant.ends);
                    }
                }
                due = clock.next() => match due {
                    Due::End => return Err(Close::TokenExpired),
                    Due::Warning(left) => {
                        self.put(Outgoing::Message(messages::token_expires(left)), transport).await?;
                        self.flush(transport).await?;
                    }
                    // While the node cannot read the journal, it sends no ping. So the client has nothing to answer,
                    // and its silence does not count.
                    Due::Heartbeat if self.is_stale => silent_intervals = 0,
                    Due::Heartbeat => {
                        if T::ANSWERS_PINGS && silent_intervals == 2 {
                            return Err(Close::Lagged);
                        }
                        silent_intervals += 1;
                        Box::pin(self.beat(transport)).await?;
                    }
                },
            }
        }
    }

    /// Returns an error if the session's token has expired. The session calls this method before each step, so that it
    /// sends nothing after the expiry.
    fn check_token(&self) -> Result<(), Close> {
        match self.grant.ends {
            Some(ends) if ends <= std::time::Instant::now() => Err(Close::TokenExpired),
            _ => Ok(()),
        }
    }

    /// Sends a queued item, and then the items that follow it in the queue. Small batches are written together. A large
    /// batch is sent in parts, and each part has its own deadline.
    async fn send<T: Transport>(&mut self, queued: Queued, transport: &mut T) -> Result<(), Close> {
        let mut sent = Vec::new();
        let mut oldest: Option<OffsetDateTime> = None;
        let mut gathered = 0;
        let mut next = Some(queued);
        while let Some(queued) = next {
            let batch = match queued {
                Queued::Batch(batch) => batch,
                Queued::Resync(cursor) => {
                    // Boxed, so that an idle session does not reserve memory for this future.
                    Box::pin(self.send_resync(cursor, transport)).await?;
                    next = self.subscription.try_next();
                    continue;
                }
                Queued::Stale => {
                    self.is_stale = true;
                    Box::pin(self.send_now(Outgoing::Message(messages::STALE.into()), transport)).await?;
                    next = self.subscription.try_next();
                    continue;
                }
                Queued::Fresh(cursor) => {
                    self.is_stale = false;
                    let message = messages::heartbeat(&cursor);
                    Box::pin(self.send_now(Outgoing::WithCursor(cursor, message), transport)).await?;
                    next = self.subscription.try_next();
                    continue;
                }
            };
            for part in batch.parts(FLUSH_BYTES) {
                if gathered >= FLUSH_BYTES {
                    self.flush(transport).await?;
                    gathered = 0;
                }
                gathered += part.frames.len();
                self.put_part(part, &mut oldest, &mut sent, transport).await?;
            }
            next = if gathered < FLUSH_BYTES {
                self.subscription.try_next()
            } else {
                None
            };
        }
        let Some(oldest) = oldest else { return Ok(()) };
        self.flush(transport).await?;
        sent.into_iter()
            .for_each(|(store, id)| self.record(store, id, T::CHANNEL, ReceiptKind::Sent));
        if !self.selection.is_canary() {
            HOT.latency
                .record((OffsetDateTime::now_utc() - oldest).as_seconds_f64().max(0.0));
        }
        Ok(())
    }

    /// Tells the client to reload its lists, because a mapping or a source has changed.
    async fn send_resync(&mut self, cursor: Arc<str>, transport: &mut impl Transport) -> Result<(), Close> {
        let message = messages::resync_required(messages::SOURCES_CHANGED, &cursor);
        self.send_now(Outgoing::WithCursor(cursor, message), transport).await
    }

    async fn send_now(&self, message: Outgoing, transport: &mut impl Transport) -> Result<(), Close> {
        self.put(message, transport).await?;
        self.flush(transport).await
    }

    /// Adds a part of a batch to the transport's buffer. Leaves out events that the replay has already sent.
    async fn put_part<T: Transport>(
        &mut self,
        part: BatchPart<'_>,
        oldest: &mut Option<OffsetDateTime>,
        sent: &mut Vec<(StoreId, EventId)>,
        transport: &mut T,
    ) -> Result<(), Close> {
        let replayed = self.replayed.as_ref();
        let is_new = |event: &&Published| !replayed.is_some_and(|end| end.covers(event.xid, event.id));
        let new = || part.events.iter().filter(is_new);
        let count = new().count();
        if !self.selection.is_canary() {
            HOT.live.increment(count as u64);
        }
        *oldest = oldest.or_else(|| new().next().map(|event| event.at));
        if !matches!(self.panel, Panel::Unknown) {
            sent.extend(new().map(|event| (event.store.clone(), event.id)));
        }
        if count == part.events.len() {
            return transport.feed_part(part).await;
        }
        for event in new() {
            let message = Outgoing::WithCursor(Arc::clone(&event.cursor), event.text.clone());
            self.put(message, transport).await?;
        }
        Ok(())
    }

    async fn put(&self, message: Outgoing, transport: &mut impl Transport) -> Result<(), Close> {
        self.written(transport.feed(message)).await
    }

    async fn flush(&self, transport: &mut impl Transport) -> Result<(), Close> {
        self.written(transport.flush()).await
    }

    /// Waits for a write to the client. Fails if the write exceeds its deadline, or if the router ends the session.
    async fn written(&self, write: impl Future<Output = Result<(), Close>>) -> Result<(), Close> {
        tokio::select! {
            biased;
            written = timeout(WRITE_DEADLINE, write) => written.unwrap_or(Err(Close::Lagged)),
            end = self.subscription.let_go() => Err(close_for(end)),
        }
    }

    /// Sends a ping, and a heartbeat with the newest cursor. A session may send a cursor only after all events that the
    /// cursor covers. So this method takes the cursor first, then sends the whole queue, and then sends the cursor.
    async fn beat(&mut self, transport: &mut impl Transport) -> Result<(), Close> {
        self.put(Outgoing::Ping, transport).await?;
        let cursor = self.subscription.reached().map_err(close_for)?;
        while let Some(queued) = self.subscription.try_next() {
            self.send(queued, transport).await?;
        }
        if self.is_stale {
            return Ok(());
        }
        let message = messages::heartbeat(&cursor);
        self.put(Outgoing::WithCursor(cursor, message), transport).await?;
        self.flush(transport).await
    }

    fn record(&self, store: StoreId, event: EventId, channel: Channel, what: ReceiptKind) {
        self.hub.recorder.record(Receipt {
            store,
            event,
            channel,
            recipient: self.name.clone(),
            token: self.grant.id,
            what,
            at: OffsetDateTime::now_utc(),
        });
    }
}

fn close_for(end: End) -> Close {
    match end {
        End::Lagged => Close::Lagged,
        // The scope or expiry of the token has changed, so the client needs a new session.
        End::Draining | End::TokenInvalidated(TokenInvalidated::Changed) => Close::Draining,
        End::TokenInvalidated(TokenInvalidated::Expired) => Close::TokenExpired,
        End::TokenInvalidated(TokenInvalidated::Revoked) => Close::TokenRevoked,
    }
}
