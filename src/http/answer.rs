//! The shapes of answers. An error is always `{"error":{"code":..,"message":..}}`, says what to do, and shows nothing
//! internal.

use bytes::Bytes;
use futures::stream::poll_fn;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use warp::Rejection;
use warp::Reply as _;
use warp::http::header::{self, HeaderMap, HeaderValue};
use warp::http::{Response as HttpResponse, StatusCode};
use warp::reply::Response;

use super::{Site, auth};
use crate::cursor::Unusable;

/// Seconds after which one may ask again.
const RETRY_AFTER_S: &str = "5";

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A token in the URL, where every log would keep it.
    TokenInUrl,
    /// No token, or one that opens nothing.
    Unauthorized,
    /// A token whose time is over, or that was revoked.
    NoLonger(&'static str),
    /// The token opens other stores.
    OtherStore,
    /// A page of an origin that is not allowed.
    ForeignOrigin,
    /// The store's name cannot be read.
    BadStore,
    /// None of several databases has it.
    UnknownStore,
    /// `limit` is not a number in its range.
    BadLimit(usize),
    /// A WebSocket route was asked for something else.
    NotAnUpgrade,
    /// The upgrade is not one of version 13 with a key.
    BadUpgrade,
    /// The cursor cannot be honoured.
    Resync(Unusable, String),
    /// The store has as many sessions as it may.
    TooManySessions,
    /// The database is away, or the node has not begun or is going down.
    NotReady,
}

impl Problem {
    /// Logs what is internal and shows none of it.
    pub fn database(error: impl std::fmt::Display) -> Self {
        tracing::warn!(%error, "a request could not be answered");
        Self::NotReady
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::TokenInUrl | Self::BadStore | Self::BadLimit(_) | Self::BadUpgrade => StatusCode::BAD_REQUEST,
            Self::Resync(Unusable::Unreadable, _) => StatusCode::BAD_REQUEST,
            Self::Unauthorized | Self::NoLonger(_) => StatusCode::UNAUTHORIZED,
            Self::OtherStore | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::UnknownStore => StatusCode::NOT_FOUND,
            Self::Resync(..) => StatusCode::GONE,
            Self::NotAnUpgrade => StatusCode::UPGRADE_REQUIRED,
            Self::TooManySessions => StatusCode::TOO_MANY_REQUESTS,
            Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::TokenInUrl => "token_in_url",
            Self::Unauthorized => "unauthorized",
            Self::NoLonger(code) => code,
            Self::OtherStore => "forbidden_store",
            Self::ForeignOrigin => "forbidden_origin",
            Self::BadStore => "bad_store",
            Self::UnknownStore => "unknown_store",
            Self::BadLimit(_) => "bad_limit",
            Self::NotAnUpgrade => "not_an_upgrade",
            Self::BadUpgrade => "bad_upgrade",
            Self::Resync(Unusable::Unreadable, _) => "cursor_unreadable",
            Self::Resync(..) => "resync_required",
            Self::TooManySessions => "too_many_sessions",
            Self::NotReady => "not_ready",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::TokenInUrl => "a token does not belong in the URL: send it as `Authorization: Bearer`, or as the \
                                 WebSocket subprotocol `bearer.TOKEN`"
                .into(),
            Self::Unauthorized => "send a valid token as `Authorization: Bearer`".into(),
            Self::NoLonger("token_expired") => "the token has expired: ask for a new one".into(),
            Self::NoLonger(_) => "the token was revoked: ask for a new one".into(),
            Self::OtherStore => "this token does not open this store".into(),
            Self::ForeignOrigin => "pages of this origin may not connect: add it to http.allowed_origins".into(),
            Self::BadStore => "the store's id is percent-encoded UTF-8 of 1 to 200 bytes".into(),
            Self::UnknownStore => {
                "no database has this store yet: it is known by its first order, or by a token".into()
            }
            Self::BadLimit(most) => format!("limit is a whole number from 1 to {most}"),
            Self::NotAnUpgrade => "this address speaks WebSocket: connect with ws:// or wss://".into(),
            Self::BadUpgrade => {
                "the handshake needs Sec-WebSocket-Version 13 and a Sec-WebSocket-Key of 16 bytes".into()
            }
            Self::Resync(Unusable::Unreadable, _) => {
                "this is not a cursor; load your lists anew and go on with the one given here".into()
            }
            Self::Resync(..) => {
                "this cursor cannot be honoured; load your lists anew and go on with the one given here".into()
            }
            Self::TooManySessions => "this store has as many sessions as it may".into(),
            Self::NotReady => "not ready: come back in a few seconds".into(),
        }
    }

    /// As an answer.
    pub fn into_response(self) -> Response {
        let mut error = json!({"code": self.code(), "message": self.message()});
        if let Self::Resync(reason, fresh) = &self {
            error["reason"] = json!(reason.as_str());
            error["cursor"] = json!(fresh);
        }
        let mut response = json(self.status(), &json!({ "error": error }));
        match self {
            Self::Unauthorized | Self::NoLonger(_) => {
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::NotReady => {
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
            }
            Self::NotAnUpgrade => {
                response
                    .headers_mut()
                    .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            }
            _ => {}
        }
        response
    }
}

/// Plain text.
pub fn text(text: impl Into<String>) -> Response {
    let mut response = Response::new(text.into().into());
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// JSON.
pub fn json(status: StatusCode, value: &Value) -> Response {
    json_text(status, value.to_string())
}

/// JSON that is text already.
pub fn json_text(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Events are customers' data: no cache on the way may keep them.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A stream of Server-Sent Events.
pub fn event_stream(mut body: mpsc::Receiver<Bytes>) -> Response {
    let buffers = poll_fn(move |context| {
        body.poll_recv(context)
            .map(|buffer| buffer.map(Ok::<_, std::io::Error>))
    });
    let mut response = warp::reply::stream(buffers).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would gather the stream otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The answer that makes a connection a WebSocket.
pub fn switching_protocols(accept: &str, ours: bool) -> Response {
    let mut response = HttpResponse::new("".into());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if ours {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(auth::PROTOCOL));
    }
    response
}

/// Lets a page of an allowed origin read the answer.
pub fn allow_origin(mut response: Response, site: &Site, asked: &HeaderMap) -> Response {
    let Some(origin) = asked.get(header::ORIGIN).filter(|_| auth::origin_allowed(site, asked)) else {
        return response;
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST"),
    );
    let allowed = HeaderValue::from_static("authorization, content-type, last-event-id");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    response
}

impl warp::reject::Reject for Problem {}

/// The answer where no route fits, or the store's database is not found.
pub fn rejected(rejection: &Rejection) -> Response {
    if let Some(problem) = rejection.find::<Problem>() {
        return problem.clone().into_response();
    }
    let (status, code, message) = if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "not_found", "there is nothing here")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        (
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this address answers other methods",
        )
    } else {
        (StatusCode::BAD_REQUEST, "bad_request", "the request cannot be read")
    };
    json(status, &json!({"error": {"code": code, "message": message}}))
}
