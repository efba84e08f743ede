//! Lists the tokens of this node's sessions, and ends sessions whose token is no longer valid.

use std::collections::BTreeMap;

use super::{End, Router, Selection, Subscriber};
use crate::token::{Holder, TokenId, TokenInvalidated};

impl Router {
    /// The distinct tokens of this node's sessions.
    pub fn tokens(&self) -> Vec<TokenId> {
        self.sessions_by_token().into_keys().collect()
    }

    /// The number of sessions of each token on this node, without the sessions of the self-test (canary).
    pub fn sessions_by_token(&self) -> BTreeMap<TokenId, usize> {
        let mut sessions = BTreeMap::new();
        for subscriber in self.lock().all() {
            *sessions.entry(subscriber.holder.token).or_default() += 1;
        }
        sessions.remove(&TokenId::CANARY);
        sessions
    }

    /// Calls `why` for each session, and ends the session if `why` returns a reason.
    pub fn close_sessions_of(&self, why: impl Fn(&Selection, Holder) -> Option<TokenInvalidated>) {
        for subscriber in self.lock().all() {
            if let Some(why) = why(&subscriber.selection, subscriber.holder) {
                // The subscriber is removed later, when the session drops its subscription.
                subscriber.link.end(End::TokenInvalidated(why));
            }
        }
    }
}

/// The number of these subscribers whose sessions use this token.
pub(super) fn held_by(subscribers: &[Subscriber], token: TokenId) -> usize {
    let of_token = subscribers.iter().filter(|subscriber| subscriber.holder.token == token);
    of_token.count()
}
