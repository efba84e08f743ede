//! One live client. It first gets the events that it missed, and then live ones. `ws` and `sse` are the transports.
//!
//! A session subscribes first, and reads the missed events second. It leaves out live events that the read covered, so
//! there is no gap and no repeat between the replay and the live events.

mod clock;
mod frame_meter;
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

use secrecy::ExposeSecret as _;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use clock::{Clock, Due};
pub use hub::Hub;
pub use messages::Close;
use messages::{FromClient, Mistake};
use panel::Panel;
pub use transport::{Incoming, Outgoing, Transport};

use crate::domain::cursor::Position;
use crate::domain::event::{EventId, StoreId};
use crate::fanout::router::{End, Part, Published, Queued, Refused, Subscription};
use crate::infra::metrics::HOT;
use crate::receipts::acknowledgement::{self, Acknowledged};
use crate::receipts::writer::{Channel, Receipt, ReceiptKind};
use crate::token::{Grant, Scope, TokenId, Withdrawn};

/// Bytes after which written data is flushed. It limits the buffer of a client, however long its queue is.
const FLUSH_BYTES: usize = 256 * 1024;
/// Maximum time for a client to read the flushed data.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Maximum time for saving an acknowledgement. The session waits meanwhile.
const ACK_DEADLINE: Duration = Duration::from_secs(2);

/// One live client, from its subscription to its end.
pub struct Session {
    hub: Arc<Hub>,
    store: StoreId,
    grant: Arc<Grant>,
    name: String,
    subscription: Subscription,
    /// The position that the replay covered. Live events that it covers were sent already.
    replayed: Option<Position>,
    /// Whether the client is a panel, by its own messages. Receipts are recorded only for panels.
    panel: Panel,
    /// Whether the client knows that this node cannot read the journal. Meanwhile it gets no heartbeat.
    is_stale: bool,
}

impl Session {
    /// Makes the client a panel with this name. Its stream carries no messages to the server, so events count as sent
    /// to the panel.
    pub fn name_panel(&mut self, token: TokenId, name: &str) {
        name.clone_into(&mut self.name);
        self.panel = Panel::Stream(self.hub.panel_streams.open(&self.store, token, name));
    }

    /// Subscribes to a store. The session receives every event after its subscription's cursor.
    pub fn open(hub: &Arc<Hub>, store: StoreId, grant: Arc<Grant>) -> Result<Box<Self>, Refused> {
        let subscription = hub.router.subscribe(&store, grant.holder())?;
        let name = format!("{:016x}", fastrand::u64(..));
        // The session is boxed. Moving it into a future would reserve room for it twice.
        Ok(Box::new(Self {
            hub: Arc::clone(hub),
            store,
            grant,
            name,
            subscription,
            replayed: None,
            panel: Panel::Unknown,
            is_stale: false,
        }))
    }

    /// Serves the client until the session ends, then tells it the reason. `after` is the cursor of an earlier session.
    pub async fn run(mut self: Box<Self>, after: Option<String>, transport: &mut impl Transport) -> Close {
        let Err(why) = self.serve(after, transport).await;
        transport.close(why).await;
        if !self.store.is_canary() {
            metrics::counter!("vestnik_sessions_closed_total", "code" => why.code().to_string()).increment(1);
        }
        tracing::debug!(session = self.name, store = %self.store, code = why.code(), "session ended");
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
            self.store.as_str(),
            &self.name,
            after.as_deref().unwrap_or(&cursor),
            interval_s,
            self.hub.router.reconnect_jitter().as_millis() as u64,
        );
        self.put(Outgoing::Message(connected), transport).await?;
        if let Some(after) = after {
            // Boxed for the reason that `live` gives.
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
                    // While the journal cannot be read, no ping is sent, so a silent client is not counted.
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

    /// Ends the session if its token has expired. It is called before each part, so that nothing is sent afterwards.
    fn check_token(&self) -> Result<(), Close> {
        match self.grant.ends {
            Some(ends) if ends <= std::time::Instant::now() => Err(Close::TokenExpired),
            _ => Ok(()),
        }
    }

    /// Sends a batch, and the batches that are queued after it, in one write. A long batch is sent in parts, each with
    /// its own deadline.
    async fn send<T: Transport>(&mut self, queued: Queued, transport: &mut T) -> Result<(), Close> {
        let mut sent = Vec::new();
        let mut oldest: Option<OffsetDateTime> = None;
        let mut gathered = 0;
        let mut next = Some(queued);
        while let Some(queued) = next {
            let batch = match queued {
                Queued::Batch(batch) => batch,
                Queued::Resync(cursor) => {
                    // Boxed for the reason that `live` gives.
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
            .for_each(|id| self.prove(id, T::CHANNEL, ReceiptKind::Sent));
        if !self.store.is_canary() {
            HOT.latency
                .record((OffsetDateTime::now_utc() - oldest).as_seconds_f64().max(0.0));
        }
        Ok(())
    }

    /// Tells the client to reload its lists, because the sources have changed.
    async fn send_resync(&mut self, cursor: Arc<str>, transport: &mut impl Transport) -> Result<(), Close> {
        let message = messages::resync_required(messages::SOURCES_CHANGED, &cursor);
        self.send_now(Outgoing::WithCursor(cursor, message), transport).await
    }

    async fn send_now(&self, message: Outgoing, transport: &mut impl Transport) -> Result<(), Close> {
        self.put(message, transport).await?;
        self.flush(transport).await
    }

    /// Writes some events of a batch, without those that the replay has already sent.
    async fn put_part<T: Transport>(
        &mut self,
        part: Part<'_>,
        oldest: &mut Option<OffsetDateTime>,
        sent: &mut Vec<EventId>,
        transport: &mut T,
    ) -> Result<(), Close> {
        let replayed = self.replayed.as_ref();
        let is_new = |event: &&Published| !replayed.is_some_and(|seen| seen.covers(event.xid));
        let new = || part.events.iter().filter(is_new);
        let count = new().count();
        if !self.store.is_canary() {
            HOT.live.increment(count as u64);
        }
        *oldest = oldest.or_else(|| new().next().map(|event| event.at));
        if !matches!(self.panel, Panel::Unknown) {
            sent.extend(new().map(|event| event.id));
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

    /// Waits until the client has taken the data. Fails at the deadline, or when the router ends the session.
    async fn written(&self, write: impl Future<Output = Result<(), Close>>) -> Result<(), Close> {
        tokio::select! {
            biased;
            written = timeout(WRITE_DEADLINE, write) => written.unwrap_or(Err(Close::Lagged)),
            end = self.subscription.let_go() => Err(close_for(end)),
        }
    }

    /// Sends a ping, and the newest cursor. A cursor may be sent only after all events that it covers. So the session
    /// takes the cursor, sends the whole queue, and then sends the cursor.
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

    async fn receive<T: Transport>(&mut self, incoming: Incoming, transport: &mut T) -> Result<(), Close> {
        let text = match incoming {
            Incoming::Alive => return Ok(()),
            Incoming::Closed(why) => return Err(why),
            Incoming::Text(text) => text,
        };
        let answer = match serde_json::from_str(&text) {
            Ok(FromClient::Ping) => Some(messages::pong()),
            Ok(FromClient::Token { token }) => Some(self.renew(token.expose_secret()).await?),
            Ok(_) if self.grant.scope < Scope::Panel => Some(messages::error(Mistake::OtherScope(Scope::Panel), None)),
            Ok(FromClient::Ack { id }) => match id.parse() {
                Ok(id) => self
                    .acknowledge(EventId(id), T::CHANNEL)
                    .await
                    .map(|mistake| messages::error(mistake, Some(EventId(id)))),
                Err(_) => Some(messages::error(Mistake::BadMessage, None)),
            },
            Ok(FromClient::Panel { rings }) => {
                self.panel = match rings {
                    true => Panel::Rings(self.hub.presence.enter(&self.store)),
                    false => Panel::Silent,
                };
                None
            }
            Ok(FromClient::Rendered { id }) => self.record_receipt(&id, T::CHANNEL, ReceiptKind::Rendered),
            Ok(FromClient::Sounded { id }) => self.record_receipt(&id, T::CHANNEL, ReceiptKind::Sounded),
            Err(_) => Some(messages::error(Mistake::BadMessage, None)),
        };
        if let Some(answer) = answer {
            self.put(Outgoing::Message(answer), transport).await?;
            self.flush(transport).await?;
        }
        Ok(())
    }

    /// Records the panel's receipt for an event. Returns an error message for the client if the id is invalid.
    fn record_receipt(&self, id: &str, channel: Channel, what: ReceiptKind) -> Option<Utf8Bytes> {
        match id.parse() {
            Ok(id) => {
                self.prove(EventId(id), channel, what);
                None
            }
            Err(_) => Some(messages::error(Mistake::BadMessage, None)),
        }
    }

    fn prove(&self, event: EventId, channel: Channel, what: ReceiptKind) {
        self.hub.recorder.record(Receipt {
            store: self.store.clone(),
            event,
            channel,
            recipient: self.name.clone(),
            token: self.grant.id,
            what,
            at: OffsetDateTime::now_utc(),
        });
    }

    async fn acknowledge(&self, id: EventId, channel: Channel) -> Option<Mistake> {
        let by = acknowledgement::By {
            token: self.grant.id,
            label: self.grant.label.as_deref(),
            session: &self.name,
            channel,
        };
        let sources = self.hub.sources.current();
        let stored = Box::pin(acknowledgement::store(
            &self.hub.token_pool,
            &sources,
            &self.store,
            id,
            by,
        ));
        match timeout(ACK_DEADLINE, stored).await {
            Ok(Ok(Acknowledged::Stored)) => None,
            Ok(Ok(Acknowledged::UnknownEvent)) => Some(Mistake::UnknownEvent),
            Ok(Err(error)) => {
                tracing::warn!(%error, session = self.name, "an acknowledgement was not stored");
                Some(Mistake::AckNotStored)
            }
            Err(_) => Some(Mistake::AckNotStored),
        }
    }
}

fn close_for(end: End) -> Close {
    match end {
        End::Lagged => Close::Lagged,
        // A changed scope or expiry needs a new session.
        End::Draining | End::Withdrawn(Withdrawn::Changed) => Close::Draining,
        End::Withdrawn(Withdrawn::Expired) => Close::TokenExpired,
        End::Withdrawn(Withdrawn::Revoked) => Close::TokenRevoked,
    }
}
