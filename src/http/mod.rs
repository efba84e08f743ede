//! What the program answers over HTTP. The route table reads as a list; `auth` says who may, `server` has the sockets.

mod answer;
mod auth;
mod server;

pub use server::{Error, Server};

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;
use warp::{Filter, Rejection};

use crate::event::{Delivery, StoreId};
use crate::feed::Pulse;
use crate::journal::{self, Page, Start};
use crate::listener::Hearing;
use crate::metrics::{self, HOT};
use crate::router::Refused;
use crate::session::{Close, Hub, Session, sse, ws};
use answer::Problem;
use auth::Query;
use server::Permit;

/// Events of one page of the history, at most and where nothing else is asked for.
const HISTORY_LIMIT: usize = 500;
const HISTORY_DEFAULT: usize = 100;

/// What the routes need.
pub struct Site {
    /// What sessions share.
    pub hub: Arc<Hub>,
    /// When the feed last read.
    pub pulse: Arc<Pulse>,
    /// Whether notifications reach us.
    pub hearing: watch::Receiver<Hearing>,
    /// Origins of pages that may connect, beside the own.
    pub allowed_origins: Vec<String>,
    /// Whether the node is going down.
    pub draining: watch::Receiver<bool>,
    /// Where sessions run.
    pub sessions: TaskTracker,
}

/// What a handler needs of a request.
struct Asked {
    headers: HeaderMap,
    query: Query,
}

/// Every route.
fn routes(site: Arc<Site>) -> impl Filter<Extract = (Response,), Error = std::convert::Infallible> + Clone + Send {
    let site = warp::any().map(move || Arc::clone(&site));
    let asked = warp::header::headers_cloned()
        .and(query())
        .map(|headers: HeaderMap, query: Query| Asked { headers, query });
    let upgrade = warp::ext::optional::<OnUpgrade>();
    let permit = warp::ext::optional::<Permit>();

    let healthz = warp::path!("healthz").and(warp::get()).map(|| answer::text("ok\n"));
    let readyz = warp::path!("readyz")
        .and(warp::get())
        .and(site.clone())
        .map(|site: Arc<Site>| ready(&site));
    let metrics = warp::path!("metrics")
        .and(warp::get())
        .map(|| answer::text(metrics::render()));
    let socket = warp::path!("api" / "partner" / "ws" / "partner" / String)
        .and(warp::get())
        .and(site.clone())
        .and(asked.clone())
        .and(upgrade)
        .and(permit)
        .then(web_socket);
    let may_i = warp::path!("api" / "partner" / "session" / String)
        .and(warp::get())
        .and(site.clone())
        .and(asked.clone())
        .then(session_check);
    let stream = warp::path!("api" / "partner" / "sse" / String)
        .and(warp::get())
        .and(site.clone())
        .and(asked.clone())
        .and(permit)
        .then(server_sent_events);
    let history = warp::path!("api" / "partner" / "stores" / String / "events")
        .and(warp::get())
        .and(site.clone())
        .and(asked.clone())
        .then(history);
    let preflight = warp::path!("api" / "partner" / ..)
        .and(warp::options())
        .and(site)
        .and(asked)
        .map(|site: Arc<Site>, asked: Asked| preflight(&site, &asked));

    healthz
        .or(readyz)
        .unify()
        .or(metrics)
        .unify()
        .or(socket)
        .unify()
        .or(may_i)
        .unify()
        .or(stream)
        .unify()
        .or(history)
        .unify()
        .or(preflight)
        .unify()
        .recover(|rejection: Rejection| async move { Ok(answer::rejected(&rejection)) })
        .unify()
}

fn query() -> impl Filter<Extract = (Query,), Error = std::convert::Infallible> + Clone {
    warp::query::raw()
        .or(warp::any().map(String::new))
        .unify()
        .map(|raw: String| Query::parse(&raw))
}

/// Whether this node should get sockets.
fn ready(site: &Site) -> Response {
    let hearing = *site.hearing.borrow();
    let ready = !*site.draining.borrow() && site.pulse.is_fresh();
    let by = if hearing == Hearing::Listening {
        "listening"
    } else {
        "polling"
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    answer::json(status, &serde_json::json!({"ready": ready, "feed": by}))
}

async fn web_socket(
    store: String,
    site: Arc<Site>,
    asked: Asked,
    upgrade: Option<OnUpgrade>,
    permit: Option<Permit>,
) -> Response {
    let opened = async {
        let accept = auth::websocket_accept(&asked.headers)?;
        let upgrade = upgrade.ok_or(Problem::NotAnUpgrade)?;
        let (store, grant) = auth::open_session(&site, &store, &asked).await?;
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
            let after = asked.query.get("after").map(str::to_owned);
            site.sessions.spawn(async move {
                ws::serve(upgrade, session, after).await;
                drop(permit);
            });
            answer::switching_protocols(&accept, auth::offers_our_protocol(&asked.headers))
        }
        Err(problem) => problem.into_response(),
    }
}

async fn server_sent_events(store: String, site: Arc<Site>, asked: Asked, permit: Option<Permit>) -> Response {
    let opened = async {
        let (store, grant) = auth::open_session(&site, &store, &asked).await?;
        Session::open(&site.hub, store, grant).map_err(|refused| match refused {
            Refused::TooMany => Problem::TooManySessions,
            Refused::NotReady | Refused::Draining => Problem::NotReady,
        })
    };
    match opened.await {
        Ok(session) => {
            let last = asked.headers.get("last-event-id").and_then(|value| value.to_str().ok());
            let after = last.or(asked.query.get("after")).map(str::to_owned);
            let (transport, body) = sse::channel();
            site.sessions.spawn(async move {
                sse::serve(transport, session, after).await;
                drop(permit);
            });
            answer::allow_origin(answer::event_stream(body), &site, &asked.headers)
        }
        Err(problem) => answer::allow_origin(problem.into_response(), &site, &asked.headers),
    }
}

/// Why would a socket be refused? Browsers cannot see it at the handshake.
async fn session_check(store: String, site: Arc<Site>, asked: Asked) -> Response {
    let response = match auth::open(&site, &store, &asked).await {
        Ok(_) if site.hub.router.cursor().is_none() || *site.draining.borrow() => Problem::NotReady.into_response(),
        Ok((store, _)) => answer::json(
            StatusCode::OK,
            &serde_json::json!({"ok": true, "store_id": store.as_str()}),
        ),
        Err(problem) => problem.into_response(),
    };
    answer::allow_origin(response, &site, &asked.headers)
}

/// The events of a store, and what a panel polls while it can have no socket.
async fn history(store: String, site: Arc<Site>, asked: Asked) -> Response {
    let page = async {
        let (store, _) = auth::open(&site, &store, &asked).await?;
        let limit = limit(&asked.query)?;
        read_history(&site, &store, asked.query.get("after"), limit).await
    };
    let response = page.await.unwrap_or_else(Problem::into_response);
    answer::allow_origin(response, &site, &asked.headers)
}

fn limit(query: &Query) -> Result<usize, Problem> {
    let Some(text) = query.get("limit") else {
        return Ok(HISTORY_DEFAULT);
    };
    text.parse()
        .ok()
        .filter(|limit| (1..=HISTORY_LIMIT).contains(limit))
        .ok_or(Problem::BadLimit(HISTORY_LIMIT))
}

async fn read_history(site: &Site, store: &StoreId, after: Option<&str>, limit: usize) -> Result<Response, Problem> {
    let start = after.map_or(Start::Newest, Start::After);
    let page = journal::read_page(&site.hub.pool, store, start, limit)
        .await
        .map_err(Problem::database)?;
    match page {
        Page::Resync { reason, fresh, .. } => Err(Problem::Resync(reason, fresh)),
        Page::Events {
            events,
            cursor,
            position,
        } => {
            HOT.polled.increment(events.len() as u64);
            let events: Vec<String> = events
                .iter()
                .map(|event| event.event.to_wire(&event.cursor, Delivery::Replayed))
                .collect();
            let more = position.is_none();
            let body = format!(
                r#"{{"events":[{}],"cursor":"{cursor}","more":{more}}}"#,
                events.join(",")
            );
            Ok(answer::json_text(StatusCode::OK, body))
        }
    }
}

fn preflight(site: &Site, asked: &Asked) -> Response {
    let mut response = answer::allow_origin(answer::text(""), site, &asked.headers);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
