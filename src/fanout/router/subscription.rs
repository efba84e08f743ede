//! The subscription of a session to events. The session takes events from its queue, and the router fills the queue.

use std::future::poll_fn;
use std::sync::Arc;

use super::session_queue::SessionQueue;
use super::{End, Queued, Refused, Router, Selection, held_by};
use crate::token::Holder;

/// The subscription of a session to the events of one or several stores. Dropping this value ends the subscription.
pub struct Subscription {
    pub(super) router: Arc<Router>,
    pub(super) selection: Selection,
    pub(super) number: u64,
    pub(super) link: Arc<SessionQueue>,
    /// The newest cursor at the start of the subscription. The subscription receives all events that this cursor does
    /// not cover.
    pub cursor: Arc<str>,
}

impl Subscription {
    /// Waits for the next item of the queue. `Err`: the router has ended the session. The remaining items are then not
    /// sent, and the client reconnects with the cursor of the last sent event.
    pub async fn next(&mut self) -> Result<Queued, End> {
        poll_fn(|context| self.link.poll(context, |link| link.take().transpose())).await
    }

    /// Takes the next item of the queue without waiting. `None`: the queue is empty.
    pub fn try_next(&mut self) -> Option<Queued> {
        self.link.take_rest()
    }

    /// Returns the cursor that covers all events in the queue. The session may send this cursor after it has sent all
    /// items that are in the queue now. `Err`: the router has ended the session, so the cursor may cover a batch that
    /// did not fit into the queue.
    pub fn reached(&self) -> Result<Arc<str>, End> {
        let reached = self.router.cursor().unwrap_or_else(|| Arc::clone(&self.cursor));
        match self.link.ended() {
            Some(end) => Err(end),
            None => Ok(reached),
        }
    }

    /// Assigns the session to another token. Fails if the store has the maximum number of sessions with that token, or
    /// if the router has ended the session.
    pub fn hold(&self, holder: Holder) -> Result<(), Refused> {
        let mut inner = self.router.lock();
        let Some(subscribers) = inner.group(&self.selection) else {
            return Err(Refused::Draining);
        };
        let has_more = held_by(subscribers, holder.token) >= self.router.max_per_token;
        let mut ours = subscribers
            .iter_mut()
            .filter(|subscriber| subscriber.number == self.number);
        match ours.next() {
            Some(ours) if ours.holder.token == holder.token || !has_more => ours.holder = holder,
            Some(_) => return Err(Refused::TooMany),
            None => return Err(Refused::Draining),
        }
        Ok(())
    }

    /// Waits until the router ends the session. Returns the reason.
    pub async fn let_go(&self) -> End {
        poll_fn(|context| self.link.poll(context, SessionQueue::ended)).await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut inner = self.router.lock();
        let Some(subscribers) = inner.group(&self.selection) else {
            return;
        };
        let before = subscribers.len();
        subscribers.retain(|subscriber| subscriber.number != self.number);
        let gone = before - subscribers.len();
        if let (true, Selection::Store(store)) = (subscribers.is_empty(), &self.selection) {
            inner.stores.remove(store);
        }
        inner.sessions -= gone;
    }
}
