//! The errors that clients of the HTTP interface get. An error always has the form
//! `{"error":{"code":..,"message":..}}`. The message tells the client what to do, and contains nothing internal.

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

/// The value of the header `Retry-After`, in seconds, while the node or its database is not ready.
const NOT_READY_RETRY_S: u64 = 5;
/// The value of the header `Retry-After`, in seconds, when a store or a token has its maximum number of sessions.
const SESSIONS_RETRY_S: u64 = 15;
/// The value of the header `Retry-After`, in seconds, while another request with the same `Idempotency-Key` is being
/// executed.
const KEY_RETRY_S: u64 = 1;
/// The value of the header `Retry-After`, in seconds, while the shop's application holds the order.
const LOCKED_RETRY_S: u64 = 1;

/// The reason why a request is refused or has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// The URL contains a token. A token is accepted only in a header, because servers and proxies log URLs.
    TokenInUrl,
    /// The request has no token, or the token is unknown.
    Unauthorized,
    /// The token has expired or was revoked. The value is the code of the error, such as `token_revoked`.
    NoLonger(&'static str),
    /// The token gives no access to this store.
    OtherStore,
    /// The token gives access to the store, but its scope is too low. The value is the scope that the route needs.
    OtherScope(Scope),
    /// The origin of the web page that sends the request is not allowed.
    ForeignOrigin,
    /// The store id in the path is malformed.
    BadStore,
    /// The node serves several databases, and none of them has the store.
    UnknownStore,
    /// The parameter `limit` is not a number from 1 to this value.
    BadLimit(usize),
    /// The route opens WebSockets, but the request does not ask for an upgrade.
    NotAnUpgrade,
    /// The request is not a WebSocket handshake of version 13 with a valid key.
    BadUpgrade,
    /// The client's cursor is unusable, so the client must reload its lists. The values are the reason, and a new
    /// cursor with which the client continues.
    Resync(Unusable, String),
    /// The store already has its maximum number of sessions, or its maximum number of sessions with this token.
    TooManySessions,
    /// Too many requests of the store are using the database, or are waiting for it.
    TooMuchAtOnce,
    /// The request exceeds a rate limit. For a valid token, this is the limit of the token. Otherwise it is the limit
    /// of the client's address. The value is the time until the next request is allowed.
    TooManyRequests(Duration),
    /// The node already has its maximum number of connections.
    TooManyConnections,
    /// The header `Host` names a host that is not allowed.
    OtherHost,
    /// No route has this path.
    NotFound,
    /// The route does not support the method of the request. The value lists the supported methods, in the form of the
    /// header `Allow`.
    OtherMethod(String),
    /// The body did not arrive in time.
    TooSlow,
    /// The body is larger than this number of bytes.
    BodyTooLarge(usize),
    /// The body is not valid. The value describes the expected JSON; the client gets this text.
    BadBody(&'static str),
    /// A query parameter is not valid. The values are the parameter's name, and a text for the client that describes
    /// the expected form.
    BadParameter(&'static str, &'static str),
    /// The request has a query parameter that the route does not know. The value lists the parameters that the route
    /// knows.
    UnknownParameter(&'static [&'static str]),
    /// A status in the request is not the name of a status that Vestnik knows.
    BadStatus,
    /// The store has no order or booking with this key.
    UnknownOrder,
    /// The store has no event with this id.
    UnknownEvent,
    /// The order already has the requested status, or its status is no longer the status that the client sent as
    /// `from`.
    StatusConflict {
        /// The current status of the order.
        status: &'static str,
        /// The name of the person who set the current status through Vestnik, for example in a panel. `None`: the
        /// status was set in another way.
        by: Option<String>,
    },
    /// The order cannot move from its current status to the requested status. The value is the current status.
    StatusNotReachable(&'static str),
    /// The shop's database or API refused the status change because of a rule of the shop.
    StatusRefused {
        /// The message that the shop sent for people; `None`: the shop sent no message.
        message: Option<String>,
        /// The reason why the shop's database refused the change, in words for people, such as `a value is longer than
        /// its column`. `None`: the reason is not known.
        rule: Option<&'static str>,
    },
    /// The operator must act: Vestnik's database role lacks a privilege, or the shop's API lacks a setting. The log
    /// names the privilege or setting.
    StatusNotPossible,
    /// The shop's own API failed, or did not respond in time.
    ShopUnavailable,
    /// The shop's application holds the lock on the order's row. The client should send the change again.
    OrderLocked,
    /// The mapping of the shop's table has no word for the requested status. The value is the requested status.
    StatusUnknownToShop(&'static str),
    /// Several sources have an order with this key. The value lists the sources. The client must choose one of them.
    AmbiguousOrder(Vec<String>),
    /// Another request with this `Idempotency-Key` is being executed.
    KeyUnderWay,
    /// The client has already used this `Idempotency-Key` for a different request.
    KeyOfOtherRequest,
    /// The database is not available, or the node is starting or shutting down. The client should retry.
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
    /// Turns an internal error into `NotReady`. The error is logged, and the client does not see it.
    pub fn database(error: impl std::fmt::Display) -> Self {
        static LIMIT: LogLimit = LogLimit::new();
        if let Some(unlogged) = LIMIT.allows() {
            tracing::warn!(%error, unlogged, "a request could not be answered");
        }
        Self::NotReady
    }

    /// Whether the client is unknown when this error occurs: its token is not verified yet, or is not valid. Requests
    /// with such errors count against the rate limit of the client's address.
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
            Self::UnknownParameter(_) => StatusCode::BAD_REQUEST,
            Self::NotFound | Self::UnknownStore | Self::UnknownOrder | Self::UnknownEvent => StatusCode::NOT_FOUND,
            Self::OtherMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::StatusConflict { .. } | Self::StatusNotReachable(_) | Self::AmbiguousOrder(_) => StatusCode::CONFLICT,
            Self::KeyUnderWay => StatusCode::CONFLICT,
            Self::KeyOfOtherRequest => StatusCode::UNPROCESSABLE_ENTITY,
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
            Self::NotReady | Self::TooManyConnections | Self::OrderLocked => StatusCode::SERVICE_UNAVAILABLE,
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
            Self::UnknownParameter(_) => "unknown_parameter",
            Self::BadStatus => "bad_status",
            Self::UnknownOrder => "unknown_order",
            Self::UnknownEvent => "unknown_event",
            Self::StatusConflict { .. } => "status_conflict",
            Self::StatusNotReachable(_) => "status_not_reachable",
            Self::StatusRefused { .. } => "status_refused",
            Self::StatusNotPossible => "status_not_possible",
            Self::StatusUnknownToShop(_) => "status_unknown_to_shop",
            Self::ShopUnavailable => "shop_unavailable",
            Self::OrderLocked => "order_locked",
            Self::AmbiguousOrder(_) => "ambiguous_order",
            Self::KeyUnderWay => "idempotency_key_in_use",
            Self::KeyOfOtherRequest => "idempotency_key_reused",
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
            Self::UnknownParameter([]) => "this address takes no query parameters".into(),
            Self::UnknownParameter(known) => {
                format!("this address takes the query parameters {}, and no others", known.join(", "))
            }
            Self::BadStatus => {
                "status is one of pending, preparing, ready, delivering, completed, rejected, cancelled; \
                                for lists also several of them with commas, active or all"
                    .into()
            }
            Self::UnknownOrder => "this store has no such order or booking".into(),
            Self::UnknownEvent => "this store has no such event".into(),
            Self::StatusConflict { status, by: None } => {
                format!("somebody was first: the order is {status} now")
            }
            Self::StatusConflict { status, by: Some(by) } => {
                format!("somebody was first: the order is {status} now, by {by}")
            }
            Self::StatusNotReachable(status) => {
                format!(
                    "an order that is {status} cannot move to the requested status: `next` in the list says where it can"
                )
            }
            Self::StatusNotPossible => "not possible now: the operator of this server must correct its rights or its mapping; the log names what".into(),
            Self::ShopUnavailable => {
                "the shop's system did not reply in time: nothing was changed here, try again".into()
            }
            Self::OrderLocked => {
                "the shop's application holds this order just now: nothing was changed, send the change again".into()
            }
            Self::StatusRefused { message, rule } => match message.as_deref().or(*rule) {
                Some(reason) => format!("the shop refuses this change: {reason}"),
                None => "the shop refuses this change".into(),
            },
            Self::StatusUnknownToShop(status) => format!("the shop has no word for {status}: its mapping names none"),
            Self::AmbiguousOrder(sources) => {
                format!(
                    "several sources have an order of this id: say which with `source`: {}",
                    sources.join(", ")
                )
            }
            Self::KeyUnderWay => {
                "the request with this Idempotency-Key is under way: send the same again in a few seconds".into()
            }
            Self::KeyOfOtherRequest => {
                "this Idempotency-Key belongs to another request: a new request has a new key".into()
            }
            Self::NotReady => "not ready: come back in a few seconds".into(),
        }
    }

    /// Builds the HTTP response for the client. Some errors have additional fields in the body, or additional headers.
    pub fn into_response(self) -> Response {
        let mut error = json!({"code": self.code(), "message": self.message()});
        if let Self::Resync(reason, fresh) = &self {
            error["reason"] = json!(reason.as_str());
            error["cursor"] = json!(fresh);
        }
        if let Self::StatusNotReachable(status) = &self {
            error["status"] = json!(status);
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
        if let Self::StatusRefused {
            message: Some(message), ..
        } = &self
        {
            error["shop_message"] = json!(message);
        }
        if let Self::AmbiguousOrder(sources) = &self {
            error["sources"] = json!(sources);
        }
        let mut response = response::json(self.status(), &json!({ "error": error }));
        let retry_after_s = match &self {
            Self::NotReady | Self::TooMuchAtOnce | Self::TooManyConnections => Some(NOT_READY_RETRY_S),
            Self::TooManySessions => Some(SESSIONS_RETRY_S),
            Self::KeyUnderWay => Some(KEY_RETRY_S),
            Self::OrderLocked => Some(LOCKED_RETRY_S),
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
            // This header tells the client which WebSocket version the server accepts. RFC 6455 requires the header.
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
