//! Replaces the token of a running session, so that the client does not have to reconnect when its old token expires.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::messages::{self, Mistake};
use super::{Close, Panel, Session};
use crate::fanout::router::Refused;
use crate::infra::telemetry::LogLimit;
use crate::token::{Presented, Scope, Token, TokenLookup};

impl Session {
    /// Replaces the session's token by `token`, if the new token is valid and gives access to the session's stores.
    /// Otherwise the session keeps its old token. Returns the response for the client. `Err`: the session must end.
    pub(super) async fn renew(&mut self, token: &str) -> Result<Utf8Bytes, Close> {
        let begins = Token::beginning(token);
        let Some(presented) = Presented::parse(token) else {
            return Ok(self.refuse("malformed", begins));
        };
        let Ok(looked) = self.hub.tokens.look_up(&presented).await else {
            return Ok(messages::error(Mistake::TokenNotTaken, None));
        };
        let grant = match (looked.found.why_not(), looked.found) {
            (None, TokenLookup::Valid(grant)) if self.selection.is_opened_by(&grant.stores) => grant,
            (why, _) => return Ok(self.refuse(why.unwrap_or("other_store"), begins)),
        };
        match self.subscription.hold(grant.holder()) {
            Ok(()) => {}
            Err(Refused::TooMany) => return Ok(messages::error(Mistake::TokenNotTaken, None)),
            Err(Refused::NotReady | Refused::Draining) => return Err(Close::Draining),
        }
        // From here on, a revocation of the new token ends this session. A revocation during the look-up is missed, so
        // the token is looked up again if any token has changed since.
        if self.hub.tokens.generation() != looked.generation {
            match self.hub.tokens.look_up(&presented).await.map(|looked| looked.found) {
                Ok(TokenLookup::Valid(_)) => {}
                Ok(_) => return Err(Close::TokenRevoked),
                Err(_) => return Err(Close::Draining),
            }
        }
        if grant.scope < Scope::Panel {
            self.panel = Panel::Unknown;
        }
        self.grant = Arc::clone(&grant);
        Ok(messages::token_accepted(grant.ends.map(left)))
    }

    fn refuse(&self, why: &'static str, begins: &str) -> Utf8Bytes {
        static LIMIT: LogLimit = LogLimit::new();
        metrics::counter!("vestnik_tokens_refused_total", "why" => why).increment(1);
        if let Some(unlogged) = LIMIT.allows() {
            tracing::warn!(session = self.name, why, begins, unlogged, "a token was refused");
        }
        messages::error(Mistake::TokenRefused, None)
    }
}

fn left(ends: Instant) -> Duration {
    ends.saturating_duration_since(Instant::now())
}
