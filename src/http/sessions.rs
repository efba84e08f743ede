//! Routes that open a session, and a route that tells a client whether it could open a session.

use std::sync::Arc;

use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::auth::{self, Access};
use super::error::ApiError;
use super::request::ApiRequest;
use super::{DatabaseContext, response};
use crate::domain::event::StoreId;
use crate::fanout::router::Refused;
use crate::fanout::session::{Close, Session, sse, ws};
use crate::infra::telemetry::LogLimit;
use crate::token::{Scope, TokenId};

/// Opens a session over a WebSocket.
pub async fn web_socket(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let accept = auth::websocket_accept(&call.headers)?;
    let session = open(&access).await;
    upgrade(&access.database, call, &accept, session)
}

/// Upgrades the connection, and starts a task that runs the session over it.
pub fn upgrade(
    database: &DatabaseContext,
    call: ApiRequest,
    accept: &str,
    session: Result<Box<Session>, ApiError>,
) -> Result<Response, ApiError> {
    let session = match session {
        Ok(session) => Ok(session),
        // A browser hides the error of a failed handshake from its page, but tells the page the close code. So this
        // error is sent as a close code after the handshake.
        Err(ApiError::TooManySessions) => Err(Close::TooManySessions),
        Err(problem) => return Err(problem),
    };
    let after = last_cursor(&call, false);
    let ours = auth::offers_our_protocol(&call.headers);
    let upgrade = call.upgrade.ok_or(ApiError::NotAnUpgrade)?;
    let slot = Arc::clone(&call.connection.slot);
    database.sessions.spawn(async move {
        ws::serve(upgrade, session, after).await;
        drop(slot);
    });
    Ok(response::switching_protocols(accept, ours))
}

/// Opens a session over Server-Sent Events. If the request names a panel, Vestnik records each event of the session as
/// sent to this panel.
pub async fn server_sent_events(access: Access, call: ApiRequest) -> Result<Response, ApiError> {
    let panel = call.query.panel()?;
    let mut session = open(&access).await?;
    // A client with the scope `read` is not a panel, so no event counts as sent to it.
    if let Some(panel) = panel.filter(|_| access.grant.scope >= Scope::Panel) {
        session.name_panel(access.grant.id, panel);
    }
    Ok(event_stream(&access.database, &call, session))
}

/// Starts a task that runs the session over Server-Sent Events. Returns the response whose body carries the events.
pub fn event_stream(database: &DatabaseContext, call: &ApiRequest, session: Box<Session>) -> Response {
    let after = last_cursor(call, true);
    let (transport, body) = sse::channel();
    let slot = Arc::clone(&call.connection.slot);
    database.sessions.spawn(async move {
        sse::serve(transport, session, after).await;
        drop(slot);
    });
    response::event_stream(body)
}

async fn open(access: &Access) -> Result<Box<Session>, ApiError> {
    let Access {
        database, store, grant, ..
    } = access;
    admit(database).await?;
    let session = Session::open(&database.hub, store.clone(), Arc::clone(grant));
    let session = session.map_err(|why| refused(why, Some(store), grant.id))?;
    // From here on, a revocation of the token ends this session. This check finds an earlier revocation.
    access.confirm().await?;
    Ok(session)
}

/// Waits for admission. Admission limits the rate of new sessions, because all clients reconnect at the same time after
/// a restart.
pub async fn admit(database: &DatabaseContext) -> Result<(), ApiError> {
    let admitted = database.hub.router.admission().admit().await;
    admitted.map_err(|_| ApiError::NotReady)
}

/// The error for a session that the router refused. `store` is the session's store; `None`: the session has several
/// stores.
pub fn refused(why: Refused, store: Option<&StoreId>, token: TokenId) -> ApiError {
    match why {
        Refused::TooMany => too_many(store, token),
        Refused::NotReady | Refused::Draining => ApiError::NotReady,
    }
}

/// Counts and logs a refused session: the store, or the token, already has its maximum number of sessions. Returns the
/// error for the client.
fn too_many(store: Option<&StoreId>, token: TokenId) -> ApiError {
    static LIMIT: LogLimit = LogLimit::new();
    metrics::counter!("vestnik_requests_refused_total", "limit" => "sessions").increment(1);
    if let Some(unlogged) = LIMIT.allows() {
        tracing::warn!(store = store.map(tracing::field::display), %token, unlogged,
            "there are as many sessions as may be (session.max_per_store, session.max_per_token)");
    }
    ApiError::TooManySessions
}

/// The cursor after which a session continues. `None`: the client has no cursor. Over Server-Sent Events, the header
/// `Last-Event-ID` has priority over the parameter `after`, because a browser puts the newest cursor into this header
/// when it reconnects.
pub fn last_cursor(call: &ApiRequest, is_sse: bool) -> Option<String> {
    let last = call.headers.get("last-event-id").filter(|_| is_sse);
    let last = last.and_then(|value| value.to_str().ok());
    last.or(call.query.get("after")).map(str::to_owned)
}

/// Checks whether the client could open a session, and returns the reason if it could not. A panel needs this route,
/// because a browser does not tell its page why a WebSocket handshake failed.
pub async fn check(access: Access, _: ApiRequest) -> Result<Response, ApiError> {
    let Access {
        database, store, grant, ..
    } = &access;
    if database.hub.router.cursor().is_none() || *database.draining.borrow() {
        return Err(ApiError::NotReady);
    }
    let body = json!({"ok": true, "store_id": store.as_str(), "scope": grant.scope.as_str()});
    Ok(response::json(StatusCode::OK, &body))
}
