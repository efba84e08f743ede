//! Handles the messages that a client sends, and sends the responses.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::messages::{self, FromClient, Mistake};
use super::{Close, Incoming, Outgoing, Panel, Session, Transport};
use crate::domain::event::{EventId, StoreId};
use crate::fanout::router::Selection;
use crate::receipts::acknowledgement::{self, Acknowledged};
use crate::receipts::writer::{Channel, ReceiptKind};
use crate::token::Scope;

/// Maximum time for saving an acknowledgement. During this time, the session sends nothing.
const ACK_DEADLINE: Duration = Duration::from_secs(2);

impl Session {
    pub(super) async fn receive<T: Transport>(&mut self, incoming: Incoming, transport: &mut T) -> Result<(), Close> {
        let text = match incoming {
            Incoming::Alive => return Ok(()),
            Incoming::Closed(why) => return Err(why),
            Incoming::Text(text) => text,
        };
        let answer = match serde_json::from_str(&text) {
            Ok(FromClient::Ping) => Some(messages::pong()),
            Ok(FromClient::Token { token }) => Some(self.renew(token.expose_secret()).await?),
            Ok(_) if self.grant.scope < Scope::Panel => Some(messages::error(Mistake::OtherScope(Scope::Panel), None)),
            Ok(FromClient::Ack { id, store_id }) => Some(self.acknowledge(&id, store_id, T::CHANNEL).await),
            Ok(FromClient::Panel { rings }) => {
                self.panel = match (&self.selection, rings) {
                    (Selection::Store(store), true) => Panel::Rings(self.hub.presence.enter(store)),
                    // A session of several stores belongs to no single kitchen, so it does not count as a panel that
                    // can ring.
                    _ => Panel::Silent,
                };
                None
            }
            Ok(FromClient::Rendered { id, store_id }) => {
                self.record_receipt(&id, store_id, T::CHANNEL, ReceiptKind::Rendered)
            }
            Ok(FromClient::Sounded { id, store_id }) => {
                self.record_receipt(&id, store_id, T::CHANNEL, ReceiptKind::Sounded)
            }
            Err(_) => Some(messages::error(Mistake::BadMessage, None)),
        };
        if let Some(answer) = answer {
            self.put(Outgoing::Message(answer), transport).await?;
            self.flush(transport).await?;
        }
        Ok(())
    }

    /// Records a receipt for an event that the client names. `None`: the receipt is recorded. `Some`: the error message
    /// for the client.
    fn record_receipt(
        &self,
        id: &str,
        store: Option<String>,
        channel: Channel,
        what: ReceiptKind,
    ) -> Option<Utf8Bytes> {
        match self.event(id, store) {
            Ok((store, id)) => {
                self.record(store, id, channel, what);
                None
            }
            Err(error) => Some(error),
        }
    }

    /// Finds the store and the id of the event to which a message refers. In a session of several stores, the message
    /// must name the store. `Err`: the error message for the client.
    fn event(&self, id: &str, named: Option<String>) -> Result<(StoreId, EventId), Utf8Bytes> {
        let id = id.parse().map_err(|_| messages::error(Mistake::BadMessage, None))?;
        let store = match (&self.selection, named.as_deref().map(StoreId::new)) {
            (Selection::Store(own), None) => own.clone(),
            (Selection::Store(own), Some(named)) if *own == named => named,
            (Selection::Many(many), Some(named)) if many.stores.has(&named) => named,
            (Selection::Many(_), None) => return Err(messages::error(Mistake::NoStore, Some(id))),
            (_, Some(_)) => return Err(messages::error(Mistake::UnknownEvent, Some(id))),
        };
        Ok((store, id))
    }

    /// Saves an acknowledgement. Returns the response for the client: a confirmation or an error message.
    async fn acknowledge(&self, id: &str, store: Option<String>, channel: Channel) -> Utf8Bytes {
        let (store, id) = match self.event(id, store) {
            Ok(event) => event,
            Err(error) => return error,
        };
        let by = acknowledgement::By {
            token: self.grant.id,
            label: self.grant.label.as_deref(),
            session: &self.name,
            channel,
        };
        let sources = self.hub.sources.current();
        let saved = Box::pin(acknowledgement::save(&self.hub.token_pool, &sources, &store, id, by));
        match timeout(ACK_DEADLINE, saved).await {
            Ok(Ok(Acknowledged::Saved)) => messages::acknowledged(id),
            Ok(Ok(Acknowledged::UnknownEvent)) => messages::error(Mistake::UnknownEvent, Some(id)),
            Ok(Err(error)) => {
                tracing::warn!(%error, session = self.name, "an acknowledgement was not saved");
                messages::error(Mistake::AckNotSaved, Some(id))
            }
            Err(_) => messages::error(Mistake::AckNotSaved, Some(id)),
        }
    }
}
