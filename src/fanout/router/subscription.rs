//! A session's end: what it takes, and how it is let go.

use std::future::poll_fn;
use std::sync::Arc;

use super::session_queue::SessionQueue;
use super::{End, Queued, Refused, Router, held_by};
use crate::domain::event::StoreId;
use crate::token::Holder;

/// A session's end of its queue. Dropping it ends the subscription.
pub struct Subscription {
    pub(super) router: Arc<Router>,
    pub(super) store: StoreId,
    pub(super) number: u64,
    pub(super) link: Arc<SessionQueue>,
    /// What the session had been sent if nothing ever came: the events after it follow.
    pub cursor: Arc<str>,
}

impl Subscription {
    /// The next of what waits; `Err` when the router has let the session go. What still waits then is not sent: the cursor
    /// of what has been sent brings it back.
    pub async fn next(&mut self) -> Result<Queued, End> {
        poll_fn(|context| self.link.poll(context, |link| link.take().transpose())).await
    }

    /// The next of what waits, if anything does.
    pub fn try_next(&mut self) -> Option<Queued> {
        self.link.take_rest()
    }

    /// What the session has been sent once it has taken everything that waits now. `Err` when the router has let it go,
    /// which it does before it says that it has published what it left out: so look at the cursor first.
    pub fn reached(&self) -> Result<Arc<str>, End> {
        let reached = self.router.cursor().unwrap_or_else(|| Arc::clone(&self.cursor));
        match self.link.ended() {
            Some(end) => Err(end),
            None => Ok(reached),
        }
    }

    /// The session is held with another token from now on, if that one may have one more of this store.
    pub fn hold(&self, holder: Holder) -> Result<(), Refused> {
        let mut inner = self.router.lock();
        let Some(subscribers) = inner.stores.get_mut(&self.store) else {
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

    /// Resolves when the router lets the session go.
    pub async fn let_go(&self) -> End {
        poll_fn(|context| self.link.poll(context, SessionQueue::ended)).await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut inner = self.router.lock();
        let Some(subscribers) = inner.stores.get_mut(&self.store) else {
            return;
        };
        let before = subscribers.len();
        subscribers.retain(|subscriber| subscriber.number != self.number);
        let gone = before - subscribers.len();
        if subscribers.is_empty() {
            inner.stores.remove(&self.store);
        }
        inner.sessions -= gone;
    }
}
