//! The live streams, and why one would be refused.

use std::sync::Arc;

use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::asked::Call;
use super::problem::Problem;
use super::{Site, answer, auth};
use crate::router::Refused;
use crate::session::{Close, Session, sse, ws};

/// A WebSocket.
pub async fn web_socket(site: Arc<Site>, call: Call) -> Response {
    let opened = async {
        let accept = auth::websocket_accept(&call.headers)?;
        let upgrade = call.upgrade.clone().ok_or(Problem::NotAnUpgrade)?;
        let (store, grant) = auth::open_socket(&site, &call).await?;
        let session = match Session::open(&site.hub, store, grant) {
            Ok(session) => Ok(session),
            // Browsers do not see why a handshake was refused, but they see a close code.
            Err(Refused::TooMany) => Err(Close::TooManySessions),
            Err(Refused::NotReady | Refused::Draining) => return Err(Problem::NotReady),
        };
        Ok((accept, upgrade, session))
    };
    match opened.await {
        Ok((accept, upgrade, session)) => {
            let after = call.query.get("after").map(str::to_owned);
            let permit = call.permit;
            site.sessions.spawn(async move {
                ws::serve(upgrade, session, after).await;
                drop(permit);
            });
            answer::switching_protocols(&accept, auth::offers_our_protocol(&call.headers))
        }
        Err(problem) => problem.into_response(),
    }
}

/// The same stream as Server-Sent Events.
pub async fn server_sent_events(site: Arc<Site>, call: Call) -> Response {
    let opened = async {
        let (store, grant) = auth::open_stream(&site, &call).await?;
        Session::open(&site.hub, store, grant).map_err(|refused| match refused {
            Refused::TooMany => Problem::TooManySessions,
            Refused::NotReady | Refused::Draining => Problem::NotReady,
        })
    };
    let response = opened.await.map(|session| {
        let last = call.headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let after = last.or(call.query.get("after")).map(str::to_owned);
        let (transport, body) = sse::channel();
        let permit = call.permit.clone();
        site.sessions.spawn(async move {
            sse::serve(transport, session, after).await;
            drop(permit);
        });
        answer::event_stream(body)
    });
    answer::to_page(response, &site, &call.headers)
}

/// Why would a socket be refused? Browsers cannot see it at the handshake.
pub async fn check(site: Arc<Site>, call: Call) -> Response {
    let checked = async {
        let (store, _) = auth::open(&site, &call).await?;
        if site.hub.router.cursor().is_none() || *site.draining.borrow() {
            return Err(Problem::NotReady);
        }
        let body = json!({"ok": true, "store_id": store.as_str()});
        Ok(answer::json(StatusCode::OK, &body))
    };
    answer::to_page(checked.await, &site, &call.headers)
}
