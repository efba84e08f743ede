//! All messages between server and client except events, and the close codes of sessions.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::domain::event::EventId;
use crate::fanout::router::Selection;
use crate::token::Scope;

/// The reason why a session ends. Each reason has a code in the WebSocket close frame. If the code is below 4500, the
/// client reconnects with its cursor. Otherwise the client does not reconnect.
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
    /// The client sent a message of more than 4 KiB.
    TooBig,
    /// The client must reconnect. The node is shutting down or cannot read the journal, the database was restored, or
    /// the replay failed.
    Draining,
    /// The session's token has expired.
    TokenExpired,
    /// The client is too slow: its queue was full, it did not read, or it did not respond to pings.
    Lagged,
    /// The client sent more WebSocket frames than the rate limit allows.
    TooManyMessages,
    /// The session's token was revoked.
    TokenRevoked,
    /// The store already has its maximum number of sessions, or its maximum number of sessions with this token.
    TooManySessions,
    /// The TCP connection has ended, so no close frame can be sent.
    Gone,
}

impl Close {
    /// The code of the WebSocket close frame.
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

    /// The reason in the close frame, for people.
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
    /// A person acknowledges this event.
    Ack {
        /// The id of the event, as a string.
        id: String,
        /// The event's store. It is required in a stream of several stores.
        store_id: Option<String>,
    },
    /// The client asks for a pong message.
    Ping,
    /// The client is a panel: a page that a person looks at.
    Panel {
        /// Whether the panel's sound is on, so that it can ring.
        rings: bool,
    },
    /// The panel shows the event on its screen.
    Rendered {
        /// The id of the event, as a string.
        id: String,
        /// The event's store. It is required in a stream of several stores.
        store_id: Option<String>,
    },
    /// The panel has played its sound for the event.
    Sounded {
        /// The id of the event, as a string.
        id: String,
        /// The event's store. It is required in a stream of several stores.
        store_id: Option<String>,
    },
    /// The client replaces the session's token by a new one.
    Token {
        /// The new token.
        token: SecretString,
    },
}

/// An error in the handling of a client's message. The client gets a response with the error's code and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// The message does not follow the protocol.
    BadMessage,
    /// The message does not name the event's store, but the stream has several stores.
    NoStore,
    /// The store has no event with this id.
    UnknownEvent,
    /// The database is not available. The client should send the acknowledgement again.
    AckNotSaved,
    /// The scope of the client's token does not allow this message. The value is the scope that the message needs.
    OtherScope(Scope),
    /// The new token is not valid, or gives no access to the session's stores.
    TokenRefused,
    /// The database is not available, or the store has the maximum number of sessions with the new token. The client
    /// should send the token again.
    TokenNotTaken,
}

impl Mistake {
    fn as_str(self) -> &'static str {
        match self {
            Self::BadMessage | Self::NoStore => "bad_message",
            Self::UnknownEvent => "unknown_event",
            Self::AckNotSaved => "ack_not_saved",
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
            Self::AckNotSaved => "the acknowledgement could not be saved: send it again",
            Self::OtherScope(_) => "your token's scope does not allow this",
            Self::TokenRefused => "this token does not open this store: the session goes on with the one that it has",
            Self::TokenNotTaken => "the token could not be taken: say it again",
        }
    }
}

/// The first message of a session. `jitter_ms` tells the client how to reconnect after a disconnect: it waits a random
/// time of at most this number of milliseconds.
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

/// The message at the end of the replay. All later events in the session are live events.
pub fn live(cursor: &str) -> Utf8Bytes {
    format!(r#"{{"type":"live","cursor":"{cursor}"}}"#).into()
}

/// The heartbeat message. It tells the client that it has received every event that this cursor covers.
pub fn heartbeat(cursor: &str) -> Utf8Bytes {
    format!(r#"{{"type":"heartbeat","cursor":"{cursor}"}}"#).into()
}

/// Tells the client that this node cannot read the journal now. There may be newer events that the client has not
/// received yet.
pub const STALE: &str = r#"{"type":"stale"}"#;

/// The reason in a `resync_required` message to a client with live events: a mapping was changed, or a source's table
/// was emptied.
pub const SOURCES_CHANGED: &str = "sources_changed";

/// Tells the client to reload its lists, because its cursor is unusable or the lists are out of date. `reason` is a
/// reason of [`Unusable`], or [`SOURCES_CHANGED`].
///
/// [`Unusable`]: crate::domain::cursor::Unusable
pub fn resync_required(reason: &str, cursor: &str) -> Utf8Bytes {
    format!(r#"{{"type":"resync_required","reason":"{reason}","cursor":"{cursor}"}}"#).into()
}

/// Confirms that the acknowledgement of this event is saved.
pub fn acknowledged(id: EventId) -> Utf8Bytes {
    format!(r#"{{"type":"acknowledged","id":"{id}"}}"#).into()
}

/// The response to a ping message.
pub fn pong() -> Utf8Bytes {
    Utf8Bytes::from_static(r#"{"type":"pong"}"#)
}

/// The response to a message with an error. `about` is the id of the event that the message named. `None`: the message
/// named no event.
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

/// Warns the client that its token expires after the time `left`. The session ends when the token expires, unless the
/// client sends a new token before.
pub fn token_expires(left: Duration) -> Utf8Bytes {
    format!(r#"{{"type":"token_expires","expires_in":{}}}"#, left.as_secs()).into()
}

/// Confirms that the session uses the new token from now on. `left` is the time until the new token expires; `None`:
/// the new token never expires.
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
            "the debug output must not show the token"
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
