//! A request whose head is parsed. The body is read later, with limits of time and size.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use hyper::upgrade::OnUpgrade;
use percent_encoding::percent_decode_str;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize as _, Deserializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;
use warp::http::HeaderMap;

use super::error::ApiError;
use super::server::Connection;
use crate::domain::event::EventId;
use crate::token::idempotency::RequestId;

/// Maximum time for a client to send the whole body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Maximum length of an order's key, in bytes. The trigger records keys of up to this length (`triggers/values.sql`).
const MAX_KEY_BYTES: usize = 1000;
/// Maximum length of a panel's name, in characters.
pub const MAX_PANEL_CHARACTERS: usize = 64;

/// The query parameters of a request, decoded.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the part of a URL after the question mark. `+` is a space, as forms and most HTTP clients encode it.
    pub fn parse(raw: &str) -> Self {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    /// The names and values of all parameters.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns an error if the request has a parameter whose name is not in `names`.
    pub fn allow_only(&self, names: &'static [&'static str]) -> Result<(), ApiError> {
        match self.pairs().all(|(key, _)| names.contains(&key)) {
            true => Ok(()),
            false => Err(ApiError::UnknownParameter(names)),
        }
    }

    /// The value of the first parameter with this name; `None`: the parameter is missing.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The parameter `limit`, a whole number from 1 to `most`. Returns `otherwise` if the parameter is missing.
    pub fn limit(&self, otherwise: usize, most: usize) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else {
            return Ok(otherwise);
        };
        text.parse()
            .ok()
            .filter(|limit| (1..=most).contains(limit))
            .ok_or(ApiError::BadLimit(most))
    }

    /// A parameter with a time in ISO 8601, such as `2026-11-24T19:00:00Z`. `None`: the parameter is missing. The `+`
    /// of an offset may be sent unencoded: decoding turns it into a space, and this method restores it.
    pub fn moment(&self, name: &'static str) -> Result<Option<OffsetDateTime>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let moment = OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).ok();
        // Only these years are accepted, because Postgres cannot store every year that this format allows.
        let moment = moment.filter(|moment| (1970..=9999).contains(&moment.year()));
        match moment {
            Some(moment) => Ok(Some(moment)),
            None => Err(ApiError::BadParameter(name, "a time like 2026-11-24T19:00:00Z")),
        }
    }

    /// The parameter `panel`, which is the panel's name. `None`: the parameter is missing.
    pub fn panel(&self) -> Result<Option<&str>, ApiError> {
        match self.get("panel") {
            Some(name) if is_name(name, MAX_PANEL_CHARACTERS) => Ok(Some(name)),
            Some(_) => Err(ApiError::BadParameter("panel", "a name of 1 to 64 characters")),
            None => Ok(None),
        }
    }

    /// A parameter with a text of 1 to 1000 bytes. Zero bytes are refused, because Postgres cannot store them. `None`:
    /// the parameter is missing.
    pub fn text(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        match self.get(name) {
            Some(text) if text.is_empty() || text.len() > MAX_KEY_BYTES || text.contains('\0') => {
                Err(ApiError::BadParameter(name, "text of 1 to 1000 bytes"))
            }
            found => Ok(found),
        }
    }
}

/// Whether the name is allowed for a panel or a person. Other people see the name, so it must not contain characters
/// that hide or reorder the text around it.
pub fn is_name(name: &str, max_characters: usize) -> bool {
    let turns_text_around = |letter| matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !name.trim().is_empty()
        && name.chars().count() <= max_characters
        && !name
            .chars()
            .any(|letter| letter.is_control() || turns_text_around(letter))
}

/// Parses a whole number in a JSON body. It also accepts a number such as `30.0`, because JSON Schema regards it as an
/// integer.
pub fn whole_number<'de, D: Deserializer<'de>, N: TryFrom<i64>>(value: D) -> Result<Option<N>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(value)? else {
        return Ok(None);
    };
    let fraction = || number.as_f64().filter(|number| number.fract() == 0.0);
    let whole = number.as_i64().or_else(|| fraction().map(|number| number as i64));
    let whole = whole.and_then(|whole| N::try_from(whole).ok());
    whole.map(Some).ok_or_else(|| D::Error::custom("not a whole number"))
}

/// A request to a route. The head is parsed, and the body is not read yet.
pub struct ApiRequest {
    /// The store id in the path, still percent-encoded. Empty: the path has no store id.
    pub store: String,
    /// The part of the path that identifies an order, a booking, an event or a file, still percent-encoded. Empty: the
    /// path has no such part.
    pub id: String,
    /// The headers of the request.
    pub headers: HeaderMap,
    /// The query parameters of the URL.
    pub query: Query,
    /// The body, which is not read yet.
    pub body: Body,
    /// The pending upgrade to a WebSocket. `None`: the client asks for no upgrade.
    pub upgrade: Option<OnUpgrade>,
    /// The connection on which the request arrived.
    pub connection: Arc<Connection>,
    /// The id under which Vestnik remembers a request with an `Idempotency-Key`. `None`: the request has no such key.
    pub request: Option<RequestId>,
}

impl ApiRequest {
    /// Decodes the key of the order or booking in the path.
    pub fn key(&self) -> Result<String, ApiError> {
        let key = percent_decode_str(&self.id).decode_utf8().ok();
        let key = key.filter(|key| key.len() <= MAX_KEY_BYTES && !key.contains('\0'));
        key.map(Into::into).ok_or(ApiError::UnknownOrder)
    }

    /// Parses the id of the event in the path.
    pub fn event(&self) -> Result<EventId, ApiError> {
        self.id.parse().map_err(|_| ApiError::UnknownEvent)
    }
}

/// A body that is not read yet. The stream is not `Sync`; the mutex makes the body `Sync`. No task ever waits for this
/// mutex.
pub struct Body(std::sync::Mutex<BoxStream<'static, Result<Bytes, warp::Error>>>);

impl Body {
    /// Wraps a body stream of warp.
    pub fn new(parts: impl Stream<Item = Result<impl bytes::Buf, warp::Error>> + Send + 'static) -> Self {
        let parts = parts.map_ok(|mut part| part.copy_to_bytes(part.remaining()));
        Self(std::sync::Mutex::new(parts.boxed()))
    }

    /// Creates a body from bytes that were read already.
    pub fn of(whole: Bytes) -> Self {
        Self(std::sync::Mutex::new(futures::stream::iter([Ok(whole)]).boxed()))
    }

    /// Reads the body as JSON, with at most `most` bytes. `expected` describes the expected JSON: the client gets this
    /// text with the error `bad_body`.
    pub async fn json<T: DeserializeOwned>(self, most: usize, expected: &'static str) -> Result<T, ApiError> {
        let whole = self.whole(most, expected).await?;
        serde_json::from_slice(&whole).map_err(|_| ApiError::BadBody(expected))
    }

    /// Reads the body, with at most `most` bytes. If the body cannot be read, the client gets the error `bad_body` with
    /// the text `expected`.
    pub async fn whole(self, most: usize, expected: &'static str) -> Result<Bytes, ApiError> {
        let mut parts = self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let read = async {
            let mut whole = BytesMut::new();
            while let Some(part) = parts.try_next().await.map_err(|_| ApiError::BadBody(expected))? {
                if whole.len() + part.len() > most {
                    return Err(ApiError::BodyTooLarge(most));
                }
                whole.extend_from_slice(&part);
            }
            Ok(whole.freeze())
        };
        timeout(BODY_DEADLINE, read).await.unwrap_or(Err(ApiError::TooSlow))
    }
}
