//! The errors of requests. An error is always `{"error":{"code":..,"message":..}}`, says what to do, and shows nothing
//! internal.

use std::time::Duration;

use serde_json::json;
use warp::http::StatusCode;
use warp::http::header::{self, HeaderValue};
use warp::reply::Response;

use super::response;
use crate::domain::cursor::Unusable;
use crate::infra::db::Busy;
use crate::infra::telemetry::LogLimit;
use crate::token::Scope;

/// `Retry-After`, seconds: while the node or its database is not ready, or while the session limit is reached.
const NOT_READY_RETRY_S: u64 = 5;
const SESSIONS_RETRY_S: u64 = 15;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// The URL holds a token, which every log would keep.
    TokenInUrl,
    /// The request has no token, or an unknown one.
    Unauthorized,
    /// The token has expired or was revoked.
    NoLonger(&'static str),
    /// The token opens other stores only.
    OtherStore,
    /// The token opens the store, but its scope is too low. Carries the scope that is needed.
    OtherScope(Scope),
    /// The page's origin is not allowed.
    ForeignOrigin,
    /// The store id is malformed.
    BadStore,
    /// None of several databases has the store.
    UnknownStore,
    /// `limit` is not a number from 1 to this value.
    BadLimit(usize),
    /// A WebSocket route got a request without an upgrade.
    NotAnUpgrade,
    /// The upgrade is not a WebSocket version 13 handshake with a key.
    BadUpgrade,
    /// The cursor is unusable. Carries the reason and a new cursor.
    Resync(Unusable, String),
    /// The store, or its token, has reached the session limit.
    TooManySessions,
    /// The store has too many requests in progress.
    TooMuchAtOnce,
    /// The rate limit of the token or, without a token, of the address is reached. Carries the time until the next
    /// request.
    TooManyRequests(Duration),
    /// The node has reached its connection limit.
    TooManyConnections,
    /// The `Host` header names a host that is not allowed.
    OtherHost,
    /// No route has this path.
    NotFound,
    /// The route does not have this method. Carries the methods that it has, as `Allow` lists them.
    OtherMethod(String),
    /// The body did not arrive in time.
    TooSlow,
    /// The body is larger than this limit, bytes.
    BodyTooLarge(usize),
    /// The body is invalid. Carries the expected form.
    BadBody(&'static str),
    /// A query parameter is invalid. Carries its name and the expected form.
    BadParameter(&'static str, &'static str),
    /// The status is unknown, or cannot be requested.
    BadStatus,
    /// The store has no such order or booking.
    UnknownOrder,
    /// The store has no such event.
    UnknownEvent,
    /// Another person changed the order first, or no transition leads to the status.
    StatusConflict {
        /// The current status.
        status: &'static str,
        /// Who set this status by a button. `None`: nobody did.
        by: Option<String>,
    },
    /// The shop's table refused the change.
    StatusRefused {
        /// The shop's message for people. `None`: it gave none.
        message: Option<String>,
    },
    /// The engine's role lacks a privilege. The log names it.
    StatusNotPossible,
    /// The shop's API did not reply in time, or failed.
    ShopUnavailable,
    /// The mapping has no value for this status.
    StatusUnknownToShop(&'static str),
    /// Several sources have an order with this key. Carries the sources.
    AmbiguousOrder(Vec<String>),
    /// The database is not available, or the node is starting or shutting down.
    NotReady,
}

impl From<Busy> for ApiError {
    fn from(busy: Busy) -> Self {
        match busy {
            Busy::Store => Self::TooMuchAtOnce,
            Busy::Database => Self::database(busy),
        }
    }
}

impl ApiError {
    /// Logs an internal error and shows the client none of it.
    pub fn database(error: impl std::fmt::Display) -> Self {
        static LIMIT: LogLimit = LogLimit::new();
        if let Some(unlogged) = LIMIT.allows() {
            tracing::warn!(%error, unlogged, "a request could not be answered");
        }
        Self::NotReady
    }

    /// Whether the request has shown no valid token.
    pub fn is_of_guest(&self) -> bool {
        matches!(
            self,
            Self::TokenInUrl | Self::ForeignOrigin | Self::BadStore | Self::Unauthorized | Self::NoLonger(_)
        )
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::TokenInUrl | Self::BadStore | Self::BadLimit(_) | Self::BadUpgrade => StatusCode::BAD_REQUEST,
            Self::BadBody(_) | Self::BadParameter(..) | Self::BadStatus => StatusCode::BAD_REQUEST,
            Self::NotFound | Self::UnknownStore | Self::UnknownOrder | Self::UnknownEvent => StatusCode::NOT_FOUND,
            Self::OtherMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::StatusConflict { .. } | Self::AmbiguousOrder(_) => StatusCode::CONFLICT,
            Self::StatusRefused { .. } | Self::StatusUnknownToShop(_) | Self::StatusNotPossible => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::ShopUnavailable => StatusCode::GATEWAY_TIMEOUT,
            Self::Resync(Unusable::Unreadable, _) => StatusCode::BAD_REQUEST,
            Self::Unauthorized | Self::NoLonger(_) => StatusCode::UNAUTHORIZED,
            Self::OtherStore | Self::OtherScope(_) | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::Resync(..) => StatusCode::GONE,
            Self::NotAnUpgrade => StatusCode::UPGRADE_REQUIRED,
            Self::TooManySessions | Self::TooMuchAtOnce | Self::TooManyRequests(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::OtherHost => StatusCode::MISDIRECTED_REQUEST,
            Self::NotReady | Self::TooManyConnections => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::TokenInUrl => "token_in_url",
            Self::Unauthorized => "unauthorized",
            Self::NoLonger(code) => code,
            Self::OtherStore => "forbidden_store",
            Self::OtherScope(_) => "forbidden_scope",
            Self::ForeignOrigin => "forbidden_origin",
            Self::BadStore => "bad_store",
            Self::UnknownStore => "unknown_store",
            Self::BadLimit(_) => "bad_limit",
            Self::NotAnUpgrade => "not_an_upgrade",
            Self::BadUpgrade => "bad_upgrade",
            Self::Resync(Unusable::Unreadable, _) => "cursor_unreadable",
            Self::Resync(..) => "resync_required",
            Self::TooManySessions => "too_many_sessions",
            Self::TooMuchAtOnce => "too_much_at_once",
            Self::TooManyRequests(_) => "too_many_requests",
            Self::TooManyConnections => "too_many_connections",
            Self::OtherHost => "unknown_host",
            Self::NotFound => "not_found",
            Self::OtherMethod(_) => "method_not_allowed",
            Self::TooSlow => "too_slow",
            Self::BodyTooLarge(_) => "body_too_large",
            Self::BadBody(_) => "bad_body",
            Self::BadParameter(..) => "bad_parameter",
            Self::BadStatus => "bad_status",
            Self::UnknownOrder => "unknown_order",
            Self::UnknownEvent => "unknown_event",
            Self::StatusConflict { .. } => "status_conflict",
            Self::StatusRefused { .. } => "status_refused",
            Self::StatusNotPossible => "status_not_possible",
            Self::StatusUnknownToShop(_) => "status_unknown_to_shop",
            Self::ShopUnavailable => "shop_unavailable",
            Self::AmbiguousOrder(_) => "ambiguous_order",
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
            Self::OtherScope(needed) => format!("this takes a token of the scope {}", needed.as_str()),
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
            Self::TooMuchAtOnce => "this store asks for too much at once: ask for one list after the other".into(),
            Self::TooManySessions => {
                "this store, or this token of it, has as many sessions as it may: come back later".into()
            }
            Self::TooManyRequests(_) => {
                "too many requests with this token, or without a valid one from this address: come back later".into()
            }
            Self::TooManyConnections => {
                "this node has as many connections as it may: come back in a few seconds".into()
            }
            Self::OtherHost => "this is not a name of this server: http.hosts lists them".into(),
            Self::NotFound => "there is nothing here".into(),
            Self::OtherMethod(methods) => format!("this address answers {methods}"),
            Self::TooSlow => "the body did not come within 10 s".into(),
            Self::BodyTooLarge(most) => format!("the body is {most} bytes at most"),
            Self::BadBody(expected) => format!("the body is JSON: {expected}"),
            Self::BadParameter(name, expected) => format!("{name} is {expected}"),
            Self::BadStatus => {
                "status is one of pending, preparing, ready, delivering, completed, rejected, cancelled; \
                                for lists also several of them with commas, active or all"
                    .into()
            }
            Self::UnknownOrder => "this store has no such order or booking".into(),
            Self::UnknownEvent => "this store has no such event".into(),
            Self::StatusConflict { status, by: None } => {
                format!("the order is already {status}, or cannot move from {status} to the requested status")
            }
            Self::StatusConflict { status, by: Some(by) } => {
                format!("the order is already {status}, by {by}, or cannot move from {status} to the requested status")
            }
            Self::StatusNotPossible => "not possible now: whoever runs this server must give it a right".into(),
            Self::ShopUnavailable => {
                "the shop's system did not reply in time: nothing was changed here, try again".into()
            }
            Self::StatusRefused { message: None } => "the shop refuses this change".into(),
            Self::StatusRefused { message: Some(message) } => format!("the shop refuses this change: {message}"),
            Self::StatusUnknownToShop(status) => format!("the shop has no word for {status}: its mapping names none"),
            Self::AmbiguousOrder(sources) => {
                format!(
                    "several sources have an order of this id: say which with `source`: {}",
                    sources.join(", ")
                )
            }
            Self::NotReady => "not ready: come back in a few seconds".into(),
        }
    }

    /// The HTTP response of the error.
    pub fn into_response(self) -> Response {
        let mut error = json!({"code": self.code(), "message": self.message()});
        if let Self::Resync(reason, fresh) = &self {
            error["reason"] = json!(reason.as_str());
            error["cursor"] = json!(fresh);
        }
        if let Self::StatusConflict { status, by } = &self {
            error["status"] = json!(status);
            if let Some(by) = by {
                error["by"] = json!(by);
            }
        }
        if let Self::OtherScope(needed) = &self {
            error["scope"] = json!(needed.as_str());
        }
        if let Self::StatusRefused { message: Some(message) } = &self {
            error["shop_message"] = json!(message);
        }
        if let Self::AmbiguousOrder(sources) = &self {
            error["sources"] = json!(sources);
        }
        let mut response = response::json(self.status(), &json!({ "error": error }));
        let retry_after_s = match &self {
            Self::NotReady | Self::TooMuchAtOnce | Self::TooManyConnections => Some(NOT_READY_RETRY_S),
            Self::TooManySessions => Some(SESSIONS_RETRY_S),
            Self::TooManyRequests(wait) => Some(wait.as_secs() + 1),
            _ => None,
        };
        if let Some(seconds) = retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self {
            Self::Unauthorized | Self::NoLonger(_) => {
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::OtherMethod(methods) => {
                if let Ok(methods) = HeaderValue::from_str(&methods) {
                    response.headers_mut().insert(header::ALLOW, methods);
                }
            }
            Self::NotAnUpgrade => {
                response
                    .headers_mut()
                    .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            }
            // By RFC 6455, a client learns here which version it may try.
            Self::BadUpgrade => {
                response
                    .headers_mut()
                    .insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            _ => {}
        }
        response
    }
}
