//! The protocol's messages beside the events, and the close codes.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::domain::event::EventId;
use crate::fanout::router::Selection;
use crate::token::Scope;

/// Why a session ends, as the client is told. Below 4500: reconnect with the cursor. From 4500 on: do not reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The client closed the connection.
    Normal,
    /// The client broke the WebSocket protocol.
    Protocol,
    /// The client sent a binary message.
    Binary,
    /// The client sent text that is not UTF-8.
    NotUtf8,
    /// The client sent a message over 4 KiB.
    TooBig,
    /// The node is shutting down, or the database has a new epoch.
    Draining,
    /// The token has expired.
    TokenExpired,
    /// The client is too slow: its queue was full, it did not read, or it answered no pings.
    Lagged,
    /// The client sent too many messages or other frames.
    TooManyMessages,
    /// The token was revoked.
    TokenRevoked,
    /// The store, or its token, has reached the session limit.
    TooManySessions,
    /// The socket is gone, so no close frame can be sent.
    Gone,
}

impl Close {
    /// The close code.
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
            Self::Binary => 1003,
            Self::Gone => 1006,
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
            Self::Draining => 1012,
            Self::TokenExpired => 4401,
            Self::Lagged => 4408,
            Self::TooManyMessages => 4429,
            Self::TokenRevoked => 4503,
            Self::TooManySessions => 4430,
        }
    }

    /// The close reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Normal => "goodbye",
            Self::Protocol => "protocol error",
            Self::Binary => "only text is understood",
            Self::Gone => "",
            Self::NotUtf8 => "not UTF-8",
            Self::TooBig => "a message is 4 KiB at most",
            Self::Draining => "come back with your cursor",
            Self::TokenExpired => "the token has expired",
            Self::Lagged => "too slow; come back with your cursor",
            Self::TooManyMessages => "too many messages; come back with your cursor",
            Self::TokenRevoked => "the token was revoked",
            Self::TooManySessions => "too many sessions; come back later",
        }
    }
}

/// A message from a client.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FromClient {
    /// A person has seen this event.
    Ack {
        /// The event's id, a string as in the event.
        id: String,
        /// The event's store. A stream of several stores needs it.
        store_id: Option<String>,
    },
    /// Asks for a pong.
    Ping,
    /// The client is a page that a person looks at.
    Panel {
        /// Whether its sound is on.
        rings: bool,
    },
    /// The event is on the screen.
    Rendered {
        /// The event's id.
        id: String,
        /// The event's store. A stream of several stores needs it.
        store_id: Option<String>,
    },
    /// The panel played the sound for the event.
    Sounded {
        /// The event's id.
        id: String,
        /// The event's store. A stream of several stores needs it.
        store_id: Option<String>,
    },
    /// Replaces the session's token.
    Token {
        /// The new token.
        token: SecretString,
    },
}

/// An error in a client's message, as the protocol names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// The message is not part of the protocol.
    BadMessage,
    /// The message does not name the event's store, and the stream is of several stores.
    NoStore,
    /// The store has no such event.
    UnknownEvent,
    /// The database is not available: send the acknowledgement again.
    AckNotStored,
    /// The token's scope does not allow the message. Carries the scope that does.
    OtherScope(Scope),
    /// The new token does not open this store, or opens nothing.
    TokenRefused,
    /// The database is not available, or the new token has reached its session limit: send the token again.
    TokenNotTaken,
}

impl Mistake {
    fn as_str(self) -> &'static str {
        match self {
            Self::BadMessage | Self::NoStore => "bad_message",
            Self::UnknownEvent => "unknown_event",
            Self::AckNotStored => "ack_not_stored",
            Self::OtherScope(_) => "forbidden_scope",
            Self::TokenRefused => "token_refused",
            Self::TokenNotTaken => "token_not_taken",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::BadMessage => {
                r#"say {"type":"ack","id":"91"}, {"type":"rendered","id":"91"}, {"type":"sounded","id":"91"}, {"type":"panel","rings":true}, {"type":"token","token":"vst_…"} or {"type":"ping"}"#
            }
            Self::NoStore => "this stream is of several stores: say the event's store_id, too",
            Self::UnknownEvent => "this store has no such event",
            Self::AckNotStored => "the acknowledgement could not be stored: say it again",
            Self::OtherScope(_) => "your token's scope does not allow this",
            Self::TokenRefused => "this token does not open this store: the session goes on with the one that it has",
            Self::TokenNotTaken => "the token could not be taken: say it again",
        }
    }
}

/// The first message. `jitter_ms`: after a disconnect, the client reconnects within a random part of this time.
pub fn connected(
    selection: &Selection,
    session: &str,
    cursor: &str,
    ping_interval_s: u64,
    jitter_ms: u64,
) -> Utf8Bytes {
    let mut message = json!({"type": "connected", "session": session, "cursor": cursor,
        "ping_interval": ping_interval_s, "reconnect_jitter_ms": jitter_ms});
    if let Selection::Store(store) = selection {
        message["store_id"] = json!(store.as_str());
    }
    message.to_string().into()
}

/// The replay is over.
pub fn live(cursor: &str) -> Utf8Bytes {
    format!(r#"{{"type":"live","cursor":"{cursor}"}}"#).into()
}

/// The client has received every event up to this cursor.
pub fn heartbeat(cursor: &str) -> Utf8Bytes {
    format!(r#"{{"type":"heartbeat","cursor":"{cursor}"}}"#).into()
}

/// This node cannot read the journal, so it may not know the newest events.
pub const STALE: &str = r#"{"type":"stale"}"#;

/// Reason for a resync in a running stream: a changed mapping of the shop's tables, or a source that was emptied.
pub const SOURCES_CHANGED: &str = "sources_changed";

/// The client must load its lists again: the cursor is unusable, or the lists are out of date. `reason`: a reason of
/// [`Unusable`], or [`SOURCES_CHANGED`].
///
/// [`Unusable`]: crate::domain::cursor::Unusable
pub fn resync_required(reason: &str, cursor: &str) -> Utf8Bytes {
    format!(r#"{{"type":"resync_required","reason":"{reason}","cursor":"{cursor}"}}"#).into()
}

/// The acknowledgement of this event is saved.
pub fn acknowledged(id: EventId) -> Utf8Bytes {
    format!(r#"{{"type":"acknowledged","id":"{id}"}}"#).into()
}

/// The response to a ping message.
pub fn pong() -> Utf8Bytes {
    Utf8Bytes::from_static(r#"{"type":"pong"}"#)
}

/// The response to a client's mistake. `about`: the event that the message named, if any.
pub fn error(mistake: Mistake, about: Option<EventId>) -> Utf8Bytes {
    let mut message = json!({"type": "error", "code": mistake.as_str(), "message": mistake.message()});
    if let Some(id) = about {
        message["id"] = json!(id.to_string());
    }
    if let Mistake::OtherScope(needed) = mistake {
        message["scope"] = json!(needed.as_str());
    }
    message.to_string().into()
}

/// The token expires after `left`. Without a new token the session ends then.
pub fn token_expires(left: Duration) -> Utf8Bytes {
    format!(r#"{{"type":"token_expires","expires_in":{}}}"#, left.as_secs()).into()
}

/// The session continues with the new token. `left`: time until it expires; `None`: it has no end.
pub fn token_accepted(left: Option<Duration>) -> Utf8Bytes {
    let mut message = json!({"type": "token_accepted"});
    if let Some(left) = left {
        message["expires_in"] = json!(left.as_secs());
    }
    message.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_what_the_protocol_knows_and_nothing_else() {
        let said = |text| serde_json::from_str::<FromClient>(text).ok();
        assert!(
            matches!(said(r#"{"type":"ack","id":"91"}"#), Some(FromClient::Ack { id, store_id: None }) if id == "91")
        );
        assert!(matches!(said(r#"{"type":"ping"}"#), Some(FromClient::Ping)));
        assert!(matches!(
            said(r#"{"type":"panel","rings":true}"#),
            Some(FromClient::Panel { rings: true })
        ));
        let token = said(r#"{"type":"token","token":"vst_x"}"#);
        assert!(
            token.is_some_and(|token| !format!("{token:?}").contains("vst_x")),
            "a token is never shown"
        );
        for wrong in [
            r#"{"type":"ack"}"#,
            r#"{"type":"panel"}"#,
            r#"{"type":"subscribe"}"#,
            "[]",
            "",
            "ping",
            r#"{"id":"91"}"#,
        ] {
            assert!(said(wrong).is_none(), "{wrong}");
        }
    }
}
